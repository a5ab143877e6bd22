"""How many pixels of each class there are: in the latest lines, and in the whole strip."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from hyperline.runtime.view.strip import Strip

# So many at a time, or counting a long map would hold up the lines that come.
_LINES_AT_A_TIME = 1024
RECENT_LINES = 1024


class Census:
    """Counts the strip from its first line on, whenever somebody began to look."""

    def __init__(self, strip: Strip) -> None:
        """Begin."""
        self._strip = strip
        self._next = 0
        self._whole = np.zeros(256, np.int64)
        self._recent: deque[tuple[int, NDArray[np.int64]]] = deque()  # first line, pixels by class

    @property
    def counted(self) -> int:
        """Lines counted, or passed over because they are in no map."""
        return self._next

    def advance(self, head: int) -> None:
        """Count the next lines before ``head``, a thousand at most."""
        lines = self._strip.read(self._next, min(_LINES_AT_A_TIME, head - self._next))
        if not lines.count:
            # A map that the disk did not take: go on where the feed begins.
            self._next = min(self._next + _LINES_AT_A_TIME, head)
            return
        counts = np.bincount(lines.labels.ravel(), minlength=256)
        self._whole += counts
        self._recent.append((lines.first, counts))
        self._next = lines.first + lines.count
        while self._recent[0][0] < self._next - RECENT_LINES:
            self._recent.popleft()

    def report(self, classes: int) -> dict[str, list[int]]:
        """Return pixels by class, class 0 first: ``recent`` and ``whole``."""
        recent = np.sum([counts for _, counts in self._recent], axis=0) if self._recent else np.zeros(256, np.int64)
        return {"recent": recent[:classes].tolist(), "whole": self._whole[:classes].tolist()}
