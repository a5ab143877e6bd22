"""The flight's side of the feed: a few copies a block, and nothing to wait for."""

from __future__ import annotations

import fcntl
import json
import logging
import mmap
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import Outputs
from hyperline.runtime.feed.layout import (
    BEGUN,
    DESCRIPTION_BYTES,
    DONE,
    ENDED,
    FAILED,
    FILE_NAME,
    MAGIC,
    MAGIC_WORD,
    POINTER,
    SESSION,
    STATUS_BYTES,
    STATUS_LENGTH,
    STATUS_SEQUENCE,
    WORDS,
    Fence,
    Layout,
)

_LOG = logging.getLogger(__name__)

# Memory that is no disk, so that showing lines neither waits for one nor wears it.
SHARED = Path("/dev/shm")
SPECTRA_BYTES = 64 << 20
# Where there is less room than that.
_FEW_SPECTRA_BYTES = 8 << 20
_STATUS_SECONDS = 0.2
_JOIN_SECONDS = 1.0


def open_feed(
    folder: Path,
    description: Mapping[str, Any],
    *,
    samples: int,
    bands: int,
    block_lines: int,
    first_line: int = 0,
    spectra_bytes: int = SPECTRA_BYTES,
) -> FeedWriter | None:
    """Make the feed of a flight and name it in the run's folder.

    All its memory is claimed now: a file system that fills up later would end the process at the next store. What an
    earlier flight in this folder left behind is removed.

    Args:
        folder: of the run.
        description: of the strip, for readers; what JSON can say.
        samples: of a line of the map.
        bands: that the model sees.
        block_lines: lines that come at a time.
        first_line: of the map at which the flight begins.
        spectra_bytes: the most that spectra may take.

    Returns:
        None where there is no room for it: a strip is flown without one too, and the log says so.
    """
    discard_feed(folder)
    for place, most in ((SHARED, spectra_bytes), (SHARED, _FEW_SPECTRA_BYTES), (folder, _FEW_SPECTRA_BYTES)):
        layout = Layout.choose(samples, bands, block_lines, min(most, spectra_bytes))
        try:
            return FeedWriter(folder, place, layout, description, block_lines, first_line)
        except OSError as error:
            fault = f"{place}: {error.strerror or error}"
    _LOG.warning("nobody can view the strip while it is flown: no room for its feed in %s", fault)
    return None


def discard_feed(folder: Path) -> None:
    """Remove what a killed flight left."""
    pointer = folder / POINTER
    with suppress(OSError, ValueError):
        path = folder / pointer.read_text()[:4096]
        if FILE_NAME.fullmatch(path.name) and path.parent in (SHARED, folder):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        pointer.unlink(missing_ok=True)


