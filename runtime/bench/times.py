"""When each block of a run arrived and when its labels were there, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperline.runtime.bench.report import Jitter, Percentiles


@dataclass(frozen=True)
class BlockTimes:
    """Every block of a run, in its order; seconds of ``time.perf_counter``.

    Attributes:
        arrived: (block,) when the last line of it was there.
        done: (block,) when its labels were.
        lines: (block,) lines of it that count.
        line_latencies: (line,) from each line's own arrival to its labels; None where lines do not arrive one by one.
        started: when the run began.
    """

    arrived: NDArray[np.float64]
    done: NDArray[np.float64]
    lines: NDArray[np.int64]
    line_latencies: NDArray[np.float64] | None
    started: float

    def after(self, seconds: float) -> BlockTimes:
        """Return the same without the blocks that were done in the first ``seconds``, but never without all."""
        first = int(np.searchsorted(self.done, self.started + seconds)) if seconds > 0 else 0
        if first == 0 or first >= len(self.done):
            return self
        left_out = int(self.lines[:first].sum())
        latencies = None if self.line_latencies is None else self.line_latencies[left_out:]
        return BlockTimes(
            self.arrived[first:], self.done[first:], self.lines[first:], latencies, float(self.done[first - 1])
        )

    @property
    def latencies(self) -> NDArray[np.float64]:
        """(block,) seconds from a block's last line to its labels."""
        return self.done - self.arrived

    @property
    def ended(self) -> float:
        """When the last labels were there."""
        return float(self.done[-1])

    @property
    def seconds(self) -> float:
        """From the start to the last labels."""
        return self.ended - self.started


def percentiles(seconds: NDArray[np.float64]) -> Percentiles:
    """Return percentiles in milliseconds, of all values and not of bins."""
    p50, p90, p99, p999, most = np.percentile(1e3 * seconds, (50, 90, 99, 99.9, 100)).tolist()
    return Percentiles(p50=p50, p90=p90, p99=p99, p999=p999, max=most)


def jitter(latencies: NDArray[np.float64]) -> Jitter | None:
    """Return how far the latency of a block is from that of the block before; None of fewer than two."""
    if len(latencies) < 2:
        return None
    steps = 1e3 * np.abs(np.diff(latencies))
    return Jitter(mean=float(steps.mean()), p99=float(np.percentile(steps, 99)))
