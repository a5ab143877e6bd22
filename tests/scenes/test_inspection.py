from __future__ import annotations

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.scenes.inspection import inspect_scene
from hyperline.scenes.scene import Scene


def scene(cube, **facts):
    return Scene("strip", cube, **facts)


@pytest.fixture
def cube():
    """Values (line 20, sample 12, band 6) below 1000, none of them at a level of its own."""
    return np.random.default_rng(1).integers(10, 1000, (20, 12, 6)).astype(np.uint16)


def test_a_plain_scene_has_no_fault(cube):
    found = inspect_scene(scene(cube))
    assert found.faults == {}
    assert found.kept == ((0, 6),)
    assert (found.dead_samples, found.dead_elements, found.dead_lines, found.repeated_lines) == ((), 0, (), ())
    np.testing.assert_allclose(found.mean, cube.mean(axis=(0, 1)))
    np.testing.assert_allclose(found.deviation, cube.std(axis=(0, 1)))
    assert found.minimum.tolist() == cube.min(axis=(0, 1)).tolist()
    assert found.maximum.tolist() == cube.max(axis=(0, 1)).tolist()
    assert (found.order, found.gaps, found.snr) == (None, (), None)


def test_an_empty_and_a_saturated_band_are_to_be_dropped(cube):
    cube[..., 2] = 7
    cube[5:, :6, 4] = 4095
    found = inspect_scene(scene(cube))
    assert found.faults == {2: "empty", 4: "saturated"}
    assert found.saturated[4] == pytest.approx(90 / 240)
    assert found.kept == ((0, 2), (3, 4), (5, 6))


def test_a_few_saturated_values_are_no_reason_to_drop_a_band():
    cube = np.random.default_rng(1).integers(10, 1000, (100, 40, 3)).astype(np.uint16)
    cube[0, :12, 1] = 4095
    found = inspect_scene(scene(cube))
    assert found.saturated[1] == pytest.approx(12 / 4000)
    assert found.faults == {}


def test_water_vapour_and_noise_are_to_be_dropped(cube):
    wavelengths = np.array([1300.0, 1349.0, 1350.0, 1450.0, 1500.0, 1900.0])
    noise = np.full(6, 10.0)
    noise[1] = 0.8 * cube[..., 1].std()
    found = inspect_scene(scene(cube, wavelengths_nm=wavelengths), noise)
    assert found.faults == {1: "noise", 2: "water vapour", 3: "water vapour", 5: "water vapour"}
    np.testing.assert_allclose(found.snr, cube.mean(axis=(0, 1)) / noise)


def test_dead_samples_and_elements_stand_still_along_the_track(cube):
    cube[:, 3] = cube[0, 3]
    cube[:, 5, 2] = 77
    found = inspect_scene(scene(cube))
    assert found.dead_samples == (3,)
    assert found.dead_elements == 1
    few = inspect_scene(scene(cube[:4]))
    assert few.dead_samples is None
    assert few.dead_elements is None


def test_dead_and_repeated_lines_are_found_across_runs(cube, monkeypatch):
    monkeypatch.setattr("hyperline.scenes.inspection._VALUES_AT_ONCE", 5 * 12 * 6)
    cube[5] = cube[4]
    cube[11] = 0
    found = inspect_scene(scene(cube))
    assert found.repeated_lines == (5,)
    assert found.dead_lines == (11,)


def test_pixels_without_a_measurement_are_left_out():
    cube = np.random.default_rng(1).normal(50, 5, (20, 12, 6)).astype(np.float32)
    clean = cube.copy()
    cube[2, 3, 1] = np.nan
    cube[4, 5] = -9999
    cube[9] = np.nan
    found = inspect_scene(scene(cube, nodata=-9999.0))
    assert found.invalid_pixels == 14
    assert found.dead_lines == (9,)
    assert found.minimum.min() > 0
    used = np.ones((20, 12), bool)
    used[2, 3] = used[4, 5] = False
    used[9] = False
    np.testing.assert_allclose(found.mean, clean[used].mean(axis=0), rtol=1e-5)
    with pytest.raises(InputError, match="none of its 240 pixels"):
        inspect_scene(scene(np.full_like(cube, np.nan)))


def test_order_and_gaps_of_the_wavelengths(cube):
    def of(*wavelengths):
        found = inspect_scene(scene(cube, wavelengths_nm=np.array(wavelengths, float)))
        return found.order, found.gaps

    assert of(400, 410, 420, 430, 480, 490) == ("ascending", ((3, 4, 50.0),))
    assert of(490, 480, 470, 460, 450, 440) == ("descending", ())
    assert of(400, 410, 405, 415, 425, 435) == ("mixed", ())
