"""What waits to be sent, and how many bytes may be: the most valuable event goes first."""

from __future__ import annotations

import threading
import time
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass

from hyperline.errors import InputError
from hyperline.runtime.links.event import Event


@dataclass(frozen=True)
class Rate:
    """What a downlink carries. In any stretch of t seconds at most ``burst`` + t × ``bytes_per_second`` bytes.

    Attributes:
        bytes_per_second: in the long run.
        burst: at once, after a silence.
    """

    bytes_per_second: float
    burst: float

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read ``BYTES_PER_SECOND[:BURST]``; without a burst, ten seconds' worth and at least 1 KiB.

        Raises:
            InputError: another form, or a number that is not positive.
        """
        rate, _, burst = text.partition(":")
        try:
            bytes_per_second = float(rate)
            most = float(burst) if burst else max(10 * bytes_per_second, 1024.0)
        except ValueError:
            bytes_per_second = most = 0.0
        if not (0 < bytes_per_second < float("inf") and 0 < most < float("inf")):
            raise InputError(f"downlink {text!r}: expected BYTES_PER_SECOND or BYTES_PER_SECOND:BURST, both positive")
        return cls(bytes_per_second, most)


@dataclass(frozen=True)
class Waiting:
    """An event in an outbox, and the bytes that sending it takes."""

    event: Event
    size: int

    @property
    def rank(self) -> tuple[float, int]:
        """Greater goes first: by value, of equal ones the older."""
        return (self.event.value, -self.event.sequence)


class Downlink:
    """The byte budget of the links that share a radio: a bucket that fills at the rate and holds the burst.

    Of all outboxes that have something to send and a link that is up and asks, the one with the most valuable event
    is served. A link that is down asks for nothing and holds nobody up.
    """

    def __init__(self, rate: Rate | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with a full bucket.

        Args:
            rate: None for no limit.
            clock: seconds that never go back.
        """
        self.rate = rate
        self._clock = clock
        self._bytes = rate.burst if rate else float("inf")
        self._filled = clock()
        self.changed = threading.Condition()
        self.asking: set[Outbox] = set()

    def spend(self, size: int) -> bool:
        """Take bytes out of the bucket, or return False where it holds fewer."""
        with self.changed:
            if size > self._level():
                return False
            self._bytes -= size
            return True

    def wait_for(self, size: int) -> float:
        """Return the seconds until the bucket holds as many bytes; 0 where it does."""
        missing = size - self._level()
        return missing / self.rate.bytes_per_second if self.rate and missing > 0 else 0.0

    def _level(self) -> float:
        if self.rate:
            now = self._clock()
            self._bytes = min(self._bytes + (now - self._filled) * self.rate.bytes_per_second, self.rate.burst)
            self._filled = now
        return self._bytes


class Outbox:
    """The bounded queue of one link, the most valuable event first. ``put`` never waits.

    Attributes:
        dropped: events that were less valuable than all that stayed, or larger than the burst.
        peak: the most that ever waited.
    """

    def __init__(self, downlink: Downlink, capacity: int) -> None:
        """Share a downlink.

        Args:
            downlink: the budget.
            capacity: events that may wait.
        """
        self._downlink = downlink
        self._capacity = capacity
        self._waiting: list[Waiting] = []  # ascending by rank
        self._closing = False
        self.dropped = self.peak = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, *items: Waiting) -> None:
        """Add events; where there are too many, the least valuable is dropped and counted."""
        rate = self._downlink.rate
        with self._downlink.changed:
            for item in items:
                if rate and item.size > rate.burst:
                    self.dropped += 1
                    continue
                insort(self._waiting, item, key=lambda waiting: waiting.rank)
                if len(self._waiting) > self._capacity:
                    del self._waiting[0]
                    self.dropped += 1
            self.peak = max(self.peak, len(self._waiting))
            self._downlink.changed.notify_all()

    def get(self, most: int, timeout: float) -> list[Waiting]:
        """Take up to ``most`` events that the budget allows, in order of value; their bytes are spent.

        Args:
            most: the longest list wanted.
            timeout: seconds to wait for one event.

        Returns:
            The events; none after the timeout, or at once where the outbox is empty and was closed.
        """
        downlink = self._downlink
        deadline = time.monotonic() + timeout
        with downlink.changed:
            downlink.asking.add(self)
            try:
                while True:
                    taken = self._affordable(most)
                    left = deadline - time.monotonic()
                    if taken or left <= 0 or (self._closing and not self._waiting):
                        return taken
                    if self._waiting and self._is_first():
                        # A little longer, for a wait may end a rounding too early.
                        left = min(left, downlink.wait_for(self._waiting[-1].size) + 0.001)
                    downlink.changed.wait(left)
            finally:
                downlink.asking.discard(self)
                downlink.changed.notify_all()

    def _affordable(self, most: int) -> list[Waiting]:
        taken: list[Waiting] = []
        while self._waiting and len(taken) < most and self._is_first() and self._downlink.spend(self._waiting[-1].size):
            taken.append(self._waiting.pop())
        return taken

    def _is_first(self) -> bool:
        rank = self._waiting[-1].rank
        return all(
            other is self or not other._waiting or other._waiting[-1].rank <= rank for other in self._downlink.asking
        )

    def close(self) -> None:
        """Say that nothing more will be put; what waits may still be taken."""
        with self._downlink.changed:
            self._closing = True
            self._downlink.changed.notify_all()

    @property
    def finished(self) -> bool:
        """Whether it was closed and is empty."""
        return self._closing and not self._waiting
