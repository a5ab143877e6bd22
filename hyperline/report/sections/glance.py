"""At a glance: the few figures that a reader asks for first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hyperline.report.inputs import Inputs
from hyperline.report.words import count, milliseconds, percent, share, significant


@dataclass(frozen=True)
class Figure:
    """One figure, what it is, and a word more; ``bad`` where a reader should look twice."""

    value: str
    what: str
    more: str
    bad: bool = False


def make(inputs: Inputs) -> tuple[Figure, ...]:
    """Choose the figures of what there is."""
    return tuple(_figures(inputs))


def _figures(inputs: Inputs) -> Iterator[Figure]:
    summary = inputs.strip.summary if inputs.strip else None
    if inputs.strip is not None and summary is None:
        yield Figure(count(inputs.strip.lines), "lines so far", "the strip has no summary yet")
    if summary is not None:
        gone = summary.dropped + summary.rejected + summary.counters.get("lost", 0) + summary.unwritten
        more = "every line that the source gave" if not gone else f"{count(gone)} dropped, rejected, lost or unwritten"
        yield Figure(
            share(summary.classified, summary.received),
            f"of {count(summary.received)} lines classified",
            more,
            gone > 0,
        )
        yield Figure(f"{significant(summary.lines_per_second)}", "lines a second", _rate(summary.rate))
        if summary.latency_ms is not None:
            late = summary.counters.get("missed", 0)
            more = (
                f"{count(late)} blocks finished after the deadline"
                if late
                else f"half in {milliseconds(summary.latency_ms.p50)}"
            )
            yield Figure(
                milliseconds(summary.latency_ms.p999), "99.9 % of the lines have their label within", more, late > 0
            )
    accuracy = inputs.scored or (summary.accuracy if summary else None)
    if accuracy is None and inputs.evaluations:
        accuracy = inputs.evaluations[0][1]
    if accuracy is not None:
        yield Figure(
            percent(accuracy.oa),
            "of the labelled pixels right",
            f"κ {accuracy.kappa:.3f}, {count(accuracy.pixels)} pixels",
        )
    if summary is None:
        for name, bench in inputs.benches[:1]:
            yield Figure(
                significant(bench.lines_per_second),
                "lines a second",
                f"{bench.samples} samples × {bench.bands} bands, {name}",
            )
    energy = next((bench.energy for _, bench in inputs.benches if bench.energy), None)
    if energy is not None and energy.joules_per_line is not None:
        yield Figure(f"{significant(1e3 * energy.joules_per_line)} mJ", "a line", f"measured by {energy.source}")


def _rate(rate: float | None) -> str:
    return f"the source gives {significant(rate)}" if rate else "as fast as the model took them"
