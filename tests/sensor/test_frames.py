"""Files of dark and white lines, gains and bad elements become one correction, or one clear error."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.sensor import make_correction, trimmed_mean
from hyperline.sensor.correction import DARK_LINES
from hyperline.sensor.frames import line_noise

SAMPLES, BANDS = 6, 10


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Dark lines about 100 with a particle's hit, white lines about 1100, one bad element."""
    generator = np.random.default_rng(0)
    dark = generator.normal(100, 1, (20, SAMPLES, BANDS)).round().astype(np.uint16)
    dark[7, 2, 3] = 4095
    white = generator.normal(1100, 1, (20, SAMPLES, BANDS)).round().astype(np.uint16)
    bad = np.zeros((SAMPLES, BANDS), np.int16)
    bad[4, 5] = -3
    paths = {}
    for name, cube in {"dark": dark, "white": white, "bad": bad, "gain": np.full((SAMPLES, BANDS), 0.25)}.items():
        paths[name] = tmp_path / f"{name}.npy"
        np.save(paths[name], cube)
    return paths


def test_white_and_dark_make_reflectance(files: dict[str, Path]) -> None:
    correction, notes = make_correction(dark=files["dark"], white=files["white"], bad=files["bad"], panel=0.5)
    assert (correction.samples, correction.bands, correction.units) == (SAMPLES, BANDS, "reflectance")
    assert correction.dark is not None
    np.testing.assert_allclose(correction.dark, 100, atol=1)  # the hit is trimmed away
    np.testing.assert_allclose(correction.gain, 0.5 / 1000, rtol=5e-3)
    assert correction.bad is not None
    assert np.argwhere(correction.bad).tolist() == [[4, 5]]
    assert notes == ()
    assert correction.provenance["dark"]["file"] == "dark.npy"
    assert correction.provenance["dark"]["lines"] == 20
    assert correction.provenance["panel"] == 0.5


def test_a_gain_makes_radiance_and_dark_alone_counts(files: dict[str, Path]) -> None:
    correction, _ = make_correction(dark=files["dark"], gain=files["gain"])
    assert correction.units == "radiance"
    np.testing.assert_array_equal(correction.gain, np.float32(0.25))
    correction, _ = make_correction(dark=files["dark"])
    assert correction.units == "counts"
    assert correction.gain is None


def test_a_table_the_other_way_round_is_turned_with_a_note(files: dict[str, Path], tmp_path: Path) -> None:
    turned = tmp_path / "turned.npy"
    np.save(turned, np.arange(60.0).reshape(BANDS, SAMPLES) + 1)
    correction, notes = make_correction(dark=files["dark"], gain=turned)
    np.testing.assert_array_equal(correction.gain, np.arange(60, dtype=np.float32).reshape(BANDS, SAMPLES).T + 1)
    assert notes == (f"{turned} is 10 × 6; taken as (band, sample)",)


def test_white_that_is_not_above_dark_is_refused_with_the_count_or_taken_as_bad(
    files: dict[str, Path], tmp_path: Path
) -> None:
    white = np.load(files["white"])
    white[:, 1:4, 8] = 90
    np.save(files["white"], white)
    both = {"dark": files["dark"], "white": files["white"], "bad": files["bad"]}
    with pytest.raises(
        InputError, match=r"white is not above dark in 3 of 60 elements in use \(first: sample 1, band 8"
    ):
        make_correction(**both)
    correction, notes = make_correction(**both, unusable="bad")
    assert correction.bad is not None
    assert np.count_nonzero(correction.bad) == 4
    assert notes == ("3 of 60 elements in use have no usable dark or gain and are taken as bad",)
    make_correction(**both, bands=((0, 8),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": np.full((SAMPLES, BANDS), -1.0)}, r"gain is not above 0 in 59 of 60 elements in use"),
        ({"gain": np.full((SAMPLES, BANDS), np.nan)}, r"gain is not above 0 in 59 of 60 elements in use"),
        ({"dark": np.full((3, SAMPLES, BANDS), np.nan)}, r"dark is NaN or no number of counts in 59 of 60 elements"),
        ({"bad": np.ones((SAMPLES, BANDS))}, r"all 60 elements in use are marked bad"),
        ({"bad": np.ones((SAMPLES, 4))}, r"is for 6 samples × 4 bands, the sensor has 6 × 10"),
        ({"gain": np.array(["a", "b"])}, r"holds <U1 of 2; it must hold real numbers"),
        ({"gain": np.ones(5)}, r"holds float64 of 5; it must hold real numbers, \(line, sample, band\) or"),
    ],
)
def test_values_that_cannot_correct_a_line_are_refused(
    files: dict[str, Path], change: dict[str, np.ndarray], message: str
) -> None:
    for name, values in change.items():
        np.save(files[name], values)
    with pytest.raises(InputError, match=message):
        make_correction(dark=files["dark"], gain=files["gain"], bad=files["bad"])


