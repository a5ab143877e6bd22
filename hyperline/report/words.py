"""How numbers are written in a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def count(value: float) -> str:
    """Write a whole number with its thousands apart."""
    return f"{value:,.0f}"


def percent(fraction: float | None, digits: int = 1) -> str:
    """Write a fraction as a percentage; a dash where there is none."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f} %"


def share(part: float, whole: float) -> str:
    """Write ``part`` of ``whole`` as a percentage that is 0 or 100 only where it is so."""
    if not whole:
        return "–"
    if part in (0, whole):
        return "100 %" if part else "0 %"
    value = 100 * part / whole
    text = f"{value:.1f}"
    if text == "0.0":
        return "< 0.1 %"
    if text == "100.0":
        return "> 99.9 %"
    return f"{text} %"


def significant(value: float | None, digits: int = 3) -> str:
    """Write a number with so many digits that count, and without an exponent between 0.001 and a million."""
    if value is None:
        return "–"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = math.floor(math.log10(abs(value)))
    if not -4 < exponent < 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(digits - 1 - exponent, 0)}f}"


def milliseconds(value: float | None) -> str:
    """Write a time in the unit that suits it."""
    if value is None:
        return "–"
    if value >= 10_000:
        return f"{significant(value / 1000)} s"
    return f"{significant(value)} ms"


def duration(seconds: float) -> str:
    """Write how long something took."""
    if seconds < 120:
        return f"{significant(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def plain(value: Any) -> str:
    """Write a value of a JSON file: lists with commas, numbers as they are, nothing as a dash."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "–"
    return str(value)


def split(of: Mapping[str, Any]) -> str:
    """Say how training pixels were drawn, of the split in a training's record."""
    kind, labels, seed = (plain(of.get(name)) for name in ("kind", "labels_per_class", "seed"))
    return f"{kind}, {labels} labels a class, seed {seed}"
