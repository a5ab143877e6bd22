"""The timed runs against recorders of their own."""

import time
from unittest import mock

import numpy as np
import pytest

from hyperline.runtime import strip
from hyperline.runtime.bench import runs
from hyperline.runtime.bench.runs import run_steps, run_whole_strip
from hyperline.runtime.bench.source import MadeUpSource, made_up_cube
from hyperline.runtime.bench.times import percentiles
from hyperline.runtime.sinks import EnviSink


def assert_agree(said, seen, names=("p50", "p90", "p99", "p999", "max"), absolute_ms=0.05):
    for name in names:
        assert getattr(said, name) == pytest.approx(getattr(seen, name), rel=0.02, abs=absolute_ms), name


def test_every_block_is_timed_and_its_latency_is_what_an_independent_recorder_saw(paced_engine, block):
    engine = paced_engine(*np.linspace(0.002, 0.006, 37))
    times = run_steps(engine, block, 0.5)
    assert len(times.done) == len(engine.steps)
    assert_agree(percentiles(times.latencies), percentiles(np.array([end - start for start, end in engine.steps])))
    assert times.line_latencies is None


def test_flat_out_no_time_passes_between_blocks(paced_engine, block):
    engine = paced_engine(0.004)
    times = run_steps(engine, block, 0.4)
    starts, ends = np.array(engine.steps).T
    assert np.median(starts[1:] - ends[:-1]) < 5e-5
    assert times.started <= starts[0] and times.ended >= ends[-1] and times.ended - times.started >= 0.4


def test_at_a_pace_a_block_waits_for_its_last_line_and_a_line_for_the_rest_of_its_block(paced_engine, block):
    engine = paced_engine(0.002)
    times = run_steps(engine, block, 0.5, rate=400.0)  # a block every 10 ms
    assert len(times.done) == 50
    assert np.diff(times.arrived) == pytest.approx(0.010)
    latencies = np.median(times.line_latencies.reshape(-1, 4), axis=0)
    assert latencies - np.median(times.latencies) == pytest.approx(np.array([3, 2, 1, 0]) / 400, abs=1e-4)


def test_an_engine_that_is_too_slow_for_the_pace_falls_behind_and_the_run_still_ends(paced_engine, block):
    start = time.monotonic()
    times = run_steps(paced_engine(0.050), block, 0.3, rate=400.0)
    assert time.monotonic() - start < 1.5
    assert (np.diff(times.latencies) > 0.03).all()


def test_a_whole_strip_is_timed_as_an_independent_recorder_in_source_and_maps_times_it(bundle, tmp_path):
    given, written = [], []

    class Source(MadeUpSource):
        def __iter__(self):
            for line in super().__iter__():
                given.append(line.arrived)
                yield line

    class Sink(EnviSink):
        def write(self, *arguments, **named):
            before = self.lines
            words = super().write(*arguments, **named)
            written.append((time.perf_counter(), self.lines - before))
            return words

    with mock.patch.object(runs, "MadeUpSource", Source), mock.patch.object(strip, "EnviSink", Sink):
        flown = run_whole_strip(bundle, 16, 1.5, 80.0, engine="ort-cpu", precision="fp32", threads=1, folder=tmp_path)
    summary = flown.summary
    assert summary.received == summary.classified == 120 and len(flown.times.done) == 30
    ends = np.repeat([at for at, _ in written], [count for _, count in written])
    lines = ends - np.array(given)
    # Of a network as small as this a block takes a millisecond, of which putting it into the log is a part; the
    # slowest blocks are those that a busy machine held up there.
    usual = ("p50", "p90")
    assert_agree(percentiles(flown.times.line_latencies), percentiles(lines), usual, absolute_ms=0.3)
    assert_agree(percentiles(flown.times.latencies), percentiles(lines[3::4]), usual, absolute_ms=0.3)
    assert list(tmp_path.iterdir()) == []  # the maps are gone


def test_flat_out_the_source_gives_lines_until_its_time_is_up_and_none_is_dropped(bundle):
    flown = run_whole_strip(bundle, 8, 0.3, None, engine="ort-cpu", precision="fp32", threads=1)
    assert flown.summary.dropped == 0 and flown.summary.received > 100
    assert flown.times.lines.sum() == flown.summary.classified
    assert flown.times.line_latencies is None


def test_counts_come_as_a_sensor_gives_them_and_reflectances_as_they_are(bundle, tiny, tmp_path):
    assert made_up_cube(bundle, 8).dtype == np.float32  # small numbers: their scale is not known to be counts
    golden = {key: value.copy() for key, value in tiny.golden().items()}
    golden["lines"] = golden["lines"] * 1000.4
    loud = tiny.write_bundle(tmp_path / "loud.hlb", golden=golden)
    cube = made_up_cube(loud, 8)
    assert cube.dtype == np.uint16 and cube.shape[1:] == (8, tiny.bands) and cube.max() > 255
