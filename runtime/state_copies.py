"""Copies of the carried state, made once a block and shared by all who need one.

The guard goes back to a copy where the state was damaged, and the writer puts the same copy into the checkpoint: each
may be the last to let go of it. Another copy for either would be another pass over memory that the step has left cold.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray


class StateCopy:
    """A copy of a state; whoever holds it releases it once.

    Attributes:
        state: flat float32.
        word: its `parity` when it was made, where somebody asked for that.
    """

    __slots__ = ("_free", "_holders", "_lock", "state", "word")

    def __init__(self, state: NDArray[np.float32], lock: threading.Lock, free: list[StateCopy]) -> None:
        self.state = state
        self.word = 0
        self._holders, self._lock, self._free = 0, lock, free

    def hold(self) -> StateCopy:
        """Keep it from being used again until one more `release`."""
        with self._lock:
            self._holders += 1
        return self

    def release(self) -> None:
        """Let go of it."""
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._free.append(self)  # the next to be taken, while its memory is in the cache


class StateCopies:
    """The memory for copies of one strip's state; all of it is there before the first line."""

    def __init__(self, size: int) -> None:
        """Begin without any.

        Args:
            size: floats of the state.
        """
        self._size = size
        self._lock = threading.Lock()
        self._free: list[StateCopy] = []

    def reserve(self, count: int) -> None:
        """Allocate as many more."""
        for _ in range(count):
            state = np.empty(self._size, np.float32)
            state.fill(0.0)  # so that the system hands the memory out now
            self._free.append(StateCopy(state, self._lock, self._free))

    def take(self) -> StateCopy:
        """Return a copy that nobody holds, held by the caller; what it holds is of no meaning."""
        with self._lock:
            copy = self._free.pop()
            copy._holders = 1
            return copy
