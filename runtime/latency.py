"""Latencies counted in bins of one per cent, so that a strip of any length takes the same memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_LEAST, _MOST = 1e-6, 1e4  # seconds
_STEP = math.log(1.01)
_MOST_MERGED = 60
_BINS = math.ceil(math.log(_MOST / _LEAST) / _STEP) + 1


class LatencyHistogram:
    """Counts of latencies.

    Attributes:
        most: the largest, seconds.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self.most = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count a latency so many times."""
        bin_ = int(math.log(max(seconds, _LEAST) / _LEAST) / _STEP)
        self._counts[min(bin_, _BINS - 1)] += count
        if count:
            self.most = max(self.most, seconds)

    @property
    def count(self) -> int:
        """Latencies counted."""
        return int(self._counts.sum())

    def merged(self) -> dict[str, list[Any]]:
        """Return the counts from the shortest latency to the longest, in at most 60 bins.

        Returns:
            ``edges_ms``, one more than bins, each so many times the one before; and ``lines``, the count of each bin.
        """
        held = np.flatnonzero(self._counts)
        if not held.size:
            return {"edges_ms": [], "lines": []}
        first, last = int(held[0]), int(held[-1]) + 1
        width = -(-(last - first) // _MOST_MERGED)
        starts = np.arange(first, last, width)
        edges = 1e3 * _LEAST * np.exp(np.append(starts, starts[-1] + width) * _STEP)
        return {"edges_ms": edges.tolist(), "lines": np.add.reduceat(self._counts[:last], starts).tolist()}

    def percentile(self, percent: float) -> float:
        """Return the latency in seconds that so many per cent stay below, to one per cent; 0 of none."""
        total = self.count
        if not total:
            return 0.0
        reached = int(np.searchsorted(np.cumsum(self._counts), percent / 100 * total))
        return min(_LEAST * math.exp((reached + 1) * _STEP), self.most)
