"""Bad elements of a line, filled from the good ones beside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hyperline.sensor.correction import Mend


class Mending:
    """Linear interpolation between the nearest good elements; beyond the last good one, its value.

    Good elements alone are read, so that bad ones side by side do not spread. Cost a line: about six small operations
    over the number of bad elements.

    Attributes:
        dead: (sample,) bool, samples that cannot be mended: along the spectrum, those without a good element.
    """

    def __init__(self, bad: NDArray[np.bool_], bands: NDArray[np.intp], along: Mend) -> None:
        """Find the neighbours.

        Args:
            bad: (sample, band) bool over the bands in use.
            bands: (band,) their numbers in the raw line, which may have gaps: distances along the spectrum.
            along: the spectrum or the line. Along the line every band has a good element.
        """
        axis = 1 if along == "spectrum" else 0
        self.dead: NDArray[np.bool_] = np.full(len(bad), axis == 1) & bad.all(axis=1)
        length = bad.shape[axis]
        place = np.indices(bad.shape)[axis]
        before = np.maximum.accumulate(np.where(bad, -1, place), axis=axis)
        after = np.flip(np.minimum.accumulate(np.flip(np.where(bad, length, place), axis), axis=axis), axis)
        target = bad & ~self.dead[:, None]
        low, high = before[target], after[target]
        low, high = np.where(low < 0, high, low), np.where(high == length, low, high)
        distance = bands if along == "spectrum" else np.arange(length)
        span = distance[high] - distance[low]
        weight = (distance[place[target]] - distance[low]) / np.maximum(span, 1)
        sample, band = np.nonzero(target)
        width = bad.shape[1]
        self._target = sample * width + band
        self._low, self._high = (
            sample * width + near if along == "spectrum" else near * width + band for near in (low, high)
        )
        self._weight = np.where(span > 0, weight, 0.0).astype(np.float32)
        self._from_low = np.empty(len(low), np.float32)
        self._from_high = np.empty(len(low), np.float32)

    def mend(self, line: NDArray[np.float32]) -> None:
        """Fill the bad elements of a (sample, band) line, C-contiguous, in place."""
        if not line.flags.c_contiguous:
            raise ValueError("a line to be mended must be C-contiguous")
        flat = line.reshape(-1)
        low, high = self._from_low, self._from_high
        # mode="clip" writes straight into out; the default checks into a buffer first.
        np.take(flat, self._low, out=low, mode="clip")
        np.take(flat, self._high, out=high, mode="clip")
        np.subtract(high, low, out=high)
        np.multiply(high, self._weight, out=high)
        np.add(low, high, out=low)
        flat[self._target] = low
