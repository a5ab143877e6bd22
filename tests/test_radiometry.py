"""Radiometry: units of the training scene, and nothing non-finite past this point."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperline.radiometry import Radiometry
from hyperline.scenes import valid_pixels

DTYPES = ("u1", "<u2", ">u2", "<i4", "<f4", ">f4", "<f8")


def convert(values: np.ndarray, **options: float | None) -> tuple[np.ndarray, np.ndarray]:
    line = np.full(values.shape, np.nan, np.float32)
    valid = np.zeros(values.shape[0], bool)
    Radiometry(*values.shape, **options).convert(values, line, valid)
    return line, valid


@given(st.sampled_from(DTYPES), st.integers(0, 2**32), st.sampled_from([None, 0.0, 7.0, -9999.0, float("nan")]))
def test_validity_is_the_one_that_training_uses(dtype: str, seed: int, nodata: float | None) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 100, (9, 4)).astype(dtype)
    values[generator.random(9) < 0.3] = 7
    if values.dtype.kind == "f":
        values[generator.random((9, 4)) < 0.1] = generator.choice([np.nan, np.inf, -np.inf])
    line, valid = convert(values, nodata=nodata)
    np.testing.assert_array_equal(valid, valid_pixels(values, nodata))
    np.testing.assert_array_equal(line[valid], values[valid].astype(np.float32))
    assert not line[~valid].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_source_in_other_units_is_converted_to_those_of_the_training_scene(dtype: str) -> None:
    values = np.array([[100, 200], [0, 50]], dtype)  # percent
    line, valid = convert(values, scale=0.01, model_scale=0.0001)
    np.testing.assert_allclose(line, values.astype(float) * 100, rtol=1e-6)
    assert valid.all()


def test_equal_scales_written_differently_change_no_bit() -> None:
    values = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    line, _ = convert(values, scale=1 / 10000, model_scale=1.0e-4 * (1 + 1e-9))
    np.testing.assert_array_equal(line, values)


def test_no_data_is_looked_for_in_stored_values_not_in_converted_ones() -> None:
    _, valid = convert(np.array([[2, 2], [4, 4]], np.uint16), scale=2.0, nodata=4.0)
    assert valid.tolist() == [True, False]


@pytest.mark.filterwarnings("error")
def test_a_value_that_overflows_float32_makes_its_pixel_invalid_without_a_warning() -> None:
    line, valid = convert(np.array([[1e300, 1.0], [1.0, 2.0]]))
    assert valid.tolist() == [False, True]
    assert np.isfinite(line).all()
