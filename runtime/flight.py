"""The loop: lines from the ring, blocks through the engine, labels to the writer, and every line accounted for.

Three threads: one takes lines from the source into the ring, this one classifies, one writes
(`hyperline.runtime.writer`). In steady state none of them allocates memory that grows: ring, block, results and copies
of the state are made before the first line.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle.card import Card
from hyperline.errors import HyperlineError
from hyperline.metrics import confusion_matrix
from hyperline.radiometry import Radiometry
from hyperline.runtime.blocks import Block, BlockAssembler
from hyperline.runtime.counters import Counters
from hyperline.runtime.engines.chain import EngineChain
from hyperline.runtime.feed import FeedWriter
from hyperline.runtime.guarded_step import GuardedStep
from hyperline.runtime.guards import StateGuard
from hyperline.runtime.links import Links
from hyperline.runtime.quicklook import Quicklook
from hyperline.runtime.records import Record
from hyperline.runtime.ring import WRONG_SIZE, LineRing, Policy, Slot
from hyperline.runtime.sources import Line, Source
from hyperline.runtime.spectra import ClassSpectra
from hyperline.runtime.state_copies import StateCopies, StateCopy
from hyperline.runtime.unknown import UnknownPixels
from hyperline.runtime.writer import Writer
from hyperline.sensor import BandResampling, SensorCorrection, bin_labels

_LOG = logging.getLogger(__name__)

# How often the loop looks whether it is to stop while no line comes.
_POLL_SECONDS = 0.1
_JOIN_SECONDS = 1.0


@dataclass(frozen=True)
class LoopOptions:
    """How to fly.

    Attributes:
        policy: what a full ring does (`LineRing`); None blocks a file that is not paced, and drops the oldest line
            of anything else.
        ring_lines: lines that may wait; None for four blocks.
        max_gap: lines lost in a row that are filled with invalid ones; a longer gap starts the strip's state anew. None
            for eight blocks.
        deadline: seconds from a block's last line to its labels; a block above it counts as missed. None for the time
            in which a block arrives.
        guards: whether state, weights and lines are guarded against flipped bits, and the self-test is repeated.
        self_test_every: blocks between two self-tests on the golden block, which wait for a moment without a line to
            take, but not for more than as many blocks again; 0 for none in flight.
        result_blocks: classified blocks that may wait for the disk.
        quicklook: whether the strip leaves one.
    """

    policy: Policy | None = None
    ring_lines: int | None = None
    max_gap: int | None = None
    deadline: float | None = None
    guards: bool = True
    self_test_every: int = 500
    result_blocks: int = 64
    quicklook: bool = True


class Flight:
    """One strip in flight.

    Attributes:
        copies: of the carried state; the writer's are to be reserved.
        counters: up to now.
        confusion: of the labels against the source's truth.
        latest: the furthest that a line was taken over behind its due time, seconds.
        interrupted: whether the flight ended before the source did.
        started: when it began, `time.perf_counter`.
        first_arrived: when its first line arrived, likewise.
    """

    def __init__(
        self,
        source: Source,
        chain: EngineChain,
        card: Card,
        options: LoopOptions,
        correction: SensorCorrection | None = None,
        resampling: BandResampling | None = None,
        *,
        links: Links | None = None,
        quicklook: Quicklook | None = None,
        spectra: ClassSpectra | None = None,
        unknown: UnknownPixels | None = None,
        map_line: int = 0,
        counters: Counters | None = None,
        confusion: NDArray[np.int64] | None = None,
        next_index: int = 0,
        state: NDArray[np.float32] | None = None,
    ) -> None:
        """Allocate everything.

        Args:
            source: of lines.
            chain: the engines.
            card: of the model.
            options: how to fly.
            correction: of the sensor, for a source of raw lines.
            resampling: of its bands, for a source that does not show the model's as they stand.
            links: where events go.
            quicklook: makes it, for a strip that leaves one.
            spectra: takes those of the classes.
            unknown: marks the pixels that are.
            map_line: line of the map at which the flight begins.
            counters: of a checkpoint, to go on from it; likewise the next three.
            confusion: up to there.
            next_index: of the line that comes next.
            state: of the engine.
        """
        self._radiometry = radiometry = Radiometry(
            source.samples,
            source.bands,
            scale=source.scale,
            model_scale=card.scale,
            nodata=source.nodata,
            correction=correction,
            resampling=resampling,
        )
        block = card.block_lines
        paced = source.rate is not None  # what nothing paces can wait
        self._source, self._chain = source, chain
        self._assembler = BlockAssembler(block, radiometry, card.sample_multiple)
        self._ring = LineRing(
            options.ring_lines or (4 * block if paced else block),
            source.samples,
            source.bands,
            source.dtype,
            options.policy or ("drop-oldest" if paced else "block"),
        )
        self._paced = paced
        self._links, self._quicklook, self._spectra, self._map_line = links, quicklook, spectra, map_line
        self._unknown = unknown
        self._feed: FeedWriter | None = None
        self._slowest: float | None = None
        self._max_gap = 8 * block if options.max_gap is None else options.max_gap
        interval = block / source.rate if source.rate else float("inf")
        self._patience = interval
        self._deadline = interval if options.deadline is None else options.deadline
        self._truth = np.zeros((block, radiometry.samples), np.uint8)
        self._bin_samples = source.samples // radiometry.samples
        self.copies = StateCopies(chain.engine.card.state_bytes(self._assembler.padded_samples) // 4)
        self._guard = StateGuard(self.copies) if options.guards else None
        self._step = GuardedStep(chain, self._guard, self._assembler.padded_samples)
        self.copies.reserve(StateGuard.COPIES)
        self._test_every = options.self_test_every if options.guards else 0
        self._untested = 0  # blocks since the last self-test
        self._unvouched = 0  # lines classified since then
        self._next = next_index  # index of the line that comes next
        self._usable = 0  # lines in the block that is being put together
        self._in_flight = 0  # lines in the block that is being classified
        self._stamps = [0, 0]
        self._flags = 0
        self._ended = threading.Event()
        classes = len(card.class_names)
        self.counters = counters or Counters()
        self.confusion = np.zeros((classes, classes + 1), np.int64) if confusion is None else confusion
        self.latest = 0.0
        self.interrupted = True
        self.started = self.first_arrived = self._arrived = 0.0
        self._before, self._dropped_before = self.counters.received, self.counters.dropped
        engine = chain.engine
        engine.reset(self._assembler.padded_samples)
        if state is not None:
            engine.load_state(state)
        self._trusted = engine.state.copy()  # of the last self-test that passed, or of the strip's start
        self._guarded_start()

    @property
    def samples(self) -> int:
        """Samples of the map."""
        return self._radiometry.samples

    @property
    def ring(self) -> LineRing:
        """The ring."""
        return self._ring

    @property
    def received(self) -> int:
        """Lines that the source handed over so far, in the parts before this one too."""
        return self._before + self._ring.received

    @property
    def unknown(self) -> dict[str, Any] | None:
        """What is unknown so far, as summary.json says it; None where it was not asked for."""
        one = self._unknown
        if one is None:
            return None
        return {"rate": one.rate, "energy_above": one.threshold, "pixels": self.counters.unknown_pixels}

    def take_slowest(self) -> float | None:
        """Return the longest latency of a block since the last call, seconds; None where there was no block."""
        slowest, self._slowest = self._slowest, None
        return slowest

    def show(self, feed: FeedWriter) -> None:
        """Show every line from now on; the strip has a quicklook."""
        self._feed = feed

    def fly(self, writer: Writer, stop: threading.Event) -> None:
        """Classify until the source ends or ``stop`` is set, then the last, partial block.

        Raises:
            HyperlineError: no engine is left, or writing failed and the source is one that waits.
        """
        self.started = self.first_arrived = time.perf_counter()
        taker = threading.Thread(
            target=self._ring.fill, args=(self._until(stop),), name="hyperline-source", daemon=True
        )
        taker.start()
        try:
            first = True
            while not self._ring.ended:
                if stop.is_set():
                    self._source.close()  # it may be waiting for a line
                slot = self._ring.take(_POLL_SECONDS)
                if slot is None:
                    continue
                if first:
                    self.first_arrived, first = slot.arrived, False
                self._take(slot, writer)
            self._ring.check()
            self.interrupted = stop.is_set()
            if not self.interrupted:
                self._fill_to_end(writer)
            block = self._assembler.flush()
            if block is not None:
                self._classify(block, writer)
            if self._test_every and self._untested:
                self._test()
        finally:
            self._ended.set()
            self._source.close()
            self._ring.abandon()
            taker.join(_JOIN_SECONDS)  # one that is stuck in its source is left to it
            self._settle()

    def _until(self, stop: threading.Event) -> Iterator[Line]:
        """Give the source's lines until the flight is to stop."""
        for line in self._source:
            yield line
            if stop.is_set() or self._ended.is_set():
                return

    def _settle(self) -> None:
        """Bring the counters to where every received line has one fate."""
        counters, ring = self.counters, self._ring
        received, dropped = ring.settle()
        counters.received = self._before + received
        counters.invalid_pixels += self._assembler.invalid_pixels
        radiometry = self._radiometry
        counters.saturated_pixels += radiometry.saturated_pixels
        counters.dark_updates += radiometry.dark_updates
        counters.dark_refusals += radiometry.dark_refusals
        self._assembler.invalid_pixels = radiometry.saturated_pixels = 0
        radiometry.dark_updates = radiometry.dark_refusals = 0
        if self._guard is not None:
            counters.state_repaired += self._guard.repaired
            counters.state_rolled_back += self._guard.rolled_back
            self._guard.repaired = self._guard.rolled_back = 0
        counters.dropped += dropped + self._usable + self._in_flight
        self._usable = self._in_flight = 0

    def _take(self, slot: Slot, writer: Writer) -> None:
        counters = self.counters
        now = time.perf_counter()
        arrived = slot.arrived if self._paced else now
        self.latest = max(self.latest, now - arrived)
        counters.late_lines += now - arrived > self._patience
        if slot.index < self._next:
            counters.rejected += 1
            counters.duplicates += 1
            return
        if slot.index - self._next > self._max_gap:
            self._begin_anew(writer)
            counters.lost += slot.index - self._next
        else:
            self._fill(slot.index, writer)
        self._next = slot.index + 1
        self._arrived = arrived
        row = self._assembler.pending
        if slot.timestamp_ns is not None:
            self._stamps[1] = slot.timestamp_ns
            if row == 0:
                self._stamps[0] = slot.timestamp_ns
        guarded = self._guard is not None
        if slot.kind == WRONG_SIZE:
            intact, block = False, self._skip()
        elif slot.dark:
            intact = not guarded or slot.intact()
            block = self._see_dark(slot) if intact else self._skip()
        else:
            block, intact = self._assembler.push(slot.values, slot.intact if guarded else None)
            self._truth[row] = bin_labels(slot.truth, self._bin_samples) if intact else 0
            self._usable += intact
        if not intact:
            counters.rejected += 1
            counters.damaged += slot.kind != WRONG_SIZE
        self._place(block, writer)

    def _see_dark(self, slot: Slot) -> Block | None:
        """Measure the dark; nothing of the ground is in the line, which takes its place all the same."""
        if self._radiometry.follows_dark:
            self._radiometry.update_dark(slot.values)
        elif not self.counters.dark:
            _LOG.warning("the source sends dark lines, and the radiometry has no dark that they could replace")
        self.counters.dark += 1
        self._usable += 1
        return self._skip()

    def _fill(self, index: int, writer: Writer) -> None:
        """Keep the places of the lines that are missing before ``index``."""
        while self._next < index:
            self.counters.lost += 1
            self._next += 1  # a checkpoint within the gap goes on within it
            self._place(self._skip(), writer)

    def _fill_to_end(self, writer: Writer) -> None:
        """Keep the places of lines that were lost behind the last that came, so that the map has its full length."""
        end = self._source.end
        if end is None:
            return
        missing = end - self._next
        if missing <= self._max_gap:
            self._fill(end, writer)
        else:
            self.counters.lost += missing
            _LOG.warning("the strip's last %d lines are missing, and not in the map: --max-gap fills more", missing)

    def _skip(self) -> Block | None:
        self._truth[self._assembler.pending] = 0
        return self._assembler.skip()

    def _place(self, block: Block | None, writer: Writer) -> None:
        if block is not None:
            self._classify(block, writer)

    def _begin_anew(self, writer: Writer) -> None:
        """End the block as the end of a strip would, and start from zero state."""
        self._place(self._assembler.flush(), writer)
        self._chain.engine.reset(self._assembler.padded_samples)
        np.copyto(self._trusted, self._chain.engine.state)
        self._guarded_start()
        self.counters.resets += 1
        self._flags |= Record.RESET
        _LOG.warning("more than %d lines are missing before line %d: the state begins anew", self._max_gap, self._next)

    def _guarded_start(self) -> None:
        if self._guard is not None:
            self._guard.start(self._chain.engine.state)

    def _classify(self, block: Block, writer: Writer) -> None:
        counters = self.counters
        self._in_flight, self._usable = self._usable, 0
        # While the block is in the processor's caches.
        colours = self._quicklook.of(block) if self._quicklook is not None else None
        outputs = self._step.classify(block, self.counters)
        if outputs is None:
            self._flags |= Record.FAILED
            counters.failed += 1
            counters.dropped += self._in_flight
        else:
            counters.classified += self._in_flight
            if self._unknown is not None:
                outputs, pixels = self._unknown.mark(outputs)
                counters.unknown_pixels += pixels
            self._unvouched += self._in_flight
        usable, self._in_flight = self._in_flight, 0
        if outputs is not None and self._source.truth_classes:
            labels = outputs.labels if self._unknown is None else self._unknown.known(outputs.labels)
            labels = labels[: block.count, : self._radiometry.samples]
            self.confusion += confusion_matrix(self._truth[: block.count], labels, len(self.confusion))
        done = time.perf_counter()
        counters.missed += done - self._arrived > self._deadline
        self._slowest = max(self._slowest or 0.0, done - self._arrived)
        state = self._copy_state()
        result = writer.offer(outputs, state, block.count, colours)
        state.release()
        if result is not None:
            result.arrived, result.usable = self._arrived, usable
            result.waiting = self._ring.waiting
            result.dropped = counters.dropped - self._dropped_before + self._ring.dropped
            result.next_index = self._next
            result.timestamps = (self._stamps[0], self._stamps[1])
            result.flags = self._flags
            result.taken = counters.classified + counters.dropped + counters.rejected
            self._flags = 0
            result.facts = {
                "next_index": self._next,
                "counters": asdict(counters) | {"received": result.taken},
                "confusion": self.confusion.tolist() if self._source.truth_classes else None,
            }
            writer.post(result)
        self._stamps = [0, 0]
        if self._spectra is not None and outputs is not None:
            self._spectra.see(block, outputs.labels)
        if self._links is not None:
            if outputs is not None:
                self._links.offer(self._map_line, outputs.labels, outputs.confidence, block.count)
            self._links.observe(
                self.received,
                counters.classified,
                counters.dropped + self._ring.dropped,
                counters.rejected,
                done - self._arrived,
            )
        if self._feed is not None and colours is not None:
            self._feed.offer(self._map_line, block, colours, outputs)
        self._map_line += block.count
        self._untested += 1
        # The golden block takes less time than a block of the strip, and best while none waits for it.
        idle = self._ring.waiting == 0
        if self._test_every and self._untested >= self._test_every * (1 if idle else 2):
            self._test()

    def _copy_state(self) -> StateCopy:
        """Return a copy of the state after a block, to be released; the guard's own where there is one."""
        if self._guard is not None:
            return self._guard.latest.hold()
        copy = self.copies.take()
        np.copyto(copy.state, self._chain.engine.state)
        return copy

    def _test(self) -> None:
        """Test the engine between two blocks, and go on with one that passes.

        Raises:
            HyperlineError: none does.
        """
        counters, chain = self.counters, self._chain
        if self._guard is not None:
            self._guard.check(chain.engine)  # the state is to be gone back to
        try:
            counters.weights_repaired += chain.mend()
            chain.test()
        except HyperlineError as error:
            counters.self_tests_failed += 1
            counters.suspect += self._unvouched
            self._flags |= Record.SUSPECT
            _LOG.warning("%d lines before line %d of the map may be wrong", self._unvouched, self._map_line)
            # What the state took in since the last test that passed is as doubtful as the labels are. It is held over
            # those lines, as over lost ones.
            if not chain.reload(str(error), self._assembler.padded_samples, self._trusted):
                raise
            self._guarded_start()
        else:
            counters.self_tests += 1
            self._flags |= Record.TESTED
            np.copyto(self._trusted, chain.engine.state)
        self._untested = self._unvouched = 0
