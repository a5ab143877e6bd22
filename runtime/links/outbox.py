"""What waits to be sent, and how many bytes may be: the most valuable event goes first."""

from __future__ import annotations

import threading
import time
from bisect import insort
from collections.abc import Callable, Iterable
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
class Paid:
    """An event to send now, and the bytes that were spent for it."""

    event: Event
    size: int


def _rank(event: Event) -> tuple[float, int]:
    """Greater goes first: by value, of equal ones the older."""
    return (event.value, -event.sequence)


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

    def __init__(self, downlink: Downlink, capacity: int, size: Callable[[Event], int]) -> None:
        """Share a downlink.

        Args:
            downlink: the budget.
            capacity: events that may wait.
            size: says how many bytes an event takes on the link.
        """
        self._downlink = downlink
        self._capacity = capacity
        self._size = size
        self._waiting: list[Event] = []  # ascending by rank
        self._closing = False
        self.dropped = self.peak = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, events: Iterable[Event]) -> None:
        """Add events; where there are too many, the least valuable is dropped and counted."""
        with self._downlink.changed:
            for event in events:
                insort(self._waiting, event, key=_rank)
                if len(self._waiting) > self._capacity:
                    del self._waiting[0]
                    self.dropped += 1
            self.peak = max(self.peak, len(self._waiting))
            self._downlink.changed.notify_all()

    def get(self, most: int, timeout: float) -> list[Paid]:
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
                    taken: list[Paid] = []
                    wait = deadline - time.monotonic()
                    while self._is_first() and len(taken) < most:
                        paid = Paid(self._waiting[-1], self._size(self._waiting[-1]))
                        if downlink.rate and paid.size > downlink.rate.burst:
                            self._waiting.pop()
                            self.dropped += 1
                        elif downlink.spend(paid.size):
                            taken.append(paid)
                            self._waiting.pop()
                        else:
                            # A little longer, for a wait may end a rounding too early.
                            wait = min(wait, downlink.wait_for(paid.size) + 0.001)
                            break
                    if taken or wait <= 0 or (self._closing and not self._waiting):
                        return taken
                    downlink.changed.wait(wait)
            finally:
                downlink.asking.discard(self)
                downlink.changed.notify_all()

    def _is_first(self) -> bool:
        """Whether the most valuable event of all outboxes that ask waits here."""
        return bool(self._waiting) and all(
            not other._waiting or _rank(other._waiting[-1]) <= _rank(self._waiting[-1])
            for other in self._downlink.asking
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
