"""Ranges of tensors, gathered block by block, and four ways to choose where a quantised tensor saturates.

A range too wide wastes int8's 127 steps on values that never come; one too narrow cuts off those that do. Which error
weighs more depends on the tensor:

    minmax       nothing seen saturates; one outlier sets the step of all
    percentile   all but a small share of the values are told apart
    mse          the least mean squared error of rounding and saturation together
    entropy      the least information lost about the distribution (Migacz, 8-bit inference with TensorRT, 2017)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHODS = ("minmax", "percentile", "mse", "entropy")

_BINS = 4096
_LEVELS = 128  # of int8 on one side of 0
PERCENTILE = 99.99


@dataclass
class Observer:
    """The distribution of a tensor's magnitudes, seen so far.

    Attributes:
        counts: of magnitudes in equal bins from 0 to ``edge``.
        edge: upper edge of the last bin; doubles when something larger comes.
        low: smallest value.
        high: largest value.
        of_channel: largest magnitude of each index of the last axis.
        not_finite: values that were NaN or infinite; they count nowhere else.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    edge: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    of_channel: NDArray[np.float64] | None = None
    not_finite: int = 0

    def see(self, values: NDArray[Any]) -> None:
        """Take in an array, of which the last axis is the channels."""
        finite = np.isfinite(values)
        if not finite.all():
            self.not_finite += int((~finite).sum())
            values = np.where(finite, values, 0)
        if values.size == 0:
            return
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        magnitudes = np.abs(values)
        largest = float(magnitudes.max())
        channels = magnitudes.reshape(-1, values.shape[-1] if values.ndim else 1).max(axis=0).astype(np.float64)
        if self.of_channel is None:
            self.of_channel = channels
        elif self.of_channel.shape == channels.shape:
            self.of_channel = np.maximum(self.of_channel, channels)
        if self.edge == 0.0:
            self.edge = largest
        while largest > self.edge > 0.0:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(_BINS // 2, np.int64)])
            self.edge *= 2
        self.counts += np.histogram(magnitudes, _BINS, (0.0, self.edge or 1.0))[0]

    @property
    def largest(self) -> float:
        """Largest magnitude seen; 0 before any."""
        return max(self.high, -self.low, 0.0)

    def range(self, method: str) -> float:
        """Return the magnitude at which the tensor is to saturate.

        Args:
            method: one of `METHODS`.
        """
        if method == "minmax" or self.edge == 0.0:
            return self.largest
        chosen = {"percentile": self._percentile, "mse": self._mse, "entropy": self._entropy}[method]()
        return min(chosen, self.largest)

    def _percentile(self) -> float:
        share = np.cumsum(self.counts) / self.counts.sum()
        return float((np.searchsorted(share, PERCENTILE / 100) + 1) * self.edge / _BINS)

    def _mse(self) -> float:
        width = self.edge / _BINS
        middle = (np.arange(_BINS) + 0.5) * width
        candidates = np.arange(_LEVELS // 4, _BINS + 1)
        # sums over the bins from each candidate on, of 1, x and x²: what saturation costs there
        tails = [np.append(np.cumsum((self.counts * middle**power)[::-1])[::-1], 0.0)[candidates] for power in range(3)]
        at = candidates * width
        saturated = tails[2] - 2 * at * tails[1] + at**2 * tails[0]
        rounded = (self.counts.sum() - tails[0]) * (at / (_LEVELS - 1)) ** 2 / 12
        return float(at[np.argmin(saturated + rounded)])

    def _entropy(self) -> float:
        # Zeros carry no information about the range: after a ReLU they are half of all values.
        counts = self.counts.astype(np.float64)
        counts[0] = 0.0
        if not counts.any():
            return self.largest
        best, least = _BINS, np.inf
        for end in range(_LEVELS, _BINS + 1, _LEVELS // 4):
            kept = counts[:end]
            reference = kept.copy()
            reference[-1] += counts[end:].sum()
            # each of the 128 levels spreads what falls to it evenly over the bins that hold anything
            level = np.arange(end) * _LEVELS // end
            held = kept > 0
            total = np.bincount(level, kept, _LEVELS)
            spread = np.where(held, total[level] / np.maximum(np.bincount(level, held, _LEVELS), 1)[level], 0.0)
            if not spread.any():
                continue
            p, q = reference / reference.sum(), spread / spread.sum()
            both = (p > 0) & (q > 0)
            lost = float((p[both] * np.log(p[both] / q[both])).sum() - p[(p > 0) & ~both].sum() * np.log(1e-12))
            if lost < least:
                best, least = end, lost
        return best * self.edge / _BINS