def test_a_white_that_saturates_is_refused_with_the_count(files: dict[str, Path]) -> None:
    white = np.load(files["white"])
    white[:, 2, 6:8] = 4095
    white[0] = 4095  # one line alone may be hit
    np.save(files["white"], white)
    both = {"dark": files["dark"], "white": files["white"]}
    with pytest.raises(
        InputError, match=r"the white is saturated in 2 of 60 elements in use \(first: sample 2, band 6"
    ):
        make_correction(**both, saturation=4095)
    correction, _ = make_correction(**both, saturation=4095, unusable="bad")
    assert correction.bad is not None
    assert np.argwhere(correction.bad).tolist() == [[2, 6], [2, 7]]


def test_options_that_exclude_each_other_or_say_nothing_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give one of them"):
        make_correction(white=files["white"], gain=files["gain"])
    with pytest.raises(InputError, match="nothing says what the sensor is"):
        make_correction(saturation=4095)
    with pytest.raises(InputError, match="panel's reflectance is 0"):
        make_correction(white=files["white"], panel=0)
    with pytest.raises(InputError, match="no such file"):
        make_correction(dark=tmp_path / "nowhere.npy")
    np.savez(tmp_path / "white.npz", cube=np.load(files["white"]), scale=1e-4)
    with pytest.raises(InputError, match=r"states a scale of 0\.0001: its values are converted already"):
        make_correction(white=tmp_path / "white.npz")


@given(st.integers(1, 30), st.integers(0, 2**32))
def test_the_mean_leaves_the_extremes_of_each_element_out(count: int, seed: int) -> None:
    lines = np.random.default_rng(seed).normal(size=(count, 3, 4))
    trim = 0 if count < 3 else max(1, count // 10)
    expected = np.sort(lines, axis=0)[trim : count - trim].mean(axis=0)
    np.testing.assert_allclose(trimmed_mean(lines), expected, atol=1e-12)


def test_an_element_that_is_ever_nan_has_no_mean() -> None:
    lines = np.zeros((10, 2, 2))
    lines[3, 1, 0] = np.nan
    assert np.isnan(trimmed_mean(lines)).tolist() == [[False, False], [True, False]]


def test_the_noise_of_a_dark_is_known_where_it_has_lines_enough(tmp_path: Path) -> None:
    lines = np.random.default_rng(0).normal(100, 3, (DARK_LINES, 5, 4)).round()
    lines[:, 2, 1] = 77  # an element that says one count and no other still rounds
    for count, known in ((DARK_LINES, True), (DARK_LINES - 1, False)):
        np.save(tmp_path / "dark.npy", lines[:count])
        correction, _ = make_correction(dark=tmp_path / "dark.npy", dark_drift=12)
        assert correction.dark_drift == 12
        assert (correction.dark_noise is not None) == known
    expected = lines.std(axis=0, ddof=1)
    expected[2, 1] = 1 / np.sqrt(12)
    np.testing.assert_allclose(line_noise(lines), expected, rtol=1e-6)
    lines[3, 0, 0] = np.nan
    assert np.isnan(line_noise(lines)).sum() == 1
