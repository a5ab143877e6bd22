"""Charts as geometry, for the template to draw as SVG.

Everything lies in a square of ``SIDE`` units that the page stretches to its place: lines keep their width, and the
words at the ticks are set beside the square, so that they never stretch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SIDE = 1000.0


@dataclass(frozen=True)
class Tick:
    """A mark of an axis.

    Attributes:
        at: per cent of the axis, from its low end.
        text: beside it.
    """

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high``, linear or logarithmic; ``whole`` where only whole numbers mean anything."""

    low: float
    high: float
    label: str = ""
    logarithmic: bool = False
    write: Callable[[float], str] = "{:g}".format
    whole: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies: 0 at the low end, ``SIDE`` at the high end, cut there."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = (self._scaled(max(value, self.low)) - low) / (high - low)
        return round(SIDE * min(max(share, 0.0), 1.0), 1)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def ticks(self, most: int = 6) -> list[Tick]:
        """Return marks at round values."""
        values = _powers(self.low, self.high, most) if self.logarithmic else []
        if len(values) < 3:  # no axis, or one of less than a decade
            values = _round_values(self.low, self.high, most, 1.0 if self.whole else 0.0)
        return [Tick(round(self.at(value) / SIDE * 100, 2), self.write(value)) for value in values]


def linear(values: Iterable[float], label: str = "", *, zero: bool = True, whole: bool = False) -> Axis:
    """Return an axis that holds all values, and zero where asked."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high <= low:
        low, high = (low, low + 1.0) if zero else (low - 0.5, low + 0.5)
    margin = 0.05 * (high - low)
    bottom = low - margin if not zero or low < 0 else low
    return Axis(bottom, high + margin, label, write=_writer(high - low), whole=whole)


def logarithmic(low: float, high: float, label: str = "", write: Callable[[float], str] | None = None) -> Axis:
    """Return a logarithmic axis of at least a decade's half around positive values."""
    if high < 3 * low:
        low, high = low / 1.8, high * 1.8
    return Axis(low, high, label, logarithmic=True, write=write or "{:g}".format)


def _writer(extent: float) -> Callable[[float], str]:
    digits = max(0, 1 - math.floor(math.log10(extent))) if extent > 0 else 0
    return lambda value: f"{value:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:,.0f}"


def _round_values(low: float, high: float, most: int, least: float) -> list[float]:
    raw = max((high - low) / most, least)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= raw)
    first = math.ceil(low / step)
    return [round(index * step, 12) for index in range(first, math.floor(high / step) + 1)]


def _powers(low: float, high: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in ((1, 2, 5), (1, 3), (1,)):
        values = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        inside = [value for value in values if low <= value <= high]
        if len(inside) <= most + 2:
            return inside
    return inside[:: -(-len(inside) // most)]


@dataclass(frozen=True)
class Path:
    """A line (``filled`` False) or an area, as an SVG path in the square; ``kind`` is its class of style."""

    d: str
    kind: str
    filled: bool = False
    colour: str | None = None


@dataclass(frozen=True)
class Rule:
    """A straight line across the chart at a value, with words."""

    at: float
    text: str
    kind: str = "rule"
    vertical: bool = True


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        title: above it.
        told: what it shows, in words, for whoever cannot see it.
        x, y: the axes.
        paths: drawn in their order.
        rules: above them.
        height: "small" or "large".
    """

    title: str
    told: str
    x: Axis
    y: Axis
    paths: Sequence[Path]
    rules: Sequence[Rule] = field(default=())
    height: str = "large"


def line(
    x: Axis, y: Axis, points: Iterable[tuple[float, float]], kind: str = "line", colour: str | None = None
) -> Path:
    """Draw through points; one that is not finite breaks the line."""
    parts, pen = [], "M"
    for across, up in points:
        if not (math.isfinite(across) and math.isfinite(up)):
            pen = "M"
            continue
        parts.append(f"{pen}{x.at(across):g} {SIDE - y.at(up):g}")
        pen = "L"
    return Path("".join(parts), kind, colour=colour)


def area(
    x: Axis,
    y: Axis,
    across: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    kind: str = "area",
    colour: str | None = None,
) -> Path:
    """Fill between two curves; a place where one is not finite parts the area."""
    known = np.isfinite(across) & np.isfinite(low) & np.isfinite(high)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    parts = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        over = [f"{x.at(across[i]):g} {SIDE - y.at(high[i]):g}" for i in range(start, stop)]
        under = [f"{x.at(across[i]):g} {SIDE - y.at(low[i]):g}" for i in reversed(range(start, stop))]
        parts.append("M" + "L".join(over + under) + "Z")
    return Path("".join(parts), kind, filled=True, colour=colour)


def bars(x: Axis, y: Axis, edges: Sequence[float], heights: Sequence[float], kind: str = "area") -> Path:
    """Draw a histogram's bars from the low end of ``y``."""
    parts = [
        f"M{x.at(left):g} {SIDE:g}V{SIDE - y.at(height):g}H{x.at(right):g}V{SIDE:g}Z"
        for left, right, height in zip(edges, edges[1:], heights, strict=False)
        if height
    ]
    return Path("".join(parts), kind, filled=True)
