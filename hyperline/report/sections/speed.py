"""Speed and energy: what ``hyperline bench`` measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hyperline.report.documents import Bench, BenchRun, Energy
from hyperline.report.inputs import Inputs
from hyperline.report.words import count, milliseconds, percent, significant

_MOST_OPERATORS = 12
_PATHS = {"step": "engine alone", "strip": "source to maps"}


@dataclass(frozen=True)
class RunRow:
    """One measurement, in words."""

    how: str
    lines_per_second: str
    p50: str
    p99: str
    p999: str
    most: str
    missed: str
    memory: str
    energy: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """A model, an engine and a width, and what was measured of it.

    Attributes:
        title: of the point.
        floor: how far it is from the arithmetic that it cannot do without, one sentence or none.
        rows: its measurements.
    """

    title: str
    floor: str
    rows: tuple[RunRow, ...]


@dataclass(frozen=True)
class BenchTable:
    """One bench.

    Attributes:
        name: of its file.
        points: of its sweep.
        power: which sensors, or that there was none, in one sentence; and why others could not be used.
        has_energy: whether any row has an energy.
        operators: where the time goes: name, nodes, milliseconds, share.
        profiled: of how many blocks.
    """

    name: str
    points: tuple[Point, ...]
    power: tuple[str, ...]
    has_energy: bool
    operators: tuple[tuple[str, str, str, str], ...]
    profiled: int


def make(inputs: Inputs) -> tuple[BenchTable, ...] | None:
    """Lay out the benches; None without any."""
    return tuple(_table(name, bench) for name, bench in inputs.benches) or None


def _table(name: str, bench: Bench) -> BenchTable:
    runs = bench.runs or (bench,)
    points = list(dict.fromkeys(run.point for run in runs))
    ratios = [floor.ratio if floor else None for floor in bench.floors] or [bench.floor_ratio]
    ratios += [None] * (len(points) - len(ratios))
    has_energy = any(run.energy for run in runs)
    laid = []
    for point, ratio in zip(points, ratios, strict=False):
        of_point = [run for run in runs if run.point == point]
        floor = f"A step takes {significant(ratio)} times its arithmetic at this machine's rates." if ratio else ""
        laid.append(Point(_title(of_point[0]), floor, tuple(_row(run, has_energy) for run in of_point)))
    operators = bench.profile.operators[:_MOST_OPERATORS] if bench.profile else ()
    return BenchTable(
        name,
        tuple(laid),
        tuple(_power(bench, [run.energy for run in runs if run.energy])),
        has_energy,
        tuple((one.name, count(one.nodes), significant(one.ms), percent(one.share)) for one in operators),
        bench.profile.blocks if bench.profile else 0,
    )


def _title(run: BenchRun) -> str:
    threads = f"{run.threads} {'thread' if run.threads == 1 else 'threads'}"
    operators = "" if run.native_ops else ", on function bodies"
    model = f"{run.model}: " if run.model else ""
    return (
        f"{model}{count(run.samples)} samples × {run.bands} bands in blocks of {run.block_lines} lines, {run.engine}, "
        f"{run.precision}, {threads}{operators}"
    )


def _row(run: BenchRun, has_energy: bool) -> RunRow:
    path = _PATHS.get(run.path or "step", run.path or "")
    pace = f"at {significant(run.rate)} lines/s" if run.rate else "flat out"
    held = run.memory.peak_bytes if run.memory else None
    latency = run.latency_ms
    return RunRow(
        f"{path}, {pace}",
        significant(run.lines_per_second),
        milliseconds(latency.p50),
        milliseconds(latency.p99),
        milliseconds(latency.p999),
        milliseconds(latency.max),
        count(run.missed) if run.missed is not None and run.rate else "–",
        f"{count(held / 2**20)} MiB" if held is not None else "–",
        tuple(_energy(run.energy)) if has_energy else (),
    )


def _energy(energy: Energy | None) -> Iterator[str]:
    if energy is None:
        yield from ("–",) * 4
        return
    yield joules(energy.joules_per_line)
    yield joules(energy.joules_per_pixel)
    yield joules(energy.joules_per_line_with_idle)
    yield f"{significant(energy.watts)} W, {significant(energy.idle_watts)} W idle"


def _power(bench: Bench, energies: list[Energy]) -> Iterator[str]:
    if energies:
        first = energies[0]
        covers = f", which covers {first.covers}" if first.covers else ""
        yield f"Power by {first.source}{covers}. A line and a pixel are counted above what the machine takes at rest."
    else:
        yield "No power sensor: energy was not measured."
    yield from bench.power.problems if bench.power else ()


def joules(value: float | None) -> str:
    """Write an energy in the unit that suits it."""
    if value is None:
        return "–"
    for factor, unit in ((1.0, "J"), (1e3, "mJ"), (1e6, "µJ")):
        if abs(value) * factor >= 1:
            return f"{significant(value * factor)} {unit}"
    return f"{significant(value * 1e9)} nJ"
