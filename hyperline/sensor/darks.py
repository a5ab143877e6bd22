"""Darks that a flight measures itself, each believed only where it can be one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hyperline.sensor.correction import DARK_LINES, MAX_DARK

# A few elements of every detector blink or drift on their own: what all of it does shows in more than these shares.
_STRAY, _NOISY = 0.01, 0.1
# Of what lies between the stored dark and saturation. A detector that warms up does not come near; light does.
_LIGHT = 0.1
# Over 16 lines chance alone does not bring any element near it.
_NOISE_RATIO = 3.0


class Closing:
    """The lines of one closing of the shutter, and what they say of it.

    Cost a line: six passes over its values, without a known noise three. Nothing is allocated by the line; the
    judgement, once a closing, takes about as long as three lines are corrected.

    Attributes:
        line: (sample, band) float32, for whoever fills it before ``add``.
        mean: (sample, band) float32, of the lines so far.
        count: lines so far.
    """

    def __init__(
        self,
        stored: NDArray[np.float32],
        noise: NDArray[np.float32] | None,
        good: NDArray[np.bool_] | None,
        saturation: float | None,
        drift: float,
    ) -> None:
        """Allocate.

        Args:
            stored: (sample, band) counts, the dark of the correction over the bands in use.
            noise: (sample, band) counts, the standard deviation of its lines, or None where not known.
            good: (sample, band) elements to judge by, or None for all.
            saturation: counts, or None where not known.
            drift: multiples of the noise that the detector may have drifted.
        """
        self.line, self.mean = np.empty_like(stored), np.empty_like(stored)
        self.count = 0
        self._stored, self._noise, self._good = stored.copy(), noise, good
        self._saturation, self._drift = saturation, drift
        self._squares, self._square = np.zeros_like(stored), np.empty_like(stored)
        self._elements = stored.size if good is None else int(np.count_nonzero(good))

    def add(self) -> None:
        """Take in what stands in ``line``."""
        self.count += 1
        if self.count == 1:
            np.copyto(self.mean, self.line)
            self._squares[:] = 0.0
            return
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is no dark, which ``end`` finds
            np.subtract(self.line, self.mean, out=self.line)
            if self._noise is not None:  # Welford's sum of squares
                np.multiply(self.line, self.line, out=self._square)
                np.multiply(self._square, np.float32((self.count - 1) / self.count), out=self._square)
                np.add(self._squares, self._square, out=self._squares)
            np.multiply(self.line, np.float32(1 / self.count), out=self.line)
            np.add(self.mean, self.line, out=self.mean)

    def end(self) -> str | None:
        """End the closing: what is added next belongs to another.

        Returns:
            Why ``mean`` is no dark to correct with, or None where it is one.
        """
        count, self.count = self.count, 0
        if count < DARK_LINES:
            return f"it has {count} lines, and less than {DARK_LINES} bring in more noise than they take out drift"
        rise = self.line
        with np.errstate(over="ignore", invalid="ignore"):
            if self._found(~(np.abs(self.mean, out=rise) < MAX_DARK)):
                return f"it holds values that are no counts, or over {MAX_DARK:g}"
            np.subtract(self.mean, self._stored, out=rise)
            if self._saturation is not None:
                light = self._found(rise > _LIGHT * (np.float32(self._saturation) - self._stored))
                if light > _STRAY * self._elements:
                    return (
                        f"the shutter did not close: {self._of(light)} are brighter than the stored dark by over "
                        f"{_LIGHT:.0%} of what is left to saturation"
                    )
            if self._noise is None:
                return None
            np.multiply(self._noise, np.float32(_NOISE_RATIO * np.sqrt(count - 1)), out=self._square)
            noisy = self._found(np.sqrt(self._squares, out=self._squares) > self._square)
            if noisy > _NOISY * self._elements:
                return f"{self._of(noisy)} have over {_NOISE_RATIO:g} times the noise of the stored dark"
            drifted = self._found(np.abs(rise, out=rise) > np.float32(self._drift) * self._noise)
        if drifted > _STRAY * self._elements:
            return f"{self._of(drifted)} are over {self._drift:g} times their noise away from the stored dark"
        return None

    def _found(self, mask: NDArray[np.bool_]) -> int:
        if self._good is not None:
            mask &= self._good
        return int(np.count_nonzero(mask))

    def _of(self, count: int) -> str:
        return f"{count} of {self._elements} elements"