class FeedWriter:
    """Shows the lines of one flight.

    `offer` is the loop's, and so are the lines; `report` starts a thread that writes the status. A reader that is slow,
    or dies, is nobody's business: lines are overwritten when their slot's turn comes.

    Attributes:
        path: the file.
        layout: of the file.
    """

    def __init__(
        self,
        folder: Path,
        place: Path,
        layout: Layout,
        description: Mapping[str, Any],
        block_lines: int,
        first_line: int,
    ) -> None:
        """Claim the memory and publish the file's name.

        Args:
            folder: of the run.
            place: folder of the feed.
            layout: as `Layout.choose` gives it.
            description: see `open_feed`; likewise the next two.
            block_lines: lines that come at a time.
            first_line: of the map at which the flight begins.

        Raises:
            OSError: no room, or no leave.
        """
        text = json.dumps(
            {
                **description,
                "samples": layout.samples,
                "bands": layout.bands,
                "ring_lines": layout.lines,
                "spectra_step": layout.step,
                "first_line": first_line,
            }
        ).encode()
        self.layout = layout = replace(layout, description_bytes=len(text))
        self.path = place / f"hyperline-{secrets.token_hex(8)}.feed"
        self._pointer = folder / POINTER
        size = layout.offsets["end"]
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(self._file, 0, size)
            fcntl.flock(self._file, fcntl.LOCK_EX)  # readers see by it that this process lives
            data = mmap.mmap(self._file, size, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
            self._areas = layout.areas(data)
            data[8 * WORDS : 8 * WORDS + len(text)] = text
            words = self._areas.words
            words[DESCRIPTION_BYTES], words[SESSION] = len(text), secrets.randbits(64)
            words[BEGUN] = words[DONE] = first_line
            words[MAGIC_WORD] = MAGIC
            self._pointer.write_text(str(self.path if place != folder else self.path.name))
        except BaseException:
            os.close(self._file)
            self.path.unlink(missing_ok=True)
            raise
        self._fence, self._status_fence = Fence(), Fence()
        self._scaled = np.zeros((block_lines, layout.samples), np.float32)
        self._offered = self._broken = False
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def offer(
        self,
        first_line: int,
        block: Block,
        colours: NDArray[np.uint8],
        outputs: Outputs | None,
    ) -> None:
        """Show the next lines. Copies and returns; raises nothing.

        Args:
            first_line: number of the first in the map, the one behind the last that was offered.
            block: as the model saw it.
            colours: (block_lines, samples or more, 3) uint8.
            outputs: of the block; None where no engine could classify it.
        """
        if self._broken:
            return
        try:
            words, end = self._areas.words, first_line + block.count
            words[BEGUN] = end
            self._fence()
            for rows, slots in self._pieces(first_line, block.count):
                self._copy(first_line, rows, slots, block, colours, outputs)
            self._fence()
            words[DONE] = end
        except Exception as error:
            # Whoever looks on must never cost the strip a line.
            self._broken = True
            _LOG.warning("nobody can view the strip any more from line %d on: %s", first_line, error)

    def _pieces(self, first_line: int, count: int) -> Iterator[tuple[slice, slice]]:
        """Give the rows of a block and their slots, in two pieces where the ring's end lies between them."""
        row = 0
        while row < count:
            slot = (first_line + row) % self.layout.lines
            length = min(count - row, self.layout.lines - slot)
            yield slice(row, row + length), slice(slot, slot + length)
            row += length

    def _copy(
        self,
        first_line: int,
        rows: slice,
        slots: slice,
        block: Block,
        colours: NDArray[np.uint8],
        outputs: Outputs | None,
    ) -> None:
        areas, samples = self._areas, self.layout.samples
        areas.index["line"][slots] = np.arange(first_line + rows.start, first_line + rows.stop, dtype=np.uint64)
        areas.index["flags"][slots] = FAILED if outputs is None else 0
        areas.colours[slots] = colours[rows, :samples]
        if outputs is None:
            areas.labels[slots] = areas.confidence[slots] = 0
        else:
            areas.labels[slots] = outputs.labels[rows, :samples]
            scaled = self._scaled[: rows.stop - rows.start]
            with np.errstate(invalid="ignore"):  # an unguarded engine may give what is no number
                np.multiply(outputs.confidence[rows, :samples], 255, out=scaled)
                np.copyto(areas.confidence[slots], scaled, casting="unsafe")
        if step := self.layout.step:
            begin = rows.start + -(first_line + rows.start) % step
            kept = block.lines[begin : rows.stop : step, :samples:step]
            if len(kept):
                slot = (first_line + begin) // step % len(areas.spectra)
                areas.spectra[slot : slot + len(kept)] = kept

    def report(self, status: Callable[[], Mapping[str, Any]]) -> None:
        """Start the thread that writes ``status()`` five times a second."""
        self._thread = threading.Thread(target=self._report, args=(status,), name="hyperline-feed", daemon=True)
        self._thread.start()

    def _report(self, status: Callable[[], Mapping[str, Any]]) -> None:
        while True:
            ended = self._closing.wait(_STATUS_SECONDS)
            try:
                self._write_status({**status(), "time": time.time()})
            except Exception as error:
                _LOG.debug("the status of the strip cannot be shown: %s", error)
            if ended:
                return

    def _write_status(self, status: dict[str, Any]) -> None:
        text = json.dumps(status, default=str).encode()
        if len(text) > STATUS_BYTES:  # names of any length
            text = json.dumps({**status, "events": [], "links": {}}, default=str).encode()
        words = self._areas.words
        if len(text) > STATUS_BYTES:
            return
        words[STATUS_SEQUENCE] += np.uint64(1)
        self._status_fence()
        self._areas.status[: len(text)] = np.frombuffer(text, np.uint8)
        words[STATUS_LENGTH] = len(text)
        self._status_fence()
        words[STATUS_SEQUENCE] += np.uint64(1)

    def close(self) -> None:
        """Say that no more lines come; who reads may go on reading, nobody new finds the feed."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
        self._areas.words[ENDED] = 1
        with suppress(OSError):
            self._pointer.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        with suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
