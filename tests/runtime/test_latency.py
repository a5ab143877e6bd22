"""The histogram of latencies, and the few bins in which it goes into a summary."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.runtime.latency import LatencyHistogram


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(1e-7, 9e3), st.integers(1, 100)), min_size=1, max_size=50))
def test_merged_bins_hold_every_line_between_their_edges(held) -> None:
    histogram = LatencyHistogram()
    for seconds, count in held:
        histogram.add(seconds, count)
    merged = histogram.merged()
    edges, lines = np.array(merged["edges_ms"]), merged["lines"]
    assert 1 <= len(lines) <= 60 and len(edges) == len(lines) + 1 and (np.diff(edges) > 0).all()
    assert lines[0] and lines[-1]
    ratios = edges[1:] / edges[:-1]
    assert ratios.max() == pytest.approx(ratios.min())
    seconds, counts = (np.array(column) for column in zip(*held, strict=True))
    milliseconds = 1e3 * seconds.clip(1e-6)
    for low, high, count in zip(edges, edges[1:], lines, strict=False):
        # what lies at an edge may go to either side, for rounding
        inside = counts[(milliseconds > low * (1 + 1e-9)) & (milliseconds < high * (1 - 1e-9))].sum()
        about = counts[(milliseconds >= low * (1 - 1e-9)) & (milliseconds <= high * (1 + 1e-9))].sum()
        assert inside <= count <= about
    assert sum(lines) == counts.sum()


def test_of_no_latency_there_are_no_bins() -> None:
    assert LatencyHistogram().merged() == {"edges_ms": [], "lines": []}
