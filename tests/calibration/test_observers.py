"""Ranges: what each method keeps, and that the order and size of the blocks do not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.calibration.observers import METHODS, Observer


def observed(*arrays):
    observer = Observer()
    for array in arrays:
        observer.see(np.asarray(array, np.float32))
    return observer


def test_nothing_seen_has_no_range():
    assert [Observer().range(method) for method in METHODS] == [0.0] * 4
    assert [observed(np.zeros((3, 2))).range(method) for method in METHODS] == [0.0] * 4


def test_one_outlier_sets_the_range_of_minmax_alone():
    values = np.random.default_rng(0).normal(size=(20000, 8))
    values[0, 3] = 1000.0
    observer = observed(values)
    assert observer.range("minmax") == 1000.0
    for method in ("percentile", "entropy"):
        assert observer.range(method) < 40.0, method
    assert 40.0 < observer.range("mse") < 1000.0  # a square so large is worth some of everyone's steps
    assert observer.of_channel.argmax() == 3


def test_of_a_uniform_tensor_every_method_keeps_nearly_all():
    observer = observed(np.random.default_rng(0).uniform(-2, 2, (20000, 8)))
    for method in METHODS:
        assert 1.9 < observer.range(method) <= 2.0, method


def test_mse_is_the_least_error_of_rounding_and_saturation():
    values = np.random.default_rng(0).laplace(size=(50000, 4)).astype(np.float32)

    def error(largest):
        scale = largest / 127
        return np.mean((np.clip(np.rint(values / scale), -127, 127) * scale - values) ** 2)

    chosen = observed(values).range("mse")
    best = min(np.linspace(0.3, 1.0, 71) * np.abs(values).max(), key=error)
    assert error(chosen) <= 1.02 * error(best)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), cuts=st.lists(st.integers(1, 499), max_size=5), spread=st.floats(1e-6, 1e6))
def test_the_order_of_blocks_changes_little(seed, cuts, spread):
    generator = np.random.default_rng(seed)
    values = (generator.normal(size=(500, 4)) * spread).astype(np.float32)
    whole, parts = observed(values), observed(*np.split(values, sorted(set(cuts))))
    assert parts.largest == whole.largest == np.abs(values).max()
    assert parts.counts.sum() == whole.counts.sum() == values.size
    for method in ("minmax", "percentile", "mse"):
        assert parts.range(method) == pytest.approx(whole.range(method), rel=0.05)
    assert 0 < parts.range("entropy") <= parts.largest  # of so few values it follows the edges of the bins


def test_values_that_are_no_numbers_are_counted_and_set_no_range():
    observer = observed([[1.0, np.nan], [np.inf, -3.0]])
    assert (observer.not_finite, observer.largest) == (2, 3.0)
