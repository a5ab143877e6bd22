"""What a strip did when: a line of points over its time, in memory that does not grow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_POINTS = 600
_SECONDS = 0.125  # of a point, while the strip is shorter than all of them
# How points become one.
_MERGES = {"lines": np.add, "dropped": np.add, "waiting": np.maximum, "latency": np.maximum}


class TimeLine:
    """Sums and maxima of equal intervals of time. When all are in use, each two become one of twice the length."""

    def __init__(self, started: float) -> None:
        """Begin.

        Args:
            started: when, `time.perf_counter`.
        """
        self._started = self._latest = started
        self._seconds = _SECONDS
        self._held = {name: np.zeros(_POINTS, float if name == "latency" else np.int64) for name in _MERGES}
        self._dropped = 0

    def add(self, now: float, lines: int, latency: float, waiting: int, dropped: int) -> None:
        """Count a block that is in the maps.

        Args:
            now: when that was.
            lines: that it classified.
            latency: from the arrival of its last line, in seconds; not counted where it classified none.
            waiting: lines in the ring when it was classified.
            dropped: lines dropped from the strip's start until then.
        """
        self._latest = max(self._latest, now)
        while (point := int((self._latest - self._started) / self._seconds)) >= _POINTS:
            self._halve()
        held = self._held
        held["lines"][point] += lines
        held["dropped"][point] += dropped - self._dropped
        self._dropped = dropped
        held["waiting"][point] = max(held["waiting"][point], waiting)
        if lines:
            held["latency"][point] = max(held["latency"][point], latency)

    def _halve(self) -> None:
        for name, values in self._held.items():
            merged = _MERGES[name].reduce(values.reshape(-1, 2), axis=1)
            values[: merged.size] = merged
            values[merged.size :] = 0
        self._seconds *= 2

    def points(self) -> list[dict[str, Any]]:
        """Return the points from the start to the latest block.

        Returns:
            At most 600, each ``second`` (of its start), ``lines_per_second``, ``latency_ms_max`` (None where no line
            was classified), ``waiting`` (most lines in the ring) and ``dropped`` (lines). They are equally long but for
            the last, which has from half of that to one and a half: of less, a block's lines would be no rate.
        """
        span = self._latest - self._started
        whole, rest = divmod(span, self._seconds)
        count = int(whole) + (rest >= self._seconds / 2 or whole == 0)
        starts = self._seconds * np.arange(count)
        lengths = np.append(np.diff(starts), span - starts[-1])
        held = {name: _cut(values, count, _MERGES[name]) for name, values in self._held.items()}
        return [
            {
                "second": float(starts[point]),
                "lines_per_second": float(held["lines"][point] / lengths[point]) if lengths[point] else 0.0,
                "latency_ms_max": 1e3 * float(held["latency"][point]) if held["lines"][point] else None,
                "waiting": int(held["waiting"][point]),
                "dropped": int(held["dropped"][point]),
            }
            for point in range(count)
        ]


def _cut(values: NDArray[Any], count: int, merge: np.ufunc) -> NDArray[Any]:
    """Return the first points, the last of them merged with what lies behind."""
    return np.append(values[: count - 1], merge.reduce(values[count - 1 :]))
