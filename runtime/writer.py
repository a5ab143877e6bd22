"""What becomes of a classified block: images, log and checkpoint, in a thread of its own.

A disk that is slow, full or read-only must not hold up the loop. The loop hands a block over and goes on; the writer
keeps what the disk does not take and tries again, and when its memory is full, later blocks are refused: their place in
the images is filled with zeros, "no class" in the class map, and they are counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import HyperlineError
from hyperline.plugins.native import NativeLibrary, installed_library
from hyperline.runtime.checkpoint import Checkpoint, Checkpoints
from hyperline.runtime.engines import Outputs
from hyperline.runtime.latency import LatencyHistogram
from hyperline.runtime.records import Record, RecordLog
from hyperline.runtime.sinks import EnviSink, ImageForm
from hyperline.runtime.state_copies import StateCopy
from hyperline.runtime.time_line import TimeLine

_LOG = logging.getLogger(__name__)

_RETRY_SECONDS = 0.2
# How long to wait for a failing disk when the strip is over.
_PATIENCE_SECONDS = 5.0
_SYNC_SECONDS = 1.0


@dataclass
class Result:
    """A classified block, in memory that is used again and again.

    Attributes:
        images: what the block adds to each image by its name, padding included, as `EnviSink.write` takes it.
        state: of the engine after it, held until it is in a checkpoint.
        count: lines that belong to the strip.
        skipped: lines before it that were refused.
        arrived: when its last line came.
        usable: lines whose latency counts.
        waiting: lines in the ring when it was classified.
        dropped: lines dropped until then, in this flight.
        next_index, timestamps, flags: for the record.
        taken: lines taken from the ring so far.
        facts: for the checkpoint.
    """

    images: dict[str, NDArray[Any]]
    state: StateCopy | None = None
    count: int = 0
    skipped: int = 0
    arrived: float = 0.0
    usable: int = 0
    waiting: int = 0
    dropped: int = 0
    next_index: int = 0
    timestamps: tuple[int, int] = (0, 0)
    flags: int = 0
    taken: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def image_memory(forms: Sequence[ImageForm], block_lines: int, padded_samples: int) -> dict[str, NDArray[Any]]:
    """Allocate what a block adds to each image, zeros."""
    memory: dict[str, NDArray[Any]] = {}
    for form in forms:
        shape = (1, form.samples) if form.per_block else (block_lines, padded_samples)
        memory[form.name] = np.zeros(shape if form.bands == 1 else (*shape, form.bands), form.dtype)
    return memory


def fill(images: Mapping[str, NDArray[Any]], outputs: Outputs | None, library: NativeLibrary | None) -> None:
    """Copy what an engine says of a block.

    Args:
        images: memory for it, from `image_memory`.
        outputs: of the engine; None where no engine could classify the block.
        library: of the native operators, if there is one.
    """
    if outputs is None:
        for name in images.keys() - {"quicklook"}:
            images[name][...] = 0
        return
    np.copyto(images["classes"], outputs.labels)
    np.copyto(images["confidence"], outputs.confidence)
    # Every engine of a strip runs the same graph, and so gives what the images were made for.
    if outputs.uncertainty is not None:
        if library is not None:
            library.shares_as_bytes(outputs.uncertainty, images["uncertainty"])
        else:
            # A stranger's graph may give anything; what is no number becomes 0.
            shares = np.fmin(np.fmax(outputs.uncertainty, 0), 1)
            np.copyto(images["uncertainty"], shares * np.float32(255) + np.float32(0.5), casting="unsafe")
    if outputs.experts is not None:
        weights = outputs.experts.T  # (expert, scale)
        # A router that sees no pixel picks experts all the same, for nothing.
        np.multiply(weights, outputs.labels.any(), out=images["experts"].reshape(weights.shape))


class Writer:
    """Writes blocks in their order.

    Attributes:
        latency: of lines, from the arrival of a block's last line to its labels in the map.
        time_line: of the strip, from the writer's start.
        unwritten: lines refused because the disk did not keep up.
        outages: times that the disk began to fail.
        first_written: when the first block was in the maps.
        last_written: when the latest was.
    """

    def __init__(
        self,
        sink: EnviSink,
        log: RecordLog,
        checkpoints: Checkpoints,
        results: list[Result],
        *,
        block_lines: int,
        wait: bool,
        serial: int = 0,
        facts: Mapping[str, Any],
        on_progress: Callable[[int], None] | None = None,
        on_written: Callable[[Result, float], None] | None = None,
    ) -> None:
        """Start the thread.

        Args:
            sink: the maps.
            log: of the blocks.
            checkpoints: slots for state and counters.
            results: the memory for blocks that wait; at least two.
            block_lines: the most lines of one of them.
            wait: hold the loop up where the disk does not keep up, and fail where it fails: right for a file, which
                waits, and wrong for a sensor.
            serial: of the checkpoint that was resumed from.
            facts: what every checkpoint says of the strip.
            on_progress: called after a block is in the maps, with the lines taken so far.
            on_written: called with each block as soon as it is in the maps, and when that was; the block's memory is
                used again afterwards.
        """
        self._sink, self._records, self._checkpoints = sink, log, checkpoints
        self._free, self._full = deque(results), deque[Result]()
        self._wait, self._serial, self._on_progress = wait, serial, on_progress
        self._on_written = on_written
        self._facts = facts
        self._block_lines = block_lines
        self._zeros = {name: np.zeros_like(array) for name, array in results[0].images.items()}
        self._library = installed_library()
        self._unlogged: Record | None = None  # of a block that is in the images, and not in the log yet
        self._changed = threading.Condition()
        self._closing = self._stop = False
        self._failure: BaseException | None = None
        self._skipped = 0  # lines refused since the last block that was not
        self._synced = time.monotonic()
        self.latency = LatencyHistogram()
        self.time_line = TimeLine(time.perf_counter())
        self.unwritten = self.outages = 0
        self.first_written: float | None = None
        self.last_written: float | None = None
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="hyperline-writer", daemon=True)
        self._thread.start()

    @property
    def failing(self) -> bool:
        """Whether the disk fails now."""
        return self._failing

    @property
    def waiting(self) -> int:
        """Blocks that wait for the disk."""
        return len(self._full)

    def offer(
        self, outputs: Outputs | None, state: StateCopy, count: int, quicklook: NDArray[np.uint8] | None = None
    ) -> Result | None:
        """Copy a block; the caller fills in the rest and calls `post`.

        Args:
            outputs: of the engine; None where no engine could classify it.
            state: of the engine.
            count: lines of the block that belong to the strip.
            quicklook: (block_lines, samples, 3), where it was made; written where the strip leaves one.

        Returns:
            None where the block is refused, because the disk does not keep up.

        Raises:
            HyperlineError: writing failed, and the loop is to wait for the disk.
        """
        with self._changed:
            if self._wait:
                self._changed.wait_for(lambda: self._free or self._failure is not None)
            if self._failure is not None:
                raise self._failure
            if not self._free:
                self._skipped += count
                self.unwritten += count
                return None
            result = self._free.popleft()
            result.skipped, self._skipped = self._skipped, 0
        fill(result.images, outputs, self._library)
        if quicklook is not None and "quicklook" in result.images:
            np.copyto(result.images["quicklook"], quicklook)
        result.state = state.hold()
        result.count, result.flags = count, 0
        return result

    def post(self, result: Result) -> None:
        """Hand over what `offer` gave."""
        with self._changed:
            self._full.append(result)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._full or self._closing)
                if not self._full:
                    return
                result = self._full[0]
            if not self._write(result):
                return
            if result.state is not None:
                result.state.release()
                result.state = None
            with self._changed:
                self._full.popleft()
                self._free.append(result)
                self._changed.notify_all()

    def _write(self, result: Result) -> bool:
        """Write one block, however often it takes; False to give up."""
        while (error := self._try(result)) is not None:
            if not self._failing:
                self._failing = True
                self.outages += 1
                _LOG.warning("%s; %d blocks can wait", error, len(self._free))
            if self._wait or self._stop or not isinstance(error, HyperlineError):
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return False
            time.sleep(_RETRY_SECONDS)
        if self._failing:
            self._failing = False
            _LOG.warning("the disk takes lines again")
        return True

    def _try(self, result: Result) -> BaseException | None:
        try:
            self._append(result)
        except BaseException as error:
            return error
        return None

    def _append(self, result: Result) -> None:
        while result.skipped:  # the place of lines that were refused
            count = min(result.skipped, self._block_lines)
            self._block(self._zeros, count, result.next_index - result.count, (0, 0), Record.UNWRITTEN)
            result.skipped -= count
        if result.count:
            self._block(result.images, result.count, result.next_index, result.timestamps, result.flags)
            now = time.perf_counter()
            self.latency.add(now - result.arrived, result.usable)
            self.time_line.add(now, result.usable, now - result.arrived, result.waiting, result.dropped)
            self.first_written = self.first_written or now
            self.last_written = now
            if self._on_written is not None:
                self._on_written(result, now)
            result.count = 0  # written: what follows may be tried again without it
        if result.state is not None:
            self._serial += 1
            facts = {**self._facts, **result.facts, "lines": self._sink.lines}
            self._checkpoints.write(Checkpoint(self._serial, facts, result.state.state))
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()
        if self._on_progress is not None:
            self._on_progress(result.taken)

    def _block(
        self,
        images: Mapping[str, NDArray[Any]],
        count: int,
        next_index: int,
        timestamps: tuple[int, int],
        flags: int,
    ) -> None:
        if self._unlogged is None:
            first = self._sink.lines
            parts = self._sink.write(images, count)
            self._unlogged = Record(first, count, next_index, parts, *timestamps, flags)
        self._records.append(self._unlogged)
        self._unlogged = None

    def sync(self) -> None:
        """Put maps and log on the disk, and then the checkpoint that speaks of them."""
        self._sink.sync()
        self._records.sync()
        self._checkpoints.sync()
        self._synced = time.monotonic()

    def close(self) -> None:
        """Write what waits, sync, and end the thread.

        Raises:
            HyperlineError: the disk did not take all within five seconds; what it took is in order.
        """
        with self._changed:
            if self._skipped and self._free and self._failure is None:  # refused at the very end
                last = self._free.popleft()
                last.count, last.skipped, self._skipped = 0, self._skipped, 0
                self._full.append(last)
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_PATIENCE_SECONDS)
        if self._thread.is_alive():
            self._stop = True
            self._thread.join(_PATIENCE_SECONDS)
        left = sum(result.count + result.skipped for result in self._full)
        if self._failure is not None:
            self.unwritten += left
            raise self._failure
        self.sync()
