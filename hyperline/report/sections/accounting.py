"""Accounting: what became of every line, and what was mended, lost or doubted on the way."""

from __future__ import annotations

from dataclasses import dataclass

from hyperline.report.documents import Summary
from hyperline.report.inputs import Inputs
from hyperline.report.words import count, duration, plain, share, significant

# key of summary.json or of its counters -> what it counts, in the order in which a reader asks
_FATES = {
    "lost": "lines that never arrived, missing between others",
    "duplicates": "duplicates and lines out of order, of the rejected",
    "damaged": "lines that changed in memory while they waited, of the rejected",
    "unwritten": "lines classified while the disk took none",
    "missed": "blocks that the model finished after their deadline",
    "failed": "blocks that no engine could classify",
    "resets": "gaps too long to fill, after which the state began anew",
    "late_lines": "lines taken over more than a block behind their time",
    "invalid_pixels": "pixels without a measurement",
    "saturated_pixels": "saturated pixels",
    "dark": "lines seen with the shutter closed",
    "dark_updates": "darks measured in flight and used",
    "dark_refusals": "darks measured in flight and not believed",
    "state_repaired": "flipped bits of the carried state, mended",
    "state_rolled_back": "times that the carried state went back by a block",
    "weights_repaired": "times that damaged weights were put back",
    "self_tests": "self-tests passed in flight",
    "self_tests_failed": "self-tests failed in flight",
    "suspect": "classified lines that may be wrong, for the next self-test failed",
    "fallbacks": "times that the next engine took over",
    "reloads": "times that the engine was loaded again",
    "outages": "times that the disk began to fail",
}
# Nothing went wrong where these count.
_GOOD = ("self_tests", "dark", "dark_updates")


@dataclass(frozen=True)
class Fate:
    """One counter in words."""

    words: str
    count: str
    good: bool


@dataclass(frozen=True)
class Accounting:
    """What the template shows.

    Attributes:
        received: lines.
        parts: classified, dropped and rejected, each with its share of the received.
        balanced: whether they add up.
        fates: counters that are not 0.
        quiet: counters that are 0, in one sentence.
        failures: what engines said that failed.
        elsewhere: what source and links counted themselves.
        facts: of the flight.
        state: interrupted, resumed or neither, one sentence.
    """

    received: str
    parts: tuple[tuple[str, str, str], ...]
    balanced: bool
    fates: tuple[Fate, ...]
    quiet: str
    failures: tuple[str, ...]
    elsewhere: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    state: str


def make(inputs: Inputs) -> Accounting | None:
    """Lay out the counters of the strip; None where it has no summary."""
    summary = inputs.strip.summary if inputs.strip else None
    if summary is None:
        return None
    values = {name: getattr(summary, name, summary.counters.get(name, 0)) for name in _FATES}
    fates = tuple(Fate(_FATES[name], count(value), name in _GOOD) for name, value in values.items() if value)
    quiet = [name.replace("_", " ") for name, value in values.items() if not value and name not in _GOOD]
    parts = tuple(
        (name, count(value), share(value, summary.received))
        for name, value in (
            ("classified", summary.classified),
            ("dropped", summary.dropped),
            ("rejected", summary.rejected),
        )
    )
    return Accounting(
        count(summary.received),
        parts,
        summary.received == summary.classified + summary.dropped + summary.rejected,
        fates,
        f"Not once: {', '.join(quiet)}." if quiet else "",
        summary.failures,
        tuple(_flat(summary.source_counters, "source") + _flat(summary.links or {}, "links")),
        _facts(summary),
        _state(summary),
    )


def _facts(summary: Summary) -> tuple[tuple[str, str], ...]:
    return (
        ("source", summary.source),
        ("model", summary.model),
        ("engine", f"{summary.engine}, {summary.precision}, threads: {summary.threads}"),
        ("operators", "native" if summary.native_ops else "ONNX function bodies"),
        ("a line", f"{summary.samples} samples × {summary.bands} bands"),
        ("a block", f"{summary.block_lines} lines"),
        ("time", duration(summary.seconds)),
        ("rate of the source", f"{significant(summary.rate)} lines/s" if summary.rate else "not paced"),
        ("most lines that waited", count(summary.ring_lines)),
    )


def _state(summary: Summary) -> str:
    if summary.interrupted:
        return "The strip was interrupted before its source ended."
    if summary.resumed:
        return "The strip was resumed: time, latency and rate are of its last part."
    return ""


def _flat(values: dict[str, object], name: str) -> list[tuple[str, str]]:
    """Lay nested counters out as pairs of a dotted name and a value."""
    found = []
    for key, value in values.items():
        label = f"{name}: {str(key).replace('_', ' ')}"
        if isinstance(value, dict):
            found += _flat(value, label)
        elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
            found += [
                pair
                for number, one in enumerate(value, 1)
                for pair in (_flat(one, f"{label} {number}") if isinstance(one, dict) else [(label, plain(one))])
            ]
        elif value not in (0, None, [], ""):
            found.append((label, plain(value)))
    return found
