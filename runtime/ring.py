"""The bounded ring between the thread that takes lines from the source and the loop that classifies them.

All memory is allocated before the first line. A line is copied once, into its slot; what the loop takes is the slot.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.runtime.sources import Line

Policy = Literal["block", "drop-oldest", "drop-newest"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

# A camera's lines are in band order: so many bands at a time are transposed within the first cache, four times as fast.
_BANDS_AT_A_TIME = 16

# What a slot holds.
LINE, WRONG_SIZE = 0, 1


def parity(array: NDArray[Any]) -> int:
    """Fold an array into one word: any single flipped bit changes it. 50 GB/s, a CRC-32 does 6.

    Args:
        array: contiguous, of any dtype.
    """
    data = array.reshape(-1).view(np.uint8)
    whole = data.size // 8 * 8
    word = int(np.bitwise_xor.reduce(data[:whole].view(np.uint64))) if whole else 0
    return word ^ int.from_bytes(data[whole:].tobytes(), "little")


def _copy(target: NDArray[Any], values: NDArray[Any]) -> None:
    """Copy a line, (sample, band), whichever of the two lies closer in its memory."""
    bands = values.shape[1]
    step = _BANDS_AT_A_TIME if values.strides[0] < values.strides[1] else bands
    for start in range(0, bands, step):
        np.copyto(target[:, start : start + step], values[:, start : start + step], casting="unsafe")


@dataclass(slots=True)
class Slot:
    """One line in the ring.

    Attributes:
        values: (sample, band), as the source gave it; stale where ``kind`` says that it had the wrong size.
        truth: (sample,) class ids, 0 where unknown.
        kind: ``LINE`` or ``WRONG_SIZE``.
        index, arrived, timestamp_ns, dark: of the `Line`.
        parity: of ``values``, from when it came in.
    """

    values: NDArray[Any]
    truth: NDArray[np.uint8]
    kind: int = LINE
    index: int = 0
    arrived: float = 0.0
    timestamp_ns: int | None = None
    dark: bool = False
    parity: int = 0

    def intact(self) -> bool:
        """Return whether the values are still those that came in."""
        return self.kind != LINE or self.parity == parity(self.values)


class LineRing:
    """One thread puts, one takes.

    Attributes:
        received: lines put.
        dropped: lines that gave way to others, by the policy.
        taken: lines that the loop took.
        deepest: most lines that ever waited.
    """

    def __init__(self, slots: int, samples: int, bands: int, dtype: np.dtype[Any], policy: Policy = "block") -> None:
        """Allocate.

        Args:
            slots: lines that may wait, beside the one that the loop holds.
            samples: of a line.
            bands: of a line.
            dtype: of a line.
            policy: what happens to a line that finds the ring full: it waits (``block``, for files), takes the place of
                the oldest that waits (``drop-oldest``), or is dropped itself (``drop-newest``).

        Raises:
            InputError: no slot, or no such policy.
        """
        if slots < 1:
            raise InputError(f"a ring needs at least one slot, not {slots}")
        if policy not in POLICIES:
            raise InputError(f"no policy is called {policy!r}; there are: {', '.join(POLICIES)}")
        values = np.zeros((slots + 1, samples, bands), dtype)
        truth = np.zeros((slots + 1, samples), np.uint8)
        self._slots = [Slot(*pair) for pair in zip(values, truth, strict=True)]
        self._free = deque(range(slots + 1))
        self._ready: deque[int] = deque()
        self._slots_waiting = slots
        self.policy = policy
        self._changed = threading.Condition()
        self._held: int | None = None
        self._ended = self._abandoned = False
        self._failure: BaseException | None = None
        self.received = self.dropped = self.taken = self.deepest = 0

    def put(self, line: Line) -> None:
        """Copy a line in, by the policy; does nothing once the ring was abandoned."""
        with self._changed:
            self.received += 1
            if len(self._ready) >= self._slots_waiting:
                if self.policy == "drop-newest":
                    self.dropped += 1
                    return
                if self.policy == "drop-oldest":
                    self._free.append(self._ready.popleft())
                    self.dropped += 1
                else:
                    self._changed.wait_for(lambda: len(self._ready) < self._slots_waiting or self._abandoned)
            if self._abandoned:
                self.dropped += 1
                return
            number = self._free.popleft()
        slot = self._slots[number]
        slot.index, slot.arrived, slot.timestamp_ns = line.index, line.arrived, line.timestamp_ns
        slot.dark = line.dark
        slot.kind = LINE if line.values.shape == slot.values.shape else WRONG_SIZE
        if slot.kind == LINE:
            _copy(slot.values, line.values)
            slot.parity = parity(slot.values)
        slot.truth[:] = 0 if line.truth is None or slot.kind != LINE else line.truth
        with self._changed:
            self._ready.append(number)
            self.deepest = max(self.deepest, len(self._ready))
            self._changed.notify_all()

    def fill(self, source: Iterable[Line]) -> None:
        """Take all lines of a source; whatever it raises reaches the thread that takes."""
        try:
            for line in source:
                self.put(line)
                if self._abandoned:
                    break
        except BaseException as error:
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def take(self, timeout: float | None = None) -> Slot | None:
        """Return the oldest line; it is the loop's until the next call.

        Args:
            timeout: seconds to wait for one; None for as long as it takes.

        Returns:
            None where the source has ended, or none came in time.
        """
        with self._changed:
            if self._held is not None:
                self._free.append(self._held)
                self._held = None
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._ready or self._ended, timeout)
            if self._ready:
                self._held = self._ready.popleft()
                self.taken += 1
                self._changed.notify_all()
                return self._slots[self._held]
            return None

    def check(self) -> None:
        """Raise what ended the source, if it was not its end.

        Raises:
            BaseException: what the source raised.
        """
        if self._failure is not None:
            raise self._failure

    @property
    def ended(self) -> bool:
        """Whether the source has ended and every line was taken."""
        with self._changed:
            return self._ended and not self._ready

    def settle(self) -> tuple[int, int]:
        """Return the lines received and dropped, at one moment."""
        with self._changed:
            return self.received, self.dropped

    @property
    def waiting(self) -> int:
        """Lines that wait now."""
        return len(self._ready)

    def abandon(self) -> int:
        """Take no more: lines that wait, and those still to come, are dropped.

        Returns:
            How many waited.
        """
        with self._changed:
            self._abandoned = True
            waited = len(self._ready)
            self.dropped += waited
            while self._ready:
                self._free.append(self._ready.popleft())
            self._changed.notify_all()
            return waited
