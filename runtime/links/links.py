"""All that leaves the aircraft during a strip, behind one object that never holds the strip up."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle.card import Card
from hyperline.errors import InputError
from hyperline.runtime.links.components import EventFinder
from hyperline.runtime.links.event import Event, parse_rule
from hyperline.runtime.links.metrics import FlightMetrics
from hyperline.runtime.links.outbox import Downlink, Rate
from hyperline.runtime.links.prometheus import PrometheusServer
from hyperline.runtime.links.specs import make_link, prometheus_address

_LOG = logging.getLogger(__name__)
_MOST_BLOCKS = 32
_LOOK = 0.01  # seconds between two looks for blocks
_LATEST = 50
_MOST_BLOCK_BYTES = 64 << 20  # of all waiting blocks, where a block is large


class _Slot:
    """A copy of one block's outputs.

    Whole blocks are copied as bytes, because NumPy lets go of the interpreter in a large copy, and the loop would
    then wait for whichever thread took it, by default 5 ms.
    """

    def __init__(self, block_lines: int, samples: int, padded_samples: int) -> None:
        self._samples = samples
        self._labels = np.zeros((block_lines, padded_samples), np.uint8)
        self._confidence = np.zeros((block_lines, padded_samples), np.float32)
        self._times = np.zeros(block_lines)
        self._bytes = self._labels.data.cast("B"), self._confidence.data.cast("B")
        self.first_line = self._count = 0

    def fill(
        self,
        first_line: int,
        labels: NDArray[np.uint8],
        confidence: NDArray[np.float32],
        count: int,
        times: Sequence[float] | NDArray[np.float64] | float,
    ) -> None:
        if not 0 < count <= len(self._labels):
            raise ValueError(f"{count} lines in a block of {len(self._labels)}")
        if not isinstance(times, float) and len(times) < count:
            raise ValueError(f"{len(times)} timestamps for {count} lines")
        self._copy(self._labels, self._bytes[0], labels, count)
        self._copy(self._confidence, self._bytes[1], confidence, count)
        self._times[:count] = times if isinstance(times, float) else times[:count]
        self.first_line, self._count = first_line, count

    def _copy(self, target: NDArray[Any], data: memoryview, source: NDArray[Any], count: int) -> None:
        if source.shape == target.shape and source.dtype == target.dtype and source.flags.c_contiguous:
            data[:] = source.data.cast("B")
        else:
            target[:count, : self._samples] = source[:count, : self._samples]

    @property
    def labels(self) -> NDArray[np.uint8]:
        return self._labels[: self._count, : self._samples]

    @property
    def confidence(self) -> NDArray[np.float32]:
        return self._confidence[: self._count, : self._samples]

    @property
    def times(self) -> NDArray[np.float64]:
        return self._times[: self._count]


class Links:
    """Finds events in the blocks of a strip and hands them to the links; serves metrics.

    ``offer`` and ``observe`` are for the loop that flies: they copy and count, wait for nothing and raise nothing. One
    thread finds events; each link sends from a thread of its own.

        links = Links(["jsonl:events.jsonl", "mqtt://10.0.0.2/uav1"], card, samples, events=["Corn:0.9:20"])
        links.offer(first_line, outputs.labels, outputs.confidence, block.count, times)     # after each block
        links.observe(received, classified, dropped, rejected, latency_seconds)             # likewise
        links.close(timeout=5.0)
        summary["links"] = links.report()

    Attributes:
        metrics: of the flight.
        latest: the latest events, whatever became of them on their links.
    """

    def __init__(
        self,
        specs: Sequence[str],
        card: Card,
        samples: int,
        *,
        events: Sequence[str] = (),
        downlink: str | None = None,
        queue: int = 1024,
        most_open: int = 1024,
    ) -> None:
        """Check everything that can be checked before the flight, and start.

        Args:
            specs: the links, as in ``specs.FORMS``.
            card: of the model: block_lines, sample_multiple, class_names.
            samples: cross-track samples of a line.
            events: what makes an event: ``CLASS:CONFIDENCE:PIXELS[:WEIGHT]``.
            downlink: byte budget of all radio links together: ``BYTES_PER_SECOND[:BURST]``.
            queue: events that may wait for a link.
            most_open: connected areas that may be followed at a time.

        Raises:
            InputError: a link, rule or budget that cannot be; a library that is not installed.
            HyperlineError: the address for metrics is taken.
        """
        rules = [parse_rule(text, card.class_names) for text in events]
        self._finder = EventFinder(rules, card.class_names, samples, most_open)
        self.metrics = FlightMetrics()
        self.latest: deque[Event] = deque(maxlen=_LATEST)
        addresses = [(spec, prometheus_address(spec)) for spec in specs]
        self._links = [make_link(spec) for spec, address in addresses if address is None]
        if self._links and not rules:
            raise InputError(f"{self._links[0].name} would have nothing to say: say what makes an event, with --events")
        names = [link.name for link in self._links]
        if len(set(names)) < len(names):
            raise InputError(f"two links are {next(name for name in names if names.count(name) > 1)}; give one")
        radio, free = Downlink(Rate.parse(downlink) if downlink else None), Downlink(None)
        for link in self._links:
            link.join_downlink(radio if link.radio else free, queue)
            size = len(link.encode(_largest(card.class_names)))
            if link.radio and radio.rate and size > radio.rate.burst:
                raise InputError(
                    f"downlink {downlink}: one event over {link.name} may take {size} bytes, more than the burst of "
                    f"{radio.rate.burst:.0f}; give a larger one: BYTES_PER_SECOND:BURST"
                )

        padded = -(-samples // card.sample_multiple) * card.sample_multiple
        slots = min(max(_MOST_BLOCK_BYTES // (5 * card.block_lines * padded), 2), _MOST_BLOCKS)
        # Deques, and a thread that looks: to wake it would cost the loop as much as all the rest of an offer.
        self._free = deque(_Slot(card.block_lines, samples, padded) for _ in range(slots))
        self._filled: deque[_Slot] = deque()
        self._offered = self._dropped = self._failed = 0
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="hyperline events", daemon=True)
        self._servers: list[PrometheusServer] = []
        try:
            for _, address in addresses:
                if address is not None:
                    self._servers.append(PrometheusServer(*address, self.metrics, card.class_names, self.report))
        except BaseException:
            self._close_servers()
            raise
        for link in self._links:
            link.start()
        self._worker.start()

    @property
    def metrics_ports(self) -> list[int]:
        """The ports on which metrics are served."""
        return [server.port for server in self._servers]

    def offer(
        self,
        first_line: int,
        labels: NDArray[np.uint8],
        confidence: NDArray[np.float32],
        count: int,
        timestamps: Sequence[float] | NDArray[np.float64] | None = None,
    ) -> None:
        """Copy one block for the links; where too many wait, the block is dropped for them and counted.

        Args:
            first_line: number of its first line in the strip.
            labels: (block_lines, samples or more) uint8; what lies beyond the samples is padding.
            confidence: (block_lines, samples or more) float32.
            count: lines that belong to the strip.
            timestamps: (count or more,) UNIX seconds of its lines; None for now.
        """
        self._offered += 1
        if self._closed:
            self._dropped += 1
            return
        try:
            slot = self._free.popleft()
        except IndexError:
            self._dropped += 1
            return
        try:
            slot.fill(first_line, labels, confidence, count, time.time() if timestamps is None else timestamps)
        except Exception as error:
            # A block that does not fit is the links' loss, not the strip's.
            self._free.append(slot)
            self._failed += 1
            _LOG.warning("the links cannot take the block from line %s: %s", first_line, error)
            return
        self._filled.append(slot)

    def observe(
        self, received: int, classified: int, dropped: int, rejected: int, latency_seconds: float | None = None
    ) -> None:
        """Set the strip's totals of lines, and count the latency of one block."""
        metrics = self.metrics
        metrics.received, metrics.classified = received, classified
        metrics.dropped, metrics.rejected = dropped, rejected
        if latency_seconds is not None:
            metrics.observe_latency(latency_seconds)

    def report(self) -> dict[str, Any]:
        """Return the counters, also while the strip is flown; after ``close`` what is queued was never sent."""
        finder = self._finder
        return {
            "blocks": {
                "offered": self._offered,
                "dropped": self._dropped,
                "failed": self._failed,
                "queued": len(self._filled),
            },
            "events": {"found": finder.found, "small": finder.small, "cut": finder.cut},
            "links": {link.name: link.report() for link in self._links},
        }

    def close(self, timeout: float = 5.0) -> None:
        """End the strip: the areas still open become events, and links get until the timeout to send.

        Args:
            timeout: seconds that this may take, whatever the far ends do; half a second more where metrics are served.
        """
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + timeout
        self._worker.join(timeout)
        for link in self._links:
            link.finish()
        for link in self._links:
            link.join(deadline)
        self._close_servers()

    def _close_servers(self) -> None:
        while self._servers:
            self._servers.pop().close()

    def _work(self) -> None:
        while self._filled or not self._closed:
            if not self._filled:
                time.sleep(_LOOK)
                continue
            slot = self._filled.popleft()
            try:
                if not np.isfinite(slot.times).all():
                    raise ValueError("timestamps that are no numbers")
                np.add(self.metrics.pixels, np.bincount(slot.labels.ravel(), minlength=256), out=self.metrics.pixels)
                self._publish(self._finder.block(slot.first_line, slot.labels, slot.confidence, slot.times))
            except Exception:
                self._failed += 1
                _LOG.exception("the links lost the block from line %d", slot.first_line)
            self._free.append(slot)
        self._publish(self._finder.end())

    def _publish(self, events: Sequence[Event]) -> None:
        self.latest.extend(events)
        if events:
            for link in self._links:
                link.outbox.put(events)


def _largest(class_names: Sequence[str]) -> Event:
    """An event whose every form is as long as one can be."""
    name = max(class_names, key=lambda name: len(name.encode("unicode_escape")))
    most, sure, far = (1 << 32) - 1, 1 - 1e-4 / 3, 12345678901.234
    return Event(
        most,
        255,
        name,
        most,
        sure,
        sure,
        most,
        most,
        65535,
        65535,
        most - 0.01,
        65535 - 0.01,
        far,
        far,
        False,
        1e6 + 0.1,
    )
