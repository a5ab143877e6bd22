"""What ``hyperline bench`` shows to people."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import Any

from rich.console import Console
from rich.table import Table

from hyperline.runtime.bench.report import Bench, Comparison, Floor, Percentiles, Point, Profile, Run

_MIB = 2**20
# Wide enough for every column; a file has no width to wrap at.
_FILE_WIDTH = 160
_VARYING = ("model", "samples", "bands", "block_lines", "engine", "precision", "threads")
_PATHS = {"step": "engine alone", "strip": "source to maps"}
_ROWS = 12


def print_bench(bench: Bench) -> None:
    """Print one row for each run, and what stands around them."""
    console = _console()
    varying = [key for key in _VARYING if len({getattr(run, key) for run in bench.runs}) > 1]
    console.print(_what(bench, varying))
    console.print(_where(bench.environment))
    console.print()
    console.print(_table(bench, varying))
    console.print()
    console.print(
        "ms from a block's last line, and from each line's own arrival, to the labels; late: blocks that took longer"
    )
    console.print("than the next takes to arrive. docs/bench.md explains every figure, --json has all of them.")
    several = len(bench.floors) > 1
    console.print(("first row: " if several else "") + _floor(bench.floor))
    first = bench.runs[0]
    if first.load_ms and first.first_block_ms:
        console.print(f"engine loaded in {first.load_ms:.0f} ms, its first block took {first.first_block_ms:.1f} ms")
    for run in bench.runs:
        if run.path == "strip":
            console.print(
                f"memory with source and maps: {run.memory.resident_bytes / _MIB:.0f} MiB, at most "
                f"{run.memory.peak_bytes / _MIB:.0f}" + _device(run)
            )
            break
    for line in _power(bench):
        console.print(line)
    for line in (*_dropped(bench), *_held_back(bench)):
        console.print(line)
    if bench.profile:
        console.print()
        console.print(_profile(bench.profile))


def print_comparison(comparison: Comparison) -> None:
    """Print both sides and their ratio."""
    console = _console()
    console.print(_where(comparison.environment))
    for name, side in (("a", comparison.a), ("b", comparison.b)):
        console.print(f"{name}: {_what(side, ())}")
        console.print(f"   p50 {side.latency_ms.p50:.2f} ms a block, p99 {side.latency_ms.p99:.2f} ms")
    low, high = comparison.interval
    verdict = {
        "b": "b is faster",
        "a": "a is faster",
        None: "no difference that this many pairs can tell",
    }[comparison.faster]
    console.print(
        f"b is {comparison.ratio:.3f} times as fast as a (95 %: {low:.3f} to {high:.3f}, {comparison.pairs} pairs): "
        f"{verdict}"
    )


def _console() -> Console:
    width = None if sys.stdout.isatty() else _FILE_WIDTH
    return Console(highlight=False, markup=False, soft_wrap=True, width=width)


def _what(point: Point, varying: list[str] | tuple[()]) -> str:
    operators = "native operators" if point.native_ops else "function bodies: hyperline doctor says why"
    facts = {
        "samples": f"{point.samples} samples",
        "bands": f"{point.bands} bands",
        "block_lines": f"blocks of {point.block_lines} lines",
        "engine": point.engine,
        "precision": point.precision,
        "threads": f"{point.threads} threads" if point.threads > 1 else "1 thread",
    }
    held = ", ".join(text for key, text in facts.items() if key not in varying)
    name = "" if "model" in varying else f"{point.model}: "
    return f"{name}{held} ({operators})"


def _where(surroundings: dict[str, Any]) -> str:
    cpu, conditions = surroundings["cpu"], surroundings["conditions"]
    packages = surroundings["packages"]
    runtime = next((f"{name} {packages[name]}" for name in ("onnxruntime", "onnxruntime-gpu") if name in packages), "")
    facts = [surroundings["board"], cpu["model"], f"{cpu['usable']} CPUs usable"]
    facts += [conditions["power_mode"] and f"power mode {conditions['power_mode']}"]
    facts += [conditions["governor"] and f"governor {conditions['governor']}"]
    facts += [f"load {surroundings['load'][0]:.1f}", runtime]
    return ", ".join(fact for fact in facts if fact)


def _table(bench: Bench, varying: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    energy = any(run.energy for run in bench.runs)
    for name in varying:
        table.add_column(name.replace("_", " "), no_wrap=True)
    table.add_column("", no_wrap=True)
    right = ["lines/s", "block p50", "p99", "p99.9", "max", "line p50", "p99", "p99.9", "late"]
    right += ["mJ/line"] if energy else []
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    for run in bench.runs:
        pace = f"{run.rate:g} lines/s" if run.rate else "flat out"
        cells = [str(getattr(run, key)) for key in varying] + [f"{_PATHS[run.path]}, {pace}"]
        cells += [f"{run.lines_per_second:.0f}", *_cells(run.latency_ms, ("p50", "p99", "p999", "max"))]
        cells += _cells(run.line_latency_ms, ("p50", "p99", "p999"))
        cells += [str(run.missed) if run.rate else ""]
        if energy:
            joules = run.energy.joules_per_line if run.energy else None
            cells += [f"{1e3 * joules:.2f}" if joules is not None else "not above idle"]
        table.add_row(*cells)
    return table


def _cells(values: Percentiles | None, names: tuple[str, ...]) -> list[str]:
    return ["" if values is None else f"{getattr(values, name):.2f}" for name in names]


def _floor(floor: Floor | None) -> str:
    if floor is None:
        return "no arithmetic floor: that takes ort-cpu, the native library, and a bundle exported by this release"
    return (
        f"arithmetic floor {floor.ms:.2f} ms a block: {2e-9 * floor.multiply_adds:.2f} GFLOP at {floor.gflops:.0f} a "
        f"second, {1e-6 * floor.state_updates:.1f} M state updates at {floor.scan_gupdates:.2f} G; measured between "
        f"them, a step took {floor.ratio:.2f} times that"
    )


def _device(run: Run) -> str:
    held = run.memory.device_bytes
    return "" if held is None else f"; {held / _MIB:.0f} MiB on the GPU"


def _power(bench: Bench) -> Iterator[str]:
    energy = next((run.energy for run in bench.runs if run.energy), None)
    if energy is not None:
        yield (
            f"power of {energy.covers}, by {energy.source}: {energy.idle_watts:.2f} W at rest, over "
            f"{bench.power.idle_seconds:g} s; mJ a line is what a run took above that"
        )
    elif bench.power.asked:
        yield "no power sensor"
    for problem in bench.power.problems:
        yield f"power: {problem}"


def _dropped(bench: Bench) -> Iterator[str]:
    for run in bench.runs:
        if run.dropped:
            yield f"warning: {run.dropped} lines dropped at {run.rate:g} lines/s: {run.engine} does not keep up"


def _held_back(bench: Bench) -> Iterator[str]:
    for run in bench.runs:
        before, after = run.conditions["before"], run.conditions["after"]
        events = [
            f"{name}: {count - before['throttle_events'].get(name, 0)} times"
            for name, count in after["throttle_events"].items()
            if count > before["throttle_events"].get(name, 0)
        ]
        held = sorted({*before["throttled"], *after["throttled"], *events})
        if held:
            yield f"warning: the machine was held back in {_PATHS[run.path]}: {', '.join(held)}"


def _profile(profile: Profile) -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        title=f"{profile.ms:.2f} ms in {profile.nodes} nodes, {profile.blocks} blocks profiled",
        title_justify="left",
    )
    for name in ("operator", "layer"):
        table.add_column(name, no_wrap=True)
        for figure in ("nodes", "ms", "share"):
            table.add_column(figure, justify="right")
    for pair in islice(zip_longest(profile.operators, profile.layers), _ROWS):
        cells: list[str] = []
        for row in pair:
            cells += (
                ["", "", "", ""] if row is None else [row.name, str(row.nodes), f"{row.ms:.3f}", f"{row.share:.1%}"]
            )
        table.add_row(*cells)
    return table
