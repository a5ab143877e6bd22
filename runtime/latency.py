"""Latencies counted in bins of one per cent, so that a strip of any length takes the same memory."""

from __future__ import annotations

import math

import numpy as np

_LEAST, _MOST = 1e-6, 1e4  # seconds
_STEP = math.log(1.01)
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

    def percentile(self, percent: float) -> float:
        """Return the latency in seconds that so many per cent stay below, to one per cent; 0 of none."""
        total = self.count
        if not total:
            return 0.0
        reached = int(np.searchsorted(np.cumsum(self._counts), percent / 100 * total))
        return min(_LEAST * math.exp((reached + 1) * _STEP), self.most)
