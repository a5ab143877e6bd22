"""A link: a thread that takes events from its outbox and sends them, through every failure of the far end."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from hyperline.runtime.links.event import Event
from hyperline.runtime.links.outbox import Downlink, Outbox

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE = 0.25  # seconds before the second try to connect, then twice as long each time
_LONGEST_PAUSE = 15.0
_TURN = 0.25  # seconds that a link waits for an event before it looks after its connection


class Link(ABC):
    """One way out of the aircraft.

    A subclass says how to open, send and close; any exception from these means that the link is down: the events in
    hand go back into the outbox and the link is opened again after a pause that doubles up to 15 s. An event may
    therefore arrive twice (same ``sequence``), and is never lost to a failure that the far end reports.

    Attributes:
        name: for reports; holds no password.
        batch: most events of one ``send``.
        radio: whether its bytes count against the downlink's budget.
        outbox: what waits to be sent.
    """

    batch = 16
    radio = True

    def __init__(self, name: str) -> None:
        """Prepare; nothing is opened before ``start``."""
        self.name = name
        self.outbox: Outbox
        self._thread = threading.Thread(target=self._run, name=f"hyperline {name}", daemon=True)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._up = self._done = False
        self._sent = self._bytes = self._failures = self._opened = self._in_hand = 0
        self._error: str | None = None
        self._downlink: Downlink

    @abstractmethod
    def encode(self, event: Event) -> bytes:
        """Return what would be sent for an event; its length is what the event costs of the budget."""

    @abstractmethod
    def open(self) -> None:
        """Connect; may take seconds."""

    @abstractmethod
    def send(self, events: Sequence[Event]) -> None:
        """Send all of these, or raise; in case of doubt raise."""

    @abstractmethod
    def close(self) -> None:
        """Release what ``open`` made, also half made; called after every failure."""

    def attend(self) -> None:  # noqa: B027  # most links need no attention
        """Look after the connection, at least every quarter of a second while it is up; raise where it is lost."""

    def spend(self, size: int) -> bool:
        """Take bytes of the budget for something that is no event; False where there are not enough."""
        if not self._downlink.spend(size):
            return False
        self._bytes += size
        return True

    def join_downlink(self, downlink: Downlink, capacity: int) -> None:
        """Make the outbox, of ``capacity`` events, on this downlink."""
        self._downlink = downlink
        self.outbox = Outbox(downlink, capacity, lambda event: len(self.encode(event)))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self) -> None:
        """Say that no more events come; a link that waits to connect again tries once more at once."""
        self.outbox.close()
        self._wake.set()

    def join(self, deadline: float) -> None:
        """Wait until all is sent, at most until ``deadline`` (``time.monotonic()``); then the link gives up."""
        self._thread.join(max(deadline - time.monotonic(), 0))
        self._stop.set()

    def report(self) -> dict[str, Any]:
        """Return the counters: events put = sent + dropped + queued, bytes those spent."""
        return {
            "state": self._state(),
            "sent": self._sent,
            "dropped": self.outbox.dropped,
            "queued": len(self.outbox) + self._in_hand,
            "queue_peak": self.outbox.peak,
            "bytes": self._bytes,
            "connections": self._opened,
            "failures": self._failures,
            "error": self._error,
        }

    def _state(self) -> str:
        if self._up:
            return "up"
        if self._done:
            return "closed"
        # Not up and without a fault to show: the first try is still under way.
        return "down" if self._error else "connecting"

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not (self.outbox.finished or self._stop.is_set()):
            sent = self._sent
            try:
                self.open()
                self._opened += 1
                self._up = True
                while not (self.outbox.finished or self._stop.is_set()):
                    self._turn()
            except Exception as error:
                # Whatever went wrong, in a library or at the far end, is the state of this link and of nothing else.
                self._failures += 1
                fault = f"{type(error).__name__}: {error}"
                # Said once, not at every try.
                _LOG.log(logging.DEBUG if fault == self._error else logging.WARNING, "%s is down: %s", self.name, fault)
                self._error = fault
            self._up = False
            try:
                self.close()
            except Exception as error:
                _LOG.debug("%s did not close: %s", self.name, error)
            if self._sent > sent:
                pause = _FIRST_PAUSE
            if not self.outbox.finished:
                self._wake.wait(pause)
                self._wake.clear()
                pause = min(2 * pause, _LONGEST_PAUSE)
        self._done = self.outbox.finished

    def _turn(self) -> None:
        self.attend()
        taken = self.outbox.get(self.batch, _TURN)
        if not taken:
            return
        self._in_hand = len(taken)
        self._bytes += sum(paid.size for paid in taken)
        try:
            self.send([paid.event for paid in taken])
            self._sent += len(taken)
            self._error = None
        except BaseException:
            self.outbox.put(paid.event for paid in taken)
            raise
        finally:
            self._in_hand = 0
