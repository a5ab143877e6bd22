"""What the bench's own instruments cost, and whether its percentiles are right.

    python bench/overhead.py [--samples 1024] [--bands 224] [--threads 2] [--seconds 60] [--out FILE]

Two questions, at a sensor's full frame with random weights:

1. *Cost.* The same blocks are classified with instruments (a time stamp before and after every block, all of them
   kept) and without (one look at the clock for four blocks), in turns of four blocks whose order changes. The same for
   whole strips, with and without the hook that tells when a block is in the maps. The cost is the median ratio of two
   turns side by side, with a 95 % interval, of the time and of the processor time. Where other work wants the same
   cores the latter says more, and with --threads 1 alone: more threads spin while they wait for each other.
2. *Truth.* An independent recorder, a wrapper around engine, source and maps that knows nothing of the bench, keeps its
   own time stamps of the same runs; NumPy's percentiles over all of its values are compared with what the bench says.

Power sensors are not among the instruments here: what reading them costs is measured in every run
(`sampling_share`). Exit code 1 where a cost in processor time is above 1 % for certain (the whole interval), or a
percentile is more than 2 % off.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from step import full_frame_bundle
from timing import processor

from hyperline.bundle import Bundle
from hyperline.errors import HyperlineError
from hyperline.machine import cpus
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
from hyperline.runtime.writer import Result

_TURN_BLOCKS = 4
_STRIP_SECONDS = 1.0
_COST, _ERROR = 0.01, 0.02
_SENSOR_RATE = 330.0  # lines/s of a Specim FX10 at its full frame
_NAMES = ("p50", "p90", "p99", "p999", "max")


def main() -> None:
    """Measure both, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--threads", type=int, default=cpus())
    parser.add_argument(
        "--rate",
        type=float,
        help="lines/s of the runs at a pace; a sensor's 330, or half of what this machine does where that is less",
    )
    parser.add_argument("--seconds", type=float, default=60, help="of each of the four parts")
    parser.add_argument("--maps", type=Path, help="folder for the maps, on the disk that is to be written to")
    parser.add_argument("--out", type=Path, help="write the report there too")
    options = parser.parse_args()
    report = options.out.open("w") if options.out else None

    def say(text: str = "") -> None:
        print(text, flush=True)
        if report is not None:
            print(text, file=report, flush=True)

    faults = []
    say(
        f"{options.samples} samples × {options.bands} bands, {options.threads} threads; {processor()}, {cpus()} CPUs, "
        f"load {os.getloadavg()[0]:.1f} before\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle = full_frame_bundle(Path(folder) / "bench.hlb", options.bands, 16)
        engine = load_engine("ort-cpu", bundle.model(), bundle.card, options.threads)
        block = real_block(bundle, options.samples)
        engine.reset(block.valid.shape[1])
        say("| cost of the instruments (95 % interval) | time | processor time | turns |\n|---|---|---|---|")
        for name, measure in (
            ("engine alone", lambda: _step_cost(engine, block, options.seconds)),
            ("source to maps", lambda: _strip_cost(bundle, options)),
        ):
            spent = measure()
            say(f"| {name} | {' | '.join(_ratios(*spent))} | {len(spent[0])} |")
            ratios = _pairs(*spent, "processor")
            least = ratio_interval(ratios, np.ones_like(ratios))[0]
            faults += [f"{name}: instruments cost more than {_COST:.0%}"] if least - 1 > _COST else []
        options.rate = options.rate or _pace(spent[1])
        nothing = run_steps(_Nothing(), block, 1.0)  # type: ignore[arg-type]
        alone = 1e6 * nothing.seconds / len(nothing.done)
        say(f"\ninstruments around an engine that does nothing: {alone:.2f} µs a block")
        say(f"the hook of a strip, from within: {_hook_cost(bundle, options):.2f} µs a block")
        say("\n| percentile, ms | bench | independent recorder | apart |\n|---|---|---|---|")
        pace = f"{options.rate:g} lines/s"
        for name, said, seen in (
            ("engine alone, flat out, blocks", *_step_truth(engine, block, options, None)),
            (f"engine alone, {pace}, blocks", *_step_truth(engine, block, options, options.rate)),
            *_strip_truth(bundle, options, f"source to maps, {pace}"),
        ):
            for key in _NAMES:
                bench, own = getattr(said, key), getattr(seen, key)
                apart = bench / own - 1
                say(f"| {name}: {key} | {bench:.3f} | {own:.3f} | {100 * apart:+.2f} % |")
                faults += [f"{name}: {key} is {apart:+.1%} off"] if abs(apart) > _ERROR else []
    say(f"\nmissed: {'; '.join(faults)}" if faults else "\nall bars met")
    sys.exit(bool(faults))


def _pace(strips: list[_Spent]) -> float:
    """Give a rate that this machine holds from source to maps, so that no line is dropped: in round numbers."""
    fastest = 1 / float(np.median([one.wall for one in strips]))
    return min(_SENSOR_RATE, max(10.0, fastest / 2 // 10 * 10))


@dataclass(frozen=True)
class _Spent:
    """Seconds of a block, of strips of a line, by the clock, and of all processors together."""

    wall: float
    processor: float


def _ratios(instrumented: list[_Spent], bare: list[_Spent]) -> Iterator[str]:
    for kind in ("wall", "processor"):
        ratios = _pairs(instrumented, bare, kind)
        low, high = ratio_interval(ratios, np.ones_like(ratios))
        yield f"{100 * (float(np.median(ratios)) - 1):+.2f} % ({100 * (low - 1):+.2f} to {100 * (high - 1):+.2f})"


def _pairs(instrumented: list[_Spent], bare: list[_Spent], kind: str) -> NDArray[np.float64]:
    """Divide turn by turn: what else the machine does then falls on both sides of a ratio."""
    a, b = (np.array([getattr(one, kind) for one in turns]) for turns in (instrumented, bare))
    return a / b


def _turns(
    instrumented: Callable[[], _Spent], bare: Callable[[], _Spent], seconds: float
) -> tuple[list[_Spent], list[_Spent]]:
    """Run both in turns."""
    spent: tuple[list[_Spent], list[_Spent]] = ([], [])
    runs_ = [(0, instrumented), (1, bare)]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(spent[0]) < 4:
        for place, run in runs_:
            spent[place].append(run())
        runs_.reverse()
    return spent


def _step_cost(engine: Engine, block: Block, seconds: float) -> tuple[list[_Spent], list[_Spent]]:
    def bare() -> _Spent:
        wall, processor_ = time.perf_counter(), time.process_time()
        for _ in range(_TURN_BLOCKS):
            engine.step(block)
        return _Spent((time.perf_counter() - wall) / _TURN_BLOCKS, (time.process_time() - processor_) / _TURN_BLOCKS)

    bare()
    turn = (_TURN_BLOCKS - 0.5) * bare().wall

    def instrumented() -> _Spent:
        wall, processor_ = time.perf_counter(), time.process_time()
        blocks = len(run_steps(engine, block, turn).done)
        return _Spent((time.perf_counter() - wall) / blocks, (time.process_time() - processor_) / blocks)

    return _turns(instrumented, bare, seconds)


def _strip_cost(bundle: Bundle, options: argparse.Namespace) -> tuple[list[_Spent], list[_Spent]]:
    """Fly as fast as lines are taken, with the hook and without. The source looks at both clocks, whoever watches."""
    how = {"engine": "ort-cpu", "precision": "fp32", "threads": options.threads}
    spent: list[_Spent] = []

    class Source(MadeUpSource):
        def __iter__(self) -> Iterator[Line]:
            wall, processor_ = time.perf_counter(), time.process_time()
            yield from super().__iter__()
            assert self.end
            spent.append(_Spent((time.perf_counter() - wall) / self.end, (time.process_time() - processor_) / self.end))

    def instrumented() -> _Spent:
        with mock.patch.object(runs, "MadeUpSource", Source):
            run_whole_strip(bundle, options.samples, _STRIP_SECONDS, None, folder=options.maps, **how)
        return spent[-1]

    def bare() -> _Spent:
        with tempfile.TemporaryDirectory(dir=options.maps) as out:
            strip.run_strip(bundle, Source(bundle, options.samples, _STRIP_SECONDS), Path(out) / "strip", **how)
        return spent[-1]

    return _turns(instrumented, bare, options.seconds)


def _hook_cost(bundle: Bundle, options: argparse.Namespace) -> float:
    """Return the median microseconds that the hook itself takes of a block in flight, the clock around it included."""
    spent: list[float] = []

    def fly(*arguments: Any, on_written: Callable[[Result, float], None], **named: Any) -> Any:
        def timed(result: Result, written: float) -> None:
            start = time.perf_counter()
            on_written(result, written)
            spent.append(time.perf_counter() - start)

        return strip.run_strip(*arguments, on_written=timed, **named)

    with mock.patch.object(runs, "run_strip", fly):
        run_whole_strip(
            bundle,
            options.samples,
            10 * _STRIP_SECONDS,
            None,
            engine="ort-cpu",
            precision="fp32",
            threads=options.threads,
            folder=options.maps,
        )
    return 1e6 * float(np.median(spent))


class _Nothing:
    """An engine that answers at once: what is left of a step is what the bench adds."""

    def step(self, block: Block) -> None:
        return None


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


def _strip_truth(bundle: Bundle, options: argparse.Namespace, name: str) -> list[tuple[str, Percentiles, Percentiles]]:
    """Fly at the sensor's pace with a recorder of its own in source and sink.

    Raises:
        HyperlineError: lines were dropped, so that the recorder, which counts them, cannot tell which is which.
    """
    given: list[float] = []
    written: list[tuple[float, int]] = []

    class Source(MadeUpSource):
        def __iter__(self) -> Iterator[Line]:
            for line in super().__iter__():
                given.append(line.arrived)
                yield line

    class Sink(EnviSink):
        def write(self, *arguments: Any, **named: Any) -> Any:
            before = self.lines
            words = super().write(*arguments, **named)
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
            folder=options.maps,
        )
    if flown.summary.dropped:
        raise HyperlineError(
            f"{flown.summary.dropped} lines dropped: give a lower --rate, or a machine without other work"
        )
    ends = np.repeat([at for at, _ in written], [count for _, count in written])
    lines = ends - np.array(given)
    last = np.cumsum([count for _, count in written]) - 1
    assert flown.times.line_latencies is not None
    return [
        (f"{name}, blocks", percentiles(flown.times.latencies), percentiles(lines[last])),
        (f"{name}, lines", percentiles(flown.times.line_latencies), percentiles(lines)),
    ]


if __name__ == "__main__":
    main()
