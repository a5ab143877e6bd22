"""What a flight says of itself while it goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hyperline.runtime.engines.chain import EngineChain
from hyperline.runtime.flight import Flight
from hyperline.runtime.links import Links
from hyperline.runtime.writer import Writer

# Blocks come some tens of times a second: over a shorter time their number says little of the rate.
_RATE_SECONDS = 1.0


class FlightStatus:
    """Gives the status, from any thread; it reads counters and waits for nothing."""

    def __init__(
        self,
        flight: Flight,
        writer: Writer,
        chain: EngineChain,
        links: Links | None = None,
        watts: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Take what is asked.

        Args:
            flight: the strip's.
            writer: likewise.
            chain: likewise.
            links: likewise.
            watts: what the machine takes now; None without a power sensor.
        """
        self._flight, self._writer, self._chain, self._links, self._watts = flight, writer, chain, links, watts
        self._taken: deque[tuple[float, int]] = deque()

    def __call__(self) -> dict[str, Any]:
        """Return what docs/view.md lists."""
        flight, writer, counters = self._flight, self._writer, self._flight.counters
        now = time.perf_counter()
        dropped = counters.dropped + flight.ring.dropped
        slowest = flight.take_slowest()
        return {
            "seconds": now - flight.started if flight.started else 0.0,
            "engine": self._chain.engine.name,
            "received": flight.received,
            "classified": counters.classified,
            "dropped": dropped,
            "rejected": counters.rejected,
            "lost": counters.lost,
            "unwritten": writer.unwritten,
            "missed": counters.missed,
            "failed": counters.failed,
            "invalid_pixels": counters.invalid_pixels,
            "lines_per_second": self._rate(now, counters.classified),
            "latency_ms": None if slowest is None else 1e3 * slowest,
            "waiting": flight.ring.waiting,
            "blocks_for_disk": writer.waiting,
            "disk_fails": writer.failing,
            "watts": self._watts(),
            "links": self._links.report()["links"] if self._links else {},
            "events": [event.as_dict() for event in self._links.latest.copy()] if self._links else [],
        }

    def _rate(self, now: float, classified: int) -> float | None:
        taken = self._taken
        taken.append((now, classified))
        while now - taken[0][0] > _RATE_SECONDS and len(taken) > 2:
            taken.popleft()
        (then, before), (_, after) = taken[0], taken[-1]
        return (after - before) / (now - then) if now > then else None
