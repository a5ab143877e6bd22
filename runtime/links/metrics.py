"""Counts of a flight that somebody may read while it goes on."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

# Upper bounds of the latency histogram, seconds.
LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class FlightMetrics:
    """Totals since the start of the strip. One thread writes each of them; readers may be a block behind.

    Attributes:
        received: lines that the source handed over.
        classified: lines whose labels are in the map.
        dropped: lines taken in that did not get there.
        rejected: lines of the wrong size.
        latency_counts: blocks by latency, one count more than ``LATENCY_BOUNDS``: not cumulative.
        latency_seconds: sum over the blocks.
        pixels: pixels by class id, 0 to 255.
    """

    def __init__(self) -> None:
        self.received = self.classified = self.dropped = self.rejected = 0
        self.latency_counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self.latency_seconds = 0.0
        self.pixels = np.zeros(256, np.int64)

    def observe_latency(self, seconds: float) -> None:
        """Count one block."""
        self.latency_counts[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.latency_seconds += seconds
