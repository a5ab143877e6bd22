"""Tell systemd that the strip is flown, and only while it truly is.

A process that hangs looks alive. So a stage that is stuck ends the strokes: the loop, when lines wait and none is
taken; the writer, when blocks wait and the disk does not fail; the source, when a rate was promised and no line comes.
systemd then starts the service again, and ``--resume`` goes on (`packaging/hyperline@.service`).

The protocol is that of sd_notify(3): datagrams of ``NAME=value`` to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_LOG = logging.getLogger(__name__)


@dataclass
class Stage:
    """One part of the flight, as the watchdog sees it.

    Attributes:
        limit: seconds that it may stand still while it has something to do.
        busy: whether it has something to do.
        progress: a count of what it did.
    """

    limit: float
    busy: Callable[[], bool]
    progress: Callable[[], int]
    _seen: int = -1
    _since: float = 0.0

    def late(self, now: float) -> bool:
        """Return whether it has stood still for too long; one with nothing to do never has."""
        progress = self.progress()
        if progress != self._seen or not self.busy():
            self._seen, self._since = progress, now
        return now - self._since > self.limit


class Watchdog:
    """Strokes systemd's watchdog while all stages are in their limits.

    Attributes:
        strokes: given so far.
        stuck: names of the stages that were late at the last look.
    """

    def __init__(self, stages: Mapping[str, Stage], status: Callable[[], str]) -> None:
        """Look at the environment; without a NOTIFY_SOCKET nothing is ever sent.

        Args:
            stages: by name.
            status: one line for ``systemctl status``.
        """
        self._stages, self._status = stages, status
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        own = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = os.environ.get("WATCHDOG_USEC", "0") if own else "0"
        self._interval = int(microseconds) / 2e6 if microseconds.isdigit() else 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.strokes = 0
        self.stuck: tuple[str, ...] = ()

    def start(self) -> None:
        """Say READY, and begin to stroke where systemd asked for it."""
        if not self._address:
            return
        self._send("READY=1")
        self._thread = threading.Thread(target=self._run, name="hyperline-watchdog", daemon=True)
        self._thread.start()

    def look(self) -> bool:
        """Return whether every stage is in its limits."""
        now = time.monotonic()
        stuck = tuple(name for name, stage in self._stages.items() if stage.late(now))
        if stuck and stuck != self.stuck:
            _LOG.warning("stuck: %s; the watchdog is not stroked", ", ".join(stuck))
        self.stuck = stuck
        return not stuck

    def _run(self) -> None:
        while not self._ended.wait(self._interval or 5.0):
            message = f"STATUS={self._status()}"
            if self.look() and self._interval:
                message += "\nWATCHDOG=1"
                self.strokes += 1
            self._send(message)

    def _send(self, message: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
                channel.sendto(message.encode(), self._address)
        except OSError as error:  # systemd is busy or gone; the strip goes on
            _LOG.debug("sd_notify: %s", error)

    def close(self) -> None:
        """Say STOPPING and end."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._send("STOPPING=1")
