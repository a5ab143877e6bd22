"""Fly a made-up strip at a sensor's full frame and rate, through everything that flies, and watch it.

    python bench/flight.py --seconds 1800 --rate 330 --precision int8 --out docs/results/flight.txt
    python bench/flight.py --guards-cost

Lines of 1024 samples × 224 bands come as uint16 from memory at their rate; ring, engine, maps, log and checkpoints are
those of `hyperline run`, on the disk of --folder. Every ten seconds a line says how many lines were taken and how much
memory the process has; at the end, what became of the lines, and the latency from a block's last line to its labels in
the map. Exit code 1 where a line is dropped, p99.9 of that latency is not below --latency-ms, or memory grows by 1 MiB
after the first minute. The network has random weights: speed does not depend on them. With --realtime, as root, it goes
before all other work on the machine, as the systemd unit has it.

--guards-cost flies as fast as the lines are taken, short strips with and without guards in turns, and prints their
throughputs, the ratio of each pair, and the processor time of a line; then a strip more with a clock around each guard.
Where other work wants the same cores, only the processor time says something, and with --threads 1 alone: more threads
spin while they wait for each other.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from strips import fly_strip, made_up_bundle, made_up_scene
from timing import processor

from hyperline.bundle import Bundle
from hyperline.runtime.engines.chain import EngineChain
from hyperline.runtime.flight import LoopOptions
from hyperline.runtime.guards import StateGuard
from hyperline.runtime.ring import Slot
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip

_SAMPLES, _BANDS, _CLASSES = 1024, 224, 16
_REPORT_SECONDS = 10.0
# What the loop does for its guards, between two blocks.
_GUARDS = (
    ("lines", Slot, "intact"),
    ("state before a step", StateGuard, "check"),
    ("shapes before it", EngineChain, "mend_shapes"),
    ("weights after it", EngineChain, "mend"),
    ("state after it, with the copy for the checkpoint", StateGuard, "keep"),
)


def main() -> None:
    """Fly and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=330)
    parser.add_argument("--precision", choices=["fp32", "int8"], default="int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--folder", type=Path, help="where the maps go  [default: a temporary one]")
    parser.add_argument("--out", type=Path, help="write the report there too")
    parser.add_argument("--guards-cost", action="store_true")
    parser.add_argument(
        "--realtime", action="store_true", help="before other work, as the systemd unit has it; as root"
    )
    options = parser.parse_args()
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))  # and so every thread that is yet to be made
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        bundle = made_up_bundle(folder, _BANDS, _CLASSES)
        if options.guards_cost:
            _guards_cost(bundle, options, folder)
        else:
            sys.exit(0 if _fly(bundle, options, folder) else 1)


def _fly(bundle: Bundle, options: argparse.Namespace, folder: Path) -> bool:
    """Fly; return whether all bars are met."""
    scene = made_up_scene(bundle, _SAMPLES)
    source = SceneSource(scene, options.rate, repeat=round(options.seconds * options.rate / scene.lines))
    report = options.out.open("w") if options.out else None
    taken = [0]
    ended = threading.Event()
    _say(
        report,
        f"{_SAMPLES} samples × {_BANDS} bands at {options.rate:g} lines/s, {options.precision}, "
        f"{options.threads} threads{', before other work' if options.realtime else ''}; {processor()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before",
    )
    grown = [0]
    watcher = threading.Thread(target=_watch, args=(taken, ended, report, grown), daemon=True)
    watcher.start()
    summary = run_strip(
        bundle,
        source,
        folder / "strip",
        precision=options.precision,
        threads=options.threads,
        on_progress=lambda lines: taken.__setitem__(0, lines),
    )
    ended.set()
    watcher.join()
    latency = summary.latency_ms
    assert latency is not None
    _say(
        report,
        f"received {summary.received}, classified {summary.classified}, dropped {summary.dropped}, rejected "
        f"{summary.rejected}, lost {summary.counters.lost}, unwritten {summary.unwritten}, blocks above their deadline "
        f"{summary.counters.missed}; most lines in the ring {summary.ring_lines}",
    )
    _say(
        report,
        f"from a block's last line to its labels in the map: p50 {latency.p50:.1f} ms, p99 {latency.p99:.1f} ms, "
        f"p99.9 {latency.p999:.1f} ms; {summary.seconds:.0f} s",
    )
    missed = [
        bar
        for bar, met in (
            ("no line is dropped", summary.dropped == summary.unwritten == summary.rejected == 0),
            (f"p99.9 below {options.latency_ms:g} ms", latency.p999 < options.latency_ms),
            ("memory grows by less than 1 MiB after the first minute", grown[0] < 2**20),
        )
        if not met
    ]
    _say(report, f"missed: {'; '.join(missed)}" if missed else "all bars met")
    return not missed


