from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperline.scenes import Scene, composite_bands


@pytest.mark.parametrize(
    ("wavelengths", "expected_nm"),
    [
        (np.arange(400.0, 1000, 10), (640, 550, 460)),
        (np.arange(400.0, 2500, 100), (600, 500, 400)),  # nearest, a tie goes to the first
        (np.arange(1000.0, 400, -10), (640, 550, 460)),
        (np.arange(500.0, 900, 10), (640, 550, 500)),  # blue at the edge of the range
        (np.arange(900.0, 1710, 10), (1570, 1300, 1030)),  # no visible light: long is red
    ],
)
def test_bands_are_nearest_to_the_colours_or_spread_where_there_is_no_visible_light(
    wavelengths: np.ndarray, expected_nm: tuple[float, float, float]
) -> None:
    chosen = wavelengths[list(composite_bands(wavelengths, len(wavelengths)))]
    np.testing.assert_allclose(chosen, expected_nm, atol=5.1 if wavelengths[0] == 900 else 0)


def test_a_scene_can_be_given_in_place_of_its_wavelengths() -> None:
    wavelengths = np.arange(400.0, 1000, 10)
    scene = Scene(name="a", cube=np.zeros((1, 1, 60)), wavelengths_nm=wavelengths)
    assert composite_bands(scene, 60) == composite_bands(wavelengths, 60) == (24, 15, 6)


def test_without_wavelengths_bands_are_spread_evenly() -> None:
    assert composite_bands(None, 120) == (100, 60, 20)


@given(bands=st.integers(2, 400), data=st.data())
def test_bands_exist_and_differ_whatever_the_sensor(bands: int, data: st.DataObject) -> None:
    centres = st.lists(st.floats(1, 20_000), min_size=bands, max_size=bands).map(np.array)
    chosen = composite_bands(data.draw(st.none() | centres), bands)
    assert all(0 <= band < bands for band in chosen)
    assert len(set(chosen)) == min(3, bands)
