"""Neighbouring cross-track samples made one: their values, their validity, their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class SampleBins:
    """The mean of neighbouring samples, over those that hold a measurement.

    A sample without one is left out in all its bands, so that every band of a pixel shows the same ground. Cost a
    line: one pass over its values at the full width.

    Attributes:
        line: (sample, band) float32 at the full width, for whoever fills it: values divided by ``bin`` already.
        valid: (sample,) bool, likewise: which samples hold a measurement.
    """

    def __init__(self, samples: int, bands: int, bin: int) -> None:
        """Allocate.

        Args:
            samples: at the full width, a multiple of ``bin``.
            bands: of a line.
            bin: samples to one, at least 2.
        """
        self.line = np.empty((samples, bands), np.float32)
        self.valid = np.empty(samples, bool)
        self._bin = bin

    def any(self, flags: NDArray[np.bool_], out: NDArray[np.bool_]) -> None:
        """Say which pixels have a flagged sample.

        Args:
            flags: (sample,) at the full width.
            out: (binned sample,), overwritten.
        """
        np.any(flags.reshape(-1, self._bin), axis=1, out=out)

    def mean(self, line: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Bin what stands in ``self.line``.

        Args:
            line: (binned sample, band) float32, overwritten.
            valid: (binned sample,) bool, overwritten: False where none of the samples holds a measurement.
        """
        wide, whole = self.line, bool(self.valid.all())
        if not whole:
            wide[~self.valid] = 0.0
        np.add(wide[0 :: self._bin], wide[1 :: self._bin], out=line)
        for sample in range(2, self._bin):
            np.add(line, wide[sample :: self._bin], out=line)
        valid[:] = True
        if not whole:
            count = np.count_nonzero(self.valid.reshape(-1, self._bin), axis=1)
            valid[:] = count > 0
            few = np.flatnonzero(valid & (count < self._bin))
            line[few] *= np.float32(self._bin) / count[few, None].astype(np.float32)


def bin_labels(labels: NDArray[np.uint8], bin: int) -> NDArray[np.uint8]:
    """Return the labels of binned samples: the class that all labelled samples of a bin have; 0 where they differ.

    Args:
        labels: (…, sample) class ids, 0 = unlabelled; the samples are a multiple of ``bin``.
        bin: samples to one.
    """
    if bin == 1:
        return labels
    parts: NDArray[Any] = labels.reshape(*labels.shape[:-1], -1, bin)
    highest = parts.max(axis=-1)
    lowest = np.where(parts == 0, highest[..., None], parts).min(axis=-1)
    return np.where(lowest == highest, highest, np.uint8(0))
