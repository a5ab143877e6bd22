"""Accuracy by precision: what FP16 and INT8 lose against float32, and what they save."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hyperline.report.documents import Calibration
from hyperline.report.inputs import Inputs
from hyperline.report.words import count, percent, plain, significant


@dataclass(frozen=True)
class PrecisionRow:
    """One model of the bundle, or one evaluation."""

    name: str
    oa: str
    aa: str
    kappa: str
    pixels: str
    size: str
    speed: str


@dataclass(frozen=True)
class ClassChange:
    """One class whose accuracy changed."""

    name: str
    before: str
    after: str
    change: str


@dataclass(frozen=True)
class PrecisionTable:
    """One calibration.

    Attributes:
        title: of the precision.
        rows: float32, and the precision, on the same pixels.
        verdict: what was lost, and allowed.
        changes: of classes, the largest loss first.
    """

    title: str
    setting: str
    rows: tuple[PrecisionRow, ...]
    verdict: str
    changes: tuple[ClassChange, ...]


@dataclass(frozen=True)
class Precisions:
    """What the template shows."""

    tables: tuple[PrecisionTable, ...]
    card: tuple[PrecisionRow, ...]


def make(inputs: Inputs) -> Precisions | None:
    """Lay out what the bundle says of its models; None without a bundle that says anything."""
    if inputs.bundle is None:
        return None
    card = inputs.bundle.card
    own = tuple(
        PrecisionRow(name, percent(one.oa, 2), percent(one.aa, 2), f"{one.kappa:.4f}", count(one.pixels), "", "")
        for name, one in (
            ("whole scene in view", card.offline),
            (f"streamed in blocks of {card.block_lines} lines", card.streamed),
        )
        if one is not None
    )
    tables = tuple(_table(one, inputs.class_names) for one in inputs.calibrations)
    return Precisions(tables, own) if tables or own else None


def _table(calibration: Calibration, names: tuple[str, ...]) -> PrecisionTable:
    precision, loss, lines = calibration.precision, calibration.loss, calibration.lines
    points = calibration.budget.get("points")
    allowed = f" ({points:g} % allowed)" if points is not None else ""
    verdict = (
        f"{loss.points:.3f} % of the pixels that float32 has right are lost{allowed}, "
        f"{loss.worst_class:.2f} % in the worst class; {percent(loss.agreement, 3)} of all labels agree."
    )
    match lines.get("judged"):
        case [int(first), int(stop)]:
            of = f", lines {first} to {stop - 1}"
        case _:
            of = ""
    setting = f"Judged on {plain(lines.get('scene'))}{of}, which set no range."
    return PrecisionTable(
        precision.upper(), setting, tuple(_rows(calibration)), verdict, tuple(_changes(calibration, names))
    )


def _rows(calibration: Calibration) -> Iterator[PrecisionRow]:
    whole = calibration.bytes.get("fp32", 0)
    speed = calibration.speed or {}
    for name in ("fp32", calibration.precision):
        size, rate, one = calibration.bytes.get(name), speed.get(name), calibration.accuracy.get(name)
        of = f" ({percent(size / whole, 0)})" if size is not None and whole and name != "fp32" else ""
        yield PrecisionRow(
            "float32" if name == "fp32" else name.upper(),
            percent(one.oa if one else None, 2),
            percent(one.aa if one else None, 2),
            f"{one.kappa:.4f}" if one else "–",
            count(one.pixels) if one else "–",
            f"{count(size / 1e3)} kB{of}" if size is not None else "–",
            f"{significant(rate)} lines/s" if isinstance(rate, int | float) else "–",
        )


def _changes(calibration: Calibration, names: tuple[str, ...]) -> Iterator[ClassChange]:
    before, after = (calibration.accuracy.get(name) for name in ("fp32", calibration.precision))
    if before is None or after is None or not len(before.per_class) == len(after.per_class) == len(names):
        return
    rows = [
        (new - old, name, old, new)
        for name, old, new in zip(names, before.per_class, after.per_class, strict=True)
        if old is not None and new is not None and old != new
    ]
    for change, name, old, new in sorted(rows):
        yield ClassChange(name, percent(old, 2), percent(new, 2), f"{100 * change:+.2f}")
