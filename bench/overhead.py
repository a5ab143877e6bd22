"""What the bench's own instruments cost, and whether its percentiles are right.

    python bench/overhead.py [--samples 1024] [--bands 224] [--threads 2] [--seconds 60] [--out FILE]

Two questions, at a sensor's full frame with random weights:

1. *Cost.* The same blocks are classified with instruments (a time stamp before and after every block, power sensors
   read 20 times a second where there are any) and without (one look at the clock before and one after ten of them), in
   turns of half a second whose order changes. The same for whole strips, with and without the hook that tells when a
   block is in the maps. The cost is the ratio of their medians, with a 95 % interval.
2. *Truth.* An independent recorder, a wrapper around engine, source and maps that knows nothing of the bench, keeps its
   own time stamps of the same runs; NumPy's percentiles over all of its values are compared with what the bench says.

Exit code 1 where a cost is above 1 % for certain (the whole interval), or a percentile is more than 2 % off.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from step import full_frame_bundle
from timing import processor

from hyperline.bundle import Bundle
from hyperline.machine import cpus
from hyperline.power import PowerSampler, find_sensors
from hyperline.runtime import strip
from hyperline.runtime.bench import runs
from hyperline.runtime.bench.comparison import ratio_interval
from hyperline.runtime.bench.report import Percentiles
from hyperline.runtime.bench.runs import run_steps, run_whole_strip
from hyperline.runtime.bench.source import MadeUpSource
from hyperline.runtime.bench.steps import real_block
from hyperline.runtime.bench.times import percentiles
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import Engine, Outputs, load_engine
from hyperline.runtime.sinks import EnviSink
from hyperline.runtime.sources import Line

_TURN_SECONDS = 0.5
_STRIP_SECONDS = 3.0
_COST, _ERROR = 0.01, 0.02
_NAMES = ("p50", "p90", "p99", "p999", "max")


def main() -> None:
    """Measure both, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--threads", type=int, default=cpus())
    parser.add_argument("--rate", type=float, default=330)
    parser.add_argument("--seconds", type=float, default=60, help="of each of the four parts")
    parser.add_argument("--out", type=Path, help="write the report there too")
    options = parser.parse_args()
    lines = [
        f"{options.samples} samples × {options.bands} bands, {options.threads} threads; {processor()}, {cpus()} CPUs",
        "",
    ]
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = full_frame_bundle(Path(folder) / "bench.hlb", options.bands, 16)
        engine = load_engine("ort-cpu", bundle.model(), bundle.card, options.threads)
        block = real_block(bundle, options.samples)
        engine.reset(block.valid.shape[1])
        costs = {"engine alone": _step_cost(engine, block, options.seconds)}
        costs["source to maps"] = _strip_cost(bundle, options)
        lines += ["| cost of the instruments | ratio of medians | 95 % interval | turns |", "|---|---|---|---|"]
        for name, (ratio, low, high, turns) in costs.items():
            interval = f"{100 * (low - 1):+.2f} to {100 * (high - 1):+.2f} %"
            lines.append(f"| {name} | {100 * (ratio - 1):+.2f} % | {interval} | {turns} |")
            faults += [f"{name}: instruments cost more than {_COST:.0%}"] if low - 1 > _COST else []
        lines += ["", "| percentile, ms | bench | independent recorder | apart |", "|---|---|---|---|"]
        truths = {
            "engine alone, flat out, blocks": _step_truth(engine, block, options, None),
            f"engine alone, {options.rate:g} lines/s, blocks": _step_truth(engine, block, options, options.rate),
            **_strip_truth(bundle, options),
        }
        for name, (said, seen) in truths.items():
            for key in _NAMES:
                bench, own = getattr(said, key), getattr(seen, key)
                apart = bench / own - 1
                lines.append(f"| {name}: {key} | {bench:.3f} | {own:.3f} | {100 * apart:+.2f} % |")
                faults += [f"{name}: {key} is {apart:+.1%} off"] if abs(apart) > _ERROR else []
    lines += ["", f"missed: {'; '.join(faults)}" if faults else "all bars met"]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    sys.exit(bool(faults))


def _turns(
    with_instruments: Callable[[], float], without: Callable[[], float], seconds: float
) -> tuple[float, float, float, int]:
    """Run both in turns; each returns seconds a block."""
    times: tuple[list[float], list[float]] = ([], [])
    runs_ = [(0, with_instruments), (1, without)]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 4:
        for place, run in runs_:
            times[place].append(run())
        runs_.reverse()
    a, b = (np.array(one) for one in times)
    low, high = ratio_interval(a, b)
    return float(np.median(a) / np.median(b)), low, high, len(a)


