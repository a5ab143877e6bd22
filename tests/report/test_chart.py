"""Charts: what is drawn lies where the axes say."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from hyperline.report.chart import SIDE, Axis, area, bars, line, linear, logarithmic

_VALUES = st.floats(-1e9, 1e9, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-9)


@given(st.lists(_VALUES, min_size=1, max_size=20), st.booleans())
@example([2.0**-23], True)
def test_an_axis_holds_its_values_and_a_few_round_ticks(values: list[float], zero: bool) -> None:
    axis = linear(values, zero=zero)
    assert axis.low <= min(values) and axis.high >= max(values)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 8
    assert all(0 <= tick.at <= 100 for tick in ticks)
    assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)
    assert len({tick.text for tick in ticks}) == len(ticks)


@given(st.floats(1e-3, 1e4), st.floats(1, 1e6))
def test_a_logarithmic_axis_has_ticks_within_itself(low: float, times: float) -> None:
    ticks = logarithmic(low, low * times).ticks(5)
    assert 1 <= len(ticks) <= 8
    assert all(0 <= tick.at <= 100 for tick in ticks)


def test_a_line_breaks_where_a_value_is_missing() -> None:
    x, y = Axis(0, 4), Axis(0, 1)
    path = line(x, y, [(0, 0), (1, 1), (2, math.nan), (3, 0), (4, 1)])
    assert path.d == "M0 1000L250 0M750 1000L1000 0"
    across, low = np.arange(5.0), np.zeros(5)
    parted = area(x, y, across, low, np.array([1, 1, np.nan, 1, 1]))
    assert parted.d.count("M") == parted.d.count("Z") == 2


def test_bars_stand_on_the_axis_and_empty_ones_are_not_drawn() -> None:
    path = bars(Axis(0, 4), Axis(0, 10), [0, 1, 2, 4], [10, 0, 5])
    assert path.d == f"M0 {SIDE:g}V0H250V{SIDE:g}ZM500 {SIDE:g}V500H1000V{SIDE:g}Z"