def _watch(taken: list[int], ended: threading.Event, report: TextIO | None, grown_by: list[int]) -> None:
    start, after_a_minute = time.monotonic(), None
    while not ended.wait(_REPORT_SECONDS):
        seconds, memory = time.monotonic() - start, _memory()
        if after_a_minute is None and seconds >= 60:
            after_a_minute = memory
        grown_by[0] = memory - (after_a_minute or memory)
        grown = f", {(memory - after_a_minute) / 1024:+.0f} KiB since the first minute" if after_a_minute else ""
        _say(report, f"{seconds:6.0f} s: {taken[0]} lines, {memory / 2**20:.1f} MiB{grown}")


def _memory() -> int:
    """Return the bytes of this process that are its own: mapped files and shared libraries come and go."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _guards_cost(bundle: Bundle, options: argparse.Namespace, folder: Path) -> None:
    source = SceneSource(made_up_scene(bundle, _SAMPLES), repeat=8)
    fly = partial(fly_strip, bundle, source, folder / "strip", precision=options.precision, threads=options.threads)
    rates: dict[bool, list[float]] = {True: [], False: []}
    spent: dict[bool, list[float]] = {True: [], False: []}
    end = time.monotonic() + options.seconds
    first = True
    while time.monotonic() < end:
        first = not first  # whoever flies second finds the machine warmer
        for guards in (first, not first):
            summary, seconds = fly(options=LoopOptions(guards=guards))
            rates[guards].append(summary.lines_per_second)
            spent[guards].append(seconds)
    with_guards, without = (float(np.median(rates[guards])) for guards in (True, False))
    ratios = 100 * (1 - np.array(rates[True]) / np.array(rates[False]))
    low, less, high = np.percentile(ratios, (25, 50, 75))
    busy, idle = (1e3 * float(np.median(spent[guards])) for guards in (True, False))
    print(
        f"{options.precision}, {options.threads} threads, {len(rates[True])} strips of {source.lines} lines each way, "
        f"in turns: {with_guards:.0f} lines/s with guards, {without:.0f} without; of a pair {less:.1f} % less (the "
        f"middle half: {low:.1f} to {high:.1f}); processor time {busy:.3f} ms a line with, {idle:.3f} without "
        f"({100 * (busy / idle - 1):.1f} % more); {processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    spent_in: dict[str, float] = dict.fromkeys((what for what, _, _ in _GUARDS), 0.0)
    with ExitStack() as clocks:
        for what, owner, name in _GUARDS:
            clocks.enter_context(_clocked(spent_in, what, owner, name))
        summary, _ = fly(options=LoopOptions(self_test_every=0))
    blocks = summary.received / summary.block_lines
    each = ", ".join(f"{what} {1e6 * seconds / blocks:.0f}" for what, seconds in spent_in.items())
    print(f"by the clock, µs a block of {1e6 * summary.seconds / blocks:.0f}: {each}")


@contextmanager
def _clocked(spent: dict[str, float], what: str, owner: Any, name: str) -> Iterator[None]:
    """Add up the time in a method."""
    method = getattr(owner, name)

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            spent[what] += time.perf_counter() - start

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, method)


def _say(report: TextIO | None, text: str) -> None:
    print(text, flush=True)
    if report is not None:
        print(text, file=report, flush=True)


if __name__ == "__main__":
    main()
