"""A dark measured in flight is believed only where it can be one."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperline.sensor.correction import DARK_LINES
from hyperline.sensor.darks import Closing

SAMPLES, BANDS = 40, 30
STORED, NOISE, SATURATION = 100.0, 2.0, 4095.0


def closing(good: np.ndarray | None = None, drift: float = 20.0, **unknown: None) -> Closing:
    stored = np.full((SAMPLES, BANDS), STORED, np.float32)
    known = {"noise": np.full_like(stored, NOISE), "saturation": SATURATION} | unknown
    return Closing(stored, known["noise"], good, known["saturation"], drift)


def seen(level: float = STORED, noise: float = NOISE, count: int = DARK_LINES) -> np.ndarray:
    return np.random.default_rng(0).normal(level, noise, (count, SAMPLES, BANDS)).astype(np.float32)


def judge(closing: Closing, lines: np.ndarray) -> str | None:
    for line in lines:
        np.copyto(closing.line, line)
        closing.add()
    return closing.end()


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (seen(), None),
        (seen(STORED + 35), None),  # 17.5 times the noise
        (seen(STORED - 35), None),
        (seen(STORED + 50), "1200 of 1200 elements are over 20 times their noise away from the stored dark"),
        (seen(STORED - 50), "1200 of 1200 elements are over 20 times their noise away from the stored dark"),
        (seen(1500), "the shutter did not close: 1200 of 1200 elements are brighter .* over 10% of what is left"),
        (seen(noise=4), None),
        (seen(noise=20), "1200 of 1200 elements have over 3 times the noise of the stored dark"),
        (seen(count=DARK_LINES - 1), "it has 15 lines, and less than 16 bring in more noise"),
        (seen(1e11), "it holds values that are no counts"),
    ],
)
def test_a_dark_is_refused_with_what_is_wrong_with_it(lines: np.ndarray, fault: str | None) -> None:
    found = judge(closing(), lines)
    assert found is None if fault is None else re.search(fault, str(found)), found


def test_light_through_a_gap_of_the_shutter_is_seen_in_few_elements_and_stray_ones_are_not() -> None:
    leak, stray = seen(), seen()
    leak[:, :2, :15] += 600  # 2.5 % of the elements
    stray[:, 0, :10] += 600  # 0.8 %: as many are known to jump
    assert "the shutter did not close: 30 of 1200" in str(judge(closing(), leak))
    assert judge(closing(), stray) is None


def test_bad_elements_have_no_say() -> None:
    lines = seen()
    lines[:, :, :10] = 4000
    good = np.ones((SAMPLES, BANDS), bool)
    good[:, :10] = False
    assert judge(closing(good), lines) is None
    lines[:, 0, 10:] = 4000
    assert "20 of 800 elements" in str(judge(closing(good), lines))


def test_what_is_not_known_of_the_sensor_cannot_be_asked() -> None:
    assert "times their noise away" in str(judge(closing(saturation=None), seen(1500)))
    assert "did not close" in str(judge(closing(noise=None), seen(1500)))
    assert judge(closing(noise=None), seen(STORED + 50, noise=10)) is None


def test_the_drift_that_is_allowed_is_the_sensors() -> None:
    assert judge(closing(drift=30.0), seen(STORED + 50)) is None
    assert "over 5 times" in str(judge(closing(drift=5.0), seen(STORED + 35)))


@given(st.integers(DARK_LINES, 60), st.integers(0, 2**32))
def test_a_closing_is_the_mean_of_its_lines_whatever_came_before(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    one = closing()
    judge(one, seen(1500, noise=50, count=int(generator.integers(1, 40))))
    lines = generator.normal(generator.uniform(70, 130), 2, (count, SAMPLES, BANDS)).astype(np.float32)
    assert judge(one, lines) is None
    np.testing.assert_allclose(one.mean, lines.mean(axis=0), rtol=1e-5)


@given(st.floats(0.2, 20.0), st.integers(0, 2**32))
def test_noise_is_the_standard_deviation_over_the_lines(noise: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    lines = generator.normal(STORED, noise, (30, SAMPLES, BANDS)).astype(np.float32)
    deviation = np.median(lines.astype(float).std(axis=0, ddof=1))
    for known, refused in ((deviation / 4, True), (deviation / 2, False)):
        stored = np.full((SAMPLES, BANDS), STORED, np.float32)
        found = judge(Closing(stored, np.full_like(stored, known), None, None, 1e6), lines)
        assert (found is not None and "the noise of the stored dark" in found) == refused
