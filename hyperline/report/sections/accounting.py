"""Accounting: what became of every line, and what was mended, lost or doubted on the way."""

from __future__ import annotations

from dataclasses import dataclass

from hyperline.report.documents import Summary
from hyperline.report.inputs import Inputs
from hyperline.report.words import count, duration, plain, share, significant

# key of summary.json or of its counters -> (one of them, more of them), in the order in which a reader asks
_FATES = {
    "lost": ("line never arrived: it is missing between two others", "lines never arrived: they are missing between others"),
    "duplicates": ("of the rejected lines was a duplicate or out of order", "of the rejected lines were duplicates or out of order"),
    "damaged": ("of the rejected lines changed in memory while it waited", "of the rejected lines changed in memory while they waited"),
    "unwritten": ("line was classified while the disk took none", "lines were classified while the disk took none"),
    "missed": ("block came later than its deadline", "blocks came later than their deadline"),
    "failed": ("block could be classified by no engine", "blocks could be classified by no engine"),
    "resets": ("gap was too long to fill; the strip's state began anew", "gaps were too long to fill; the strip's state began anew"),
    "late_lines": ("line was taken over more than a block behind its time", "lines were taken over more than a block behind their time"),
    "invalid_pixels": ("pixel held no measurement", "pixels held no measurement"),
    "saturated_pixels": ("pixel was saturated", "pixels were saturated"),
    "dark": ("line was seen with the shutter closed", "lines were seen with the shutter closed"),
    "dark_updates": ("dark measured in flight is used", "darks measured in flight are used"),
    "dark_refusals": ("dark measured in flight was not believed", "darks measured in flight were not believed"),
    "state_repaired": ("flipped bit in the carried state was mended", "flipped bits in the carried state were mended"),
    "state_rolled_back": ("time the carried state went back by a block", "times the carried state went back by a block"),
    "weights_repaired": ("time damaged weights were put back", "times damaged weights were put back"),
    "self_tests": ("self-test passed in flight", "self-tests passed in flight"),
    "self_tests_failed": ("self-test failed in flight", "self-tests failed in flight"),
    "suspect": ("classified line may be wrong, for the next self-test failed", "classified lines may be wrong, for the next self-test failed"),
    "fallbacks": ("time the next engine took over", "times the next engine took over"),
    "reloads": ("time the engine was loaded again", "times the engine was loaded again"),
    "outages": ("time the disk began to fail", "times the disk began to fail"),
}  # fmt: skip
# Nothing went wrong where these count.
_GOOD = ("self_tests", "dark", "dark_updates")


@dataclass(frozen=True)
class Fate:
    """One counter in words."""

    count: str
    words: str
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
    fates = tuple(
        Fate(count(value), _FATES[name][value != 1], name in _GOOD) for name, value in values.items() if value
    )
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
