"""Which of two is faster, and how sure that is."""

from dataclasses import replace

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.runtime.bench import Side, compare
from hyperline.runtime.bench import comparison as module
from hyperline.runtime.bench.comparison import ratio_interval


def side(bundle, **more):
    return Side(bundle, "ort-cpu", "fp32", **{"threads": 1, **more})


def test_a_model_is_as_fast_as_itself(bundle):
    comparison = compare(side(bundle), side(bundle), 8, 0.3)
    assert comparison.interval[0] <= comparison.ratio <= comparison.interval[1]
    assert comparison.ratio == pytest.approx(1.0, abs=0.25) and comparison.pairs >= 20
    assert comparison.a.bands == comparison.b.bands == 5


def test_twice_the_time_is_half_the_speed_and_the_interval_holds_it():
    generator = np.random.default_rng(3)
    weather = 1 + 0.3 * np.repeat(generator.random(50), 40)  # other work, for 40 pairs at a time
    a, b = (weather * one * (1 + 0.05 * generator.random(2000)) for one in (2.0, 1.0))
    low, high = ratio_interval(a, b)
    assert low < 2.0 < high and high - low < 0.2


def test_the_interval_of_equals_holds_one_as_often_as_it_says():
    generator = np.random.default_rng(0)
    holds = 0
    for _ in range(60):
        weather = np.repeat(1 + generator.random(10), 30)
        a, b = (weather * (1 + 0.2 * generator.random(300)) for _ in "ab")
        low, high = ratio_interval(a, b, resamples=300)
        holds += low <= 1 <= high
    assert holds >= 52  # of 60; 95 % are 57


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("lines of a block", {"block_lines": 8}),
        ("bands", {"bands": 6, "wavelengths_nm": None}),
        ("classes", {"class_names": ("one", "two")}),
        ("multiple that samples are padded to", {"sample_multiple": 16}),
    ],
)
def test_what_differs_in_shape_is_refused_with_both_numbers(bundle, what, change):
    other = replace(bundle, card=type(bundle.card)(**{**bundle.card.model_dump(), **change}))
    with pytest.raises(InputError, match=f"{what}: \\d+ and \\d+"):
        compare(side(bundle), side(other), 8, 0.1)


def test_too_few_pairs_for_an_interval_are_refused_with_a_time_that_would_do(bundle, monkeypatch):
    monkeypatch.setattr(module, "_LEAST_PAIRS", 10**6)
    with pytest.raises(InputError, match=r"--seconds \d+"):
        compare(side(bundle), side(bundle), 8, 0.01)
