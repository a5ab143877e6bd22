"""From time stamps to figures."""

import numpy as np
import pytest

from hyperline.runtime.bench.times import BlockTimes, jitter, percentiles


def times(blocks=100, lines=4, rate=None):
    arrived = np.arange(blocks) * 1.0
    own = None if rate is None else np.arange(blocks * lines) / rate
    return BlockTimes(arrived, arrived + 0.5, np.full(blocks, lines), own, -1.0)


def test_percentiles_are_of_all_values_in_milliseconds():
    held = percentiles(np.arange(1, 1002) * 1e-3)
    assert (held.p50, held.p90, held.p99, held.p999, held.max) == pytest.approx((501, 901, 991, 1000, 1001))


def test_jitter_is_how_far_a_block_is_from_the_one_before():
    held = jitter(np.array([0.010, 0.012, 0.010, 0.012]))
    assert held.mean == pytest.approx(2.0) and held.p99 == pytest.approx(2.0)
    assert jitter(np.array([0.01])) is None


def test_the_warm_up_is_left_out_of_blocks_lines_and_time():
    kept = times(rate=1.0).after(10.0)  # blocks done at 0.5, 1.5, ...; started at -1
    assert kept.done[0] == 9.5 and kept.started == 8.5
    assert len(kept.lines) == 91 and kept.line_latencies[0] == 9 * 4
    assert kept.lines.sum() / kept.seconds == pytest.approx(4.0)


def test_a_run_that_is_all_warm_up_is_kept_whole():
    assert len(times(blocks=3).after(60.0).done) == 3
