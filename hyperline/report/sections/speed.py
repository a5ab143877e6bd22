"""Speed and energy: what ``hyperline bench`` measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hyperline.report.documents import Bench, BenchRun
from hyperline.report.inputs import Inputs
from hyperline.report.words import milliseconds, significant


@dataclass(frozen=True)
class BenchRow:
    """One measurement, in words."""

    of: str
    lines_per_second: str
    p50: str
    p99: str
    p999: str
    most: str
    floor_ratio: str
    energy_line: str
    energy_pixel: str
    watts: str


@dataclass(frozen=True)
class Speed:
    """What the template shows."""

    rows: tuple[BenchRow, ...]
    has_energy: bool
    sensors: tuple[str, ...]


def make(inputs: Inputs) -> Speed | None:
    """Lay out the benches; None without any."""
    if not inputs.benches:
        return None
    rows = tuple(row for name, bench in inputs.benches for row in _rows(name, bench))
    energies = [run.energy for _, bench in inputs.benches for run in (bench, *bench.runs) if run.energy is not None]
    return Speed(rows, bool(energies), tuple(dict.fromkeys(one.source for one in energies)))


def _rows(name: str, bench: Bench) -> Iterator[BenchRow]:
    for run in bench.runs or (bench,):
        energy = run.energy
        drawn = "no power sensor" if energy is None else f"{significant(energy.watts)} W"
        if energy is not None and energy.idle_watts is not None:
            drawn += f" ({significant(energy.idle_watts)} W idle)"
        yield BenchRow(
            f"{name}: {_of(run)}",
            significant(run.lines_per_second),
            milliseconds(run.latency_ms.p50),
            milliseconds(run.latency_ms.p99),
            milliseconds(run.latency_ms.p999),
            milliseconds(run.latency_ms.max),
            significant(run.floor_ratio),
            _joules(energy.joules_per_line if energy else None),
            _joules(energy.joules_per_pixel if energy else None),
            drawn,
        )


def _of(run: BenchRun) -> str:
    threads = f"{run.threads} {'thread' if run.threads == 1 else 'threads'}"
    operators = "" if run.native_ops else ", function bodies"
    mode = f", {run.mode}" if run.mode else ""
    return f"{run.samples} samples × {run.bands} bands, {run.engine}, {run.precision}, {threads}{operators}{mode}"


def _joules(value: float | None) -> str:
    if value is None:
        return "–"
    for factor, unit in ((1.0, "J"), (1e3, "mJ"), (1e6, "µJ")):
        if abs(value) * factor >= 1:
            return f"{significant(value * factor)} {unit}"
    return f"{significant(value * 1e9)} nJ"
