"""Points, paths and paces, and what is said of each."""

from dataclasses import replace

import pytest

from hyperline.errors import HyperlineError, InputError
from hyperline.power import Found, Sensor
from hyperline.runtime.bench import Plan, run_bench, sweep
from hyperline.runtime.bench.runs import run_whole_strip


class Bulb(Sensor):
    """Draws 3 W, and 10 while somebody classifies."""

    source, covers = "bulb", "a bulb"
    rails = total = ("whole",)

    def __init__(self):
        self.reads = 0

    def read(self):
        self.reads += 1
        return (3.0 if self.reads <= self.idle_reads else 10.0,)

    idle_reads = 3


def plan(*bundles, **more):
    few = {"samples": (8,), "threads": (1,), "seconds": 0.1, "warm_up": 0.0, "idle_seconds": 0.0, "rate": 100.0}
    return Plan(bundles, **{**few, **more})


def test_every_point_is_measured_by_every_path_at_every_pace(bundle, tiny):
    bench = run_bench(plan(bundle, tiny.bundle(8), samples=(8, 19)))
    assert [(run.samples, run.block_lines, run.path, run.rate) for run in bench.runs] == [
        (samples, block_lines, path, rate)
        for block_lines in (4, 8)
        for samples in (8, 19)
        for path in ("step", "strip")
        for rate in (None, 100.0)
    ]
    assert len(bench.floors) == 4
    for run in bench.runs:
        held = run.latency_ms
        assert 0 < held.p50 <= held.p90 <= held.p99 <= held.p999 <= held.max
        assert 0 <= run.blocks * run.block_lines - run.lines < run.block_lines and run.dropped == 0
        assert run.lines_per_second == pytest.approx(run.lines / run.seconds)
        assert (run.line_latency_ms is None) == (run.deadline_ms is None) == (run.rate is None)
        assert run.first_block_ms > 0 and (run.load_ms is None) == (run.path == "strip")
        assert run.memory.peak_bytes >= run.memory.resident_bytes > 2**20 and run.memory.device_bytes is None


def test_the_top_speaks_of_the_first_run(bundle):
    bench = run_bench(plan(bundle))
    first = bench.runs[0]
    assert bench.lines_per_second == first.lines_per_second and bench.latency_ms == first.latency_ms
    assert (bench.samples, bench.bands, bench.block_lines, bench.threads) == (8, 5, 4, 1)
    assert bench.floor is None and bench.floor_ratio is None  # this model does not say its arithmetic


def test_only_what_was_asked_for_is_run(bundle):
    bench = run_bench(plan(bundle, paths=("strip",), paces=("sensor",)))
    assert [(run.path, run.rate) for run in bench.runs] == [("strip", 100.0)]


def test_blocks_that_miss_their_deadline_are_counted(bundle):
    bench = run_bench(plan(bundle, paths=("step",), paces=("sensor",), rate=1e6, seconds=0.02))
    run = bench.runs[0]
    assert run.deadline_ms == pytest.approx(0.004) and run.missed > run.blocks / 2


def test_energy_is_what_a_run_takes_above_rest(bundle):
    bulb = Bulb()
    bulb.idle_reads = 10**9
    quiet = run_bench(plan(bundle, paths=("step",), paces=("flat-out",), idle_seconds=0.2), found=Found((bulb,), ()))
    assert quiet.energy.idle_watts == pytest.approx(3.0) == quiet.energy.watts
    assert quiet.energy.joules_per_line is None  # it took nothing that rest does not
    bulb.reads, bulb.idle_reads = 0, 0
    bench = run_bench(plan(bundle, paths=("step",), paces=("flat-out",), idle_seconds=0.2), found=Found((bulb,), ()))
    assert bench.power.sensors == ("bulb",) and bench.power.idle_seconds == 0.2
    assert bench.energy.joules_per_line_with_idle == pytest.approx(10.0 / bench.lines_per_second, rel=1e-3)


def test_energy_of_a_line_and_of_a_pixel_is_power_above_rest_by_lines_a_second(bundle):
    class Loud(Bulb):
        def read(self):  # the machine rests until the first block of the run
            import threading

            return (10.0 if threading.current_thread().name == "hyperline-power" and self.armed else 3.0,)

        armed = False

    loud = Loud()
    measured = []

    def say(text):
        loud.armed = "engine alone" in text
        measured.append(text)

    bench = run_bench(
        plan(bundle, paths=("step",), paces=("flat-out",), idle_seconds=0.1, seconds=0.3), say, Found((loud,), ("x",))
    )
    energy = bench.energy
    assert energy.idle_watts == pytest.approx(3.0) and 8.0 < energy.watts <= 10.0
    assert energy.joules_per_line == pytest.approx((energy.watts - 3.0) / bench.lines_per_second, rel=1e-6)
    assert energy.joules_per_pixel == pytest.approx(energy.joules_per_line / 8)
    assert 0 < energy.sampling_share < 0.05
    assert bench.power.problems == ("x",)


def test_a_gpus_sensor_has_no_part_in_what_the_cpu_runs(bundle):
    bulb = Bulb()
    bulb.on_gpu = True
    bench = run_bench(plan(bundle, paths=("step",), paces=("flat-out",), idle_seconds=0.1), found=Found((bulb,), ()))
    assert bench.energy is None and bench.power.sensors == ()


@pytest.mark.parametrize(
    ("change", "error"),
    [({"interrupted": True}, KeyboardInterrupt), ({"fallbacks": 1, "failures": ("it broke",)}, HyperlineError)],
)
def test_a_strip_that_was_broken_off_or_changed_its_engine_is_no_measurement(bundle, monkeypatch, change, error):
    def fly(*arguments, **named):
        flown = run_whole_strip(*arguments, **named)
        return replace(flown, summary=replace(flown.summary, **change))

    monkeypatch.setattr(sweep, "run_whole_strip", fly)
    with pytest.raises(error):
        run_bench(plan(bundle, paths=("strip",), paces=("flat-out",)))


def test_without_a_sensor_there_is_no_number(bundle):
    bench = run_bench(plan(bundle, paths=("step",), paces=("flat-out",), idle_seconds=0.1), found=Found((), ()))
    assert bench.energy is None and all(run.energy is None for run in bench.runs)


@pytest.mark.parametrize(
    "fault",
    [
        {"samples": (0,)},
        {"seconds": 0.0},
        {"seconds": float("nan")},
        {"rate": 0.0},
        {"warm_up": -1.0},
        {"engines": ()},
    ],
)
def test_nothing_to_measure_is_refused(bundle, fault):
    with pytest.raises(InputError):
        plan(bundle, **fault)


def test_a_precision_that_the_bundle_lacks_is_refused_before_anything_is_measured(bundle):
    said = []
    with pytest.raises(InputError, match="int8"):
        run_bench(plan(bundle, precisions=("fp32", "int8")), said.append)
    assert said == []
