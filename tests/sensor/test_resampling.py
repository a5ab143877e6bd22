"""Bands of one sensor as those of another: what is as it stands, what is interpolated, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.sensor import resample_bands, select_bands

MODEL = 400 + 5.0 * np.arange(60)


def resampled(sensor, model=MODEL):
    return resample_bands("strip", np.asarray(sensor, float), "m", np.asarray(model, float))


@pytest.mark.parametrize("shift", [0, 0.49, -0.49])
def test_bands_within_a_tenth_of_their_spacing_are_taken_as_they_stand(shift):
    assert resampled(MODEL + shift) is None


@given(st.floats(-2.5, 2.5), st.floats(-3, 3), st.floats(0.55, 1.5))
def test_a_spectrum_that_is_a_line_stays_one(shift, slope, stretch):
    """Interpolation in wavelength is exact on it, within the sensor's range."""
    sensor = np.arange(395, 701, 5.0 * stretch) + shift
    found = resampled(sensor)
    if found is None:
        return
    spectrum = 100 + slope * (sensor - 400)
    inside = (sensor[0] < MODEL) & (sensor[-1] > MODEL)
    kept = np.abs(MODEL[:, None] - sensor).min(axis=1) <= 0.5  # taken as it stands, up to a tenth of a band beside
    np.testing.assert_allclose(
        (spectrum @ found.matrix)[inside & ~kept], (100 + slope * (MODEL - 400))[inside & ~kept], rtol=1e-5, atol=1e-3
    )
    np.testing.assert_allclose(found.matrix.sum(axis=0), 1, rtol=1e-6)
    assert found.shift_nm <= 5.0 * stretch / 2 + 1e-9


def test_a_shift_is_interpolated_between_the_two_nearest_bands():
    found = resampled(np.append(MODEL - 2, MODEL[-1] + 3))
    assert found.method == "linear"
    assert found.weights.shape == (61, 60)
    np.testing.assert_allclose(found.matrix[10:12, 10], [0.6, 0.4], rtol=1e-6)
    assert np.count_nonzero(found.matrix) == 120
    assert found.shift_nm == pytest.approx(2)
    assert found.as_dict() == {"method": "linear", "bands": 61, "used": 61, "model_bands": 60, "shift_nm": 2.0}
    assert "61 bands are resampled linearly to the 60 of the model" in str(found)


def test_bands_beyond_the_sensors_last_by_less_than_half_a_band_are_its_last():
    found = resampled(MODEL - 2)
    np.testing.assert_array_equal(np.flatnonzero(found.matrix[:, -1]), [59])


@pytest.mark.parametrize("sensor", [MODEL - 2.6, MODEL + 2.6, MODEL[:-1], MODEL[3:]])
def test_extrapolation_is_refused_with_the_numbers(sensor):
    with pytest.raises(InputError, match=r"strip reaches from .* nm; band (0|59) .* would have to be extrapolated"):
        resampled(sensor)


def test_a_sensor_that_is_too_coarse_is_refused():
    twice = np.arange(400, 701, 10.0)
    assert resampled(twice).method == "linear"
    with pytest.raises(InputError, match=r"no band between 400.00 and 411.00 nm, where the model m looks at 405.00 nm"):
        resampled(np.arange(400, 701, 11.0))


def test_a_gap_in_the_sensor_where_the_model_has_bands_is_refused():
    with pytest.raises(InputError, match=r"no band between 445.00 and 460.00 nm.*bands 5.00 nm apart"):
        resampled(np.delete(MODEL, [10, 11]))
    one = resampled(np.delete(MODEL, [10]))
    np.testing.assert_allclose(one.matrix[9:11, 10], [0.5, 0.5], rtol=1e-6)


def test_bands_that_a_model_leaves_out_are_selected_without_arithmetic():
    kept = np.r_[0:20, 30:60]
    found = resampled(MODEL, MODEL[kept])
    assert found.method == "selection"
    assert found.weights is None
    assert found.ranges == ((0, 20), (30, 60))
    np.testing.assert_array_equal(found.used, kept)
    assert str(found) == "50 of 60 bands are those of the model; the others are left out"
    same = select_bands(60, ((0, 20), (30, 60)))
    np.testing.assert_array_equal(same.matrix, found.matrix)


def test_a_sensor_with_many_more_bands_is_averaged_over_the_models_bands():
    fine = np.arange(395, 700.1, 1.0) + 0.5
    found = resampled(fine)
    assert found.method == "gaussian"
    weights = found.matrix[:, 20]
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(weights @ fine, MODEL[20], atol=0.01)
    assert np.abs(fine[weights > weights.max() / 2] - MODEL[20]).max() <= 2.5  # half its full width at half maximum
    noise = np.random.default_rng(0).normal(size=(500, len(fine)))
    assert (noise @ found.matrix).std() < 0.6


def test_bands_in_any_order_find_each_other():
    rng = np.random.default_rng(1)
    order, other = rng.permutation(60), rng.permutation(60)
    found = resampled(MODEL[order], MODEL[other])
    np.testing.assert_allclose(MODEL[order] @ found.matrix, MODEL[other], rtol=1e-6)


def test_a_wavelength_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="wavelength of band 3 is no number"):
        resampled(np.where(np.arange(60) == 3, np.nan, MODEL))