def _step_cost(engine: Engine, block: Block, seconds: float) -> tuple[float, float, float, int]:
    sensors = find_sensors().sensors

    def instrumented() -> float:
        with PowerSampler(sensors):
            times = run_steps(engine, block, _TURN_SECONDS)
        return times.seconds / len(times.done)

    def bare() -> float:
        count = 0
        start = time.perf_counter()
        end = start + _TURN_SECONDS
        # The clock that ends the turn is looked at once in so many blocks: often enough, and nothing beside the work.
        while True:
            for _ in range(10):
                engine.step(block)
            count += 10
            now = time.perf_counter()
            if now >= end:
                return (now - start) / count

    run_steps(engine, block, 1.0)
    return _turns(instrumented, bare, seconds)


def _strip_cost(bundle: Bundle, options: argparse.Namespace) -> tuple[float, float, float, int]:
    """Fly as fast as lines are taken; a strip's own summary says how long it took, whoever watches."""
    sensors = find_sensors().sensors
    how = {"engine": "ort-cpu", "precision": "fp32", "threads": options.threads}

    def instrumented() -> float:
        with PowerSampler(sensors):
            return 1 / run_whole_strip(bundle, options.samples, _STRIP_SECONDS, None, **how).summary.lines_per_second

    def bare() -> float:
        source = MadeUpSource(bundle, options.samples, _STRIP_SECONDS)
        with tempfile.TemporaryDirectory() as out:
            return 1 / strip.run_strip(bundle, source, Path(out) / "strip", **how).lines_per_second

    return _turns(instrumented, bare, options.seconds)


class _Recorder:
    """An engine that notes when each step began and ended; all else is the engine's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.began: list[int] = []
        self.ended: list[int] = []

    def step(self, block: Block) -> Outputs:
        self.began.append(time.monotonic_ns())
        outputs = self._engine.step(block)
        self.ended.append(time.monotonic_ns())
        return outputs


def _step_truth(
    engine: Engine, block: Block, options: argparse.Namespace, rate: float | None
) -> tuple[Percentiles, Percentiles]:
    """Return what the bench says and what the recorder saw.

    At a pace, a block's latency runs from when it was due. The recorder knows the schedule from the rate and from when
    the first step began at the earliest: it takes the least lateness of all blocks as none.
    """
    recorder = _Recorder(engine)
    times = run_steps(recorder, block, options.seconds / 2, rate)  # type: ignore[arg-type]
    began, ended = np.array(recorder.began) * 1e-9, np.array(recorder.ended) * 1e-9
    if rate is not None:
        due = np.arange(len(began)) * block.count / rate
        began = due + np.min(began - due)
    return percentiles(times.latencies), percentiles(ended - began)


def _strip_truth(bundle: Bundle, options: argparse.Namespace) -> dict[str, tuple[Percentiles, Percentiles]]:
    """Fly at the sensor's pace with a recorder of its own in source and sink."""
    given: list[float] = []
    written: list[tuple[float, int]] = []

    class Source(MadeUpSource):
        def __iter__(self) -> Iterator[Line]:
            for line in super().__iter__():
                given.append(line.arrived)
                yield line

    class Sink(EnviSink):
        def write(self, labels: NDArray[np.uint8], confidence: NDArray[np.float32], *more: Any, **named: Any) -> Any:
            before = self.lines
            words = super().write(labels, confidence, *more, **named)
            written.append((time.perf_counter(), self.lines - before))
            return words

    with mock.patch.object(runs, "MadeUpSource", Source), mock.patch.object(strip, "EnviSink", Sink):
        flown = run_whole_strip(
            bundle,
            options.samples,
            options.seconds,
            options.rate,
            engine="ort-cpu",
            precision="fp32",
            threads=options.threads,
        )
    ends = np.repeat([at for at, _ in written], [count for _, count in written])
    lines = ends - np.array(given)
    last = np.cumsum([count for _, count in written]) - 1
    assert flown.times.line_latencies is not None
    name = f"source to maps, {options.rate:g} lines/s"
    return {
        f"{name}, blocks": (percentiles(flown.times.latencies), percentiles(lines[last])),
        f"{name}, lines": (percentiles(flown.times.line_latencies), percentiles(lines)),
    }


if __name__ == "__main__":
    main()
