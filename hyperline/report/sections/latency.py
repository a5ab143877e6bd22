"""Latency: how long labels took, over the lines and over the flight, beside the deadline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hyperline.report.chart import Chart, Rule, bars, line, linear, logarithmic
from hyperline.report.documents import Histogram, Moment, Summary
from hyperline.report.inputs import Inputs
from hyperline.report.words import count, milliseconds, significant


@dataclass(frozen=True)
class LatencyCharts:
    """What the template shows.

    Attributes:
        facts: pairs of a name and a value.
        charts: histogram and time line, where the strip recorded them.
        deadline: one sentence.
        lacking: one sentence where there is no chart.
    """

    facts: tuple[tuple[str, str], ...]
    charts: tuple[Chart, ...]
    deadline: str
    lacking: str


def make(inputs: Inputs) -> LatencyCharts | None:
    """Lay out the latency of the strip; None where nothing was classified or it has no summary."""
    summary = inputs.strip.summary if inputs.strip else None
    if summary is None or summary.latency_ms is None:
        return None
    latency = summary.latency_ms
    deadline = 1e3 * summary.block_lines / summary.rate if summary.rate else None
    facts = [
        ("half of the lines", milliseconds(latency.p50)),
        ("99 %", milliseconds(latency.p99)),
        ("99.9 %", milliseconds(latency.p999)),
        ("the strip's first block", milliseconds(summary.first_block_ms)),
        ("throughput", f"{significant(summary.lines_per_second)} lines/s"),
    ]
    if deadline:
        missed = summary.counters.get("missed", 0)
        told = (
            f"The source gives {significant(summary.rate)} lines/s, a block of {summary.block_lines} lines every "
            f"{milliseconds(deadline)}: that is the deadline. Blocks that the model finished later: {count(missed)}."
        )
    else:
        told = "Nothing paced the source, so there is no deadline, and lines waited only for the model."
    charts: list[Chart] = []
    if summary.latency_histogram and any(summary.latency_histogram.lines):
        charts.append(_histogram(summary.latency_histogram, deadline, summary))
    if len(summary.time_line) > 1:
        charts.extend(_time_line(summary.time_line, deadline, summary.rate))
    lacking = "" if charts else "Histogram and time line come with strips flown by this release."
    return LatencyCharts(tuple(facts), tuple(charts), told, lacking)


def _histogram(histogram: Histogram, deadline: float | None, summary: Summary) -> Chart:
    edges = [max(edge, 1e-3) for edge in histogram.edges_ms]
    first = next(index for index, lines in enumerate(histogram.lines) if lines)
    last = max(index for index, lines in enumerate(histogram.lines) if lines)
    low, high = edges[first], edges[last + 1]
    if deadline:
        low, high = min(low, 0.9 * deadline), max(high, 1.1 * deadline)
    x = logarithmic(low, high, "ms")
    y = logarithmic(0.7, 2.0 * max(histogram.lines), "lines", write=count)
    rules = [Rule(deadline, "deadline", "deadline")] if deadline else []
    assert summary.latency_ms is not None
    rules.append(Rule(summary.latency_ms.p999, "99.9 %"))
    told = (
        f"Histogram of {count(sum(histogram.lines))} lines, from {milliseconds(edges[first])} to "
        f"{milliseconds(edges[last + 1])}"
    )
    path = bars(x, y, edges, [float(lines) for lines in histogram.lines])
    return Chart("Lines by latency, both axes logarithmic", told, x, y, (path,), tuple(rules))


def _time_line(moments: tuple[Moment, ...], deadline: float | None, rate: float | None) -> Iterator[Chart]:
    seconds = [one.second for one in moments]
    x = linear(seconds, "s after the start")
    lines = [one.lines_per_second for one in moments]
    y = linear([*lines, rate or 0.0], "lines/s")
    told = f"Throughput over the flight, from {significant(min(lines))} to {significant(max(lines))} lines/s"
    rules = (Rule(rate, "the source's rate", vertical=False),) if rate else ()
    path = line(x, y, zip(seconds, lines, strict=True))
    yield Chart("Throughput", told, x, y, (path,), rules)
    slowest = [(one.second, one.latency_ms_max) for one in moments if one.latency_ms_max is not None]
    if slowest:
        worst = [value for _, value in slowest]
        y = linear([*worst, deadline or 0.0], "ms")
        rules = (Rule(deadline, "deadline", "deadline", vertical=False),) if deadline else ()
        told = f"Largest latency over the flight, at most {milliseconds(max(worst))}"
        yield Chart("Largest latency", told, x, y, (line(x, y, slowest),), rules)
    waiting = [(one.second, float(one.waiting)) for one in moments if one.waiting is not None]
    if waiting:
        dropped = [(one.second, float(one.dropped or 0)) for one in moments]
        most, lost = max(value for _, value in waiting), max(value for _, value in dropped)
        y = linear([most, lost, 1.0], "lines", whole=True)
        told = f"Lines that waited over the flight, at most {count(most)}"
        paths = [line(x, y, waiting)]
        title = "Lines waiting"
        if lost:
            paths.append(line(x, y, dropped, "bad"))
            title = "Lines waiting, and lines dropped (red)"
            told += f", and lines dropped, at most {count(lost)} at a time"
        yield Chart(title, told, x, y, tuple(paths))
