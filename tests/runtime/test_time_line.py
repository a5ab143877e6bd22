"""The time line: every block in one point, in memory that does not grow."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.runtime.time_line import TimeLine

BLOCK = st.tuples(st.floats(0, 40), st.integers(0, 8), st.floats(0, 2), st.integers(0, 50), st.integers(0, 3))


@settings(max_examples=200, deadline=None)
@given(st.lists(BLOCK, max_size=60))
def test_whatever_the_gaps_nothing_is_lost_or_counted_twice(blocks) -> None:
    line, now, dropped = TimeLine(100.0), 100.0, 0
    for wait, lines, latency, waiting, lost in blocks:
        now, dropped = now + wait, dropped + lost
        line.add(now, lines, latency, waiting, dropped)
    points = line.points()
    assert 1 <= len(points) <= 600
    seconds = [point["second"] for point in points]
    lengths = np.diff([*seconds, now - 100.0])
    counted = sum(point["lines_per_second"] * length for point, length in zip(points, lengths, strict=True))
    assert counted == pytest.approx(sum(block[1] for block in blocks) if now > 100.0 else 0)
    assert len(points) == 1 or 0.49 < lengths[-1] / lengths[0] < 1.51
    assert sum(point["dropped"] for point in points) == dropped
    assert max(point["waiting"] for point in points) == max((block[3] for block in blocks), default=0)
    slowest = [point["latency_ms_max"] for point in points if point["latency_ms_max"] is not None]
    assert max(slowest, default=0) == pytest.approx(1e3 * max((block[2] for block in blocks if block[1]), default=0))
    json.dumps(points, allow_nan=False)


def test_a_long_strip_has_points_of_equal_length_and_keeps_its_worst_moment() -> None:
    line = TimeLine(0.0)
    for block in range(100_000):
        line.add(0.024 * (block + 1), 8, 3.0 if block == 31_415 else 0.005, 0, 0)
    points = line.points()
    assert 300 <= len(points) <= 600
    length = points[1]["second"]
    assert [point["second"] for point in points] == [length * index for index in range(len(points))]
    assert all(point["lines_per_second"] == pytest.approx(8 / 0.024, rel=0.01) for point in points)
    (worst,) = (point for point in points if point["latency_ms_max"] > 5)
    assert worst["second"] <= 0.024 * 31_416 < worst["second"] + length


def test_its_memory_does_not_grow() -> None:
    line = TimeLine(0.0)
    tracemalloc.start()
    for block in range(1000):
        line.add(0.024 * block, 8, 0.005, 0, 0)
    before = tracemalloc.get_traced_memory()[0]
    for block in range(1000, 50_000):
        line.add(0.024 * block, 8, 0.005, 0, 0)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 4096
