"""A made-up sensor: real spectra from memory, at a pace or as fast as they are taken, for so many seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle import Bundle
from hyperline.runtime.sources import Line

# Lines that are played again and again: more than fit a processor's cache, as a sensor's own would be.
_LINES = 32


class MadeUpSource:
    """Lines of the golden block's spectra, all pixels valid.

    Attributes:
        name, samples, bands, dtype, wavelengths_nm, scale, nodata, lines, rate, truth_classes: see `Source`.
        end: index behind the last line, once the time is up.
        started: when the first line was due, ``time.perf_counter`` seconds.
    """

    name = "made-up lines"
    lines = None
    truth_classes = 0

    def __init__(self, bundle: Bundle, samples: int, seconds: float, rate: float | None = None) -> None:
        """Make the lines.

        Args:
            bundle: whose golden block is repeated side by side, with a little noise.
            samples: of a line.
            seconds: how long lines come.
            rate: lines a second; None for as fast as they are taken.
        """
        card = bundle.card
        self.samples, self.bands, self.rate = samples, card.bands, rate
        self.scale, self.nodata = card.scale, card.nodata
        self.wavelengths_nm = None if card.wavelengths_nm is None else np.array(card.wavelengths_nm)
        self._cube = made_up_cube(bundle, samples)
        self.dtype: np.dtype[Any] = self._cube.dtype
        self._seconds = seconds
        self._closed = threading.Event()
        self.started = 0.0
        self.end: int | None = None

    def due(self, index: int) -> float:
        """Return when a line was due."""
        return self.started + index / self.rate if self.rate else self.started

    def __iter__(self) -> Iterator[Line]:
        """Yield lines until the time is up, each no earlier than it is due."""
        self._closed.clear()
        self.started = time.perf_counter()
        index = 0
        while self._goes_on(index):
            arrived = self.due(index) if self.rate else time.perf_counter()
            early = arrived - time.perf_counter()
            if early > 0 and self._closed.wait(early):
                break
            yield Line(index, self._cube[index % _LINES], arrived)
            index += 1
        self.end = index

    def _goes_on(self, index: int) -> bool:
        if self._closed.is_set():
            return False
        if self.rate:  # a number of lines that does not depend on how late they are
            return index < max(1, round(self._seconds * self.rate))
        return index == 0 or time.perf_counter() - self.started < self._seconds

    def close(self) -> None:
        """End the iteration, at once even where it waits for a line's time."""
        self._closed.set()


def made_up_cube(bundle: Bundle, samples: int) -> NDArray[Any]:
    """Return (line, sample, band) of spectra that the model knows: uint16, as a sensor's, where they are counts."""
    golden = bundle.golden()
    spectra = golden["lines"][golden["valid"]]  # (pixel, band)
    count = _LINES * samples
    cube = spectra[np.random.default_rng(0).integers(0, len(spectra), count)].reshape(_LINES, samples, -1)
    counts = np.rint(cube)
    whole = counts.min() >= 0 and counts.max() < 2**16 and np.ptp(spectra) > 255
    return counts.astype(np.uint16) if whole else np.ascontiguousarray(cube)
