"""A viewer's side of the feed: looks, copies, and then checks that what it copied was whole."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.runtime.feed.layout import (
    BEGUN,
    DESCRIPTION_BYTES,
    DONE,
    ENDED,
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
    Lines,
)

_TRIES = 20  # to read a status that is being written
_PAUSE_SECONDS = 1e-4
_MOST_DESCRIPTION_BYTES = 1 << 20


class FeedReader:
    """Reads what a flight shows. It cannot write there, and the flight does not know of it.

    Attributes:
        description: of the strip.
        session: another for every flight.
        layout: of the file.
    """

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            InputError: it is no feed, or one of another version.
            OSError: it cannot be read.
        """
        self._file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._data = self._map(path)
            words = np.frombuffer(self._data, "<u8", WORDS, 0)
            if int(words[MAGIC_WORD]) != MAGIC:
                raise InputError(f"{path} is no feed of this version of hyperline; view with the version that runs")
            self.description, self.layout = self._describe(path, int(words[DESCRIPTION_BYTES]))
        except BaseException:
            os.close(self._file)
            raise
        self._areas = self.layout.areas(self._data)
        self.session = f"{int(words[SESSION]):016x}"
        self._fence = Fence()

    @classmethod
    def find(cls, folder: Path) -> FeedReader | None:
        """Open the feed of the run in a folder; None where none is flown there.

        Raises:
            InputError: the run's feed is of another version.
        """
        try:
            path = folder / (folder / POINTER).read_text()[:4096]
            if not FILE_NAME.fullmatch(path.name):
                return None
            reader = cls(path)
        except (OSError, ValueError):
            return None
        if reader.alive:
            return reader
        reader.close()
        return None

    def _map(self, path: Path) -> mmap.mmap:
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode) or status.st_size < 8 * WORDS:
            raise InputError(f"{path} is no feed of a run")
        return mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)

    def _describe(self, path: Path, size: int) -> tuple[dict[str, Any], Layout]:
        try:
            if size > _MOST_DESCRIPTION_BYTES:
                raise ValueError(f"a description of {size} bytes")
            description = json.loads(self._data[8 * WORDS : 8 * WORDS + size])
            sizes = [description[name] for name in ("samples", "bands", "ring_lines", "spectra_step")]
            if not all(type(number) is int and 0 <= number < 1 << 24 for number in sizes) or 0 in sizes[:3]:
                raise ValueError(f"sizes {sizes}")
            samples, bands, lines, step = sizes
            layout = Layout(samples, bands, lines, step, size)
            if layout.offsets["end"] != len(self._data):
                raise ValueError(f"{len(self._data)} bytes, where {layout.offsets['end']} are described")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no feed of this version of hyperline: {error}") from error
        return description, layout

    @property
    def alive(self) -> bool:
        """Whether the flight goes on: its process holds a lock on the file, which the kernel lets go of with it."""
        if self.ended:
            return False
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False

    @property
    def ended(self) -> bool:
        """Whether the flight said that no more lines come."""
        return bool(self._areas.words[ENDED])

    @property
    def span(self) -> tuple[int, int]:
        """The first line that the feed still holds, and the one behind the last."""
        done = int(self._areas.words[DONE])
        return min(self._oldest(), done), done

    def _oldest(self) -> int:
        begun = int(self._areas.words[BEGUN])
        return max(int(self.description["first_line"]), begun - self.layout.lines)

    def read(self, first: int, count: int) -> Lines:
        """Copy lines.

        Args:
            first: number of the first.
            count: how many.

        Returns:
            Those of them that the feed holds and that nobody wrote on meanwhile: consecutive, perhaps none.
        """
        oldest, done = self.span
        first, end = max(first, oldest), min(first + count, done)
        self._fence()
        numbers = np.arange(first, max(end, first))
        slots = numbers % self.layout.lines
        areas = self._areas
        lines = areas.index["line"][slots]
        pictures = areas.colours[slots], areas.labels[slots], areas.confidence[slots]
        self._fence()
        # What the flight has begun to write since then has overwritten the oldest. A line's own number is asked too.
        whole = (numbers >= self._oldest()) & (lines == numbers.astype(np.uint64))
        begin = len(whole) - int(np.argmin(whole[::-1])) if not whole.all() else 0
        return Lines(first + begin, *(picture[begin:] for picture in pictures))

    def spectrum(self, line: int, sample: int) -> tuple[int, int, NDArray[np.float32]] | None:
        """Copy the spectrum that is nearest to a pixel of those that are kept.

        Returns:
            Its line, its sample, and (band,) float32 as the model saw it; None where none is near in the feed.
        """
        step, (oldest, done) = self.layout.step, self.span
        if not step or not oldest <= line < done or not 0 <= sample < self.layout.samples:
            return None
        line = line // step * step
        column = min((sample + step // 2) // step, self._areas.spectra.shape[1] - 1)
        self._fence()
        values = self._areas.spectra[line // step % len(self._areas.spectra), column].copy()
        self._fence()
        return (line, column * step, values) if line >= self._oldest() else None

    def status(self) -> dict[str, Any] | None:
        """Return the latest status; None where there is none yet."""
        words = self._areas.words
        for _ in range(_TRIES):
            before = int(words[STATUS_SEQUENCE])
            if before % 2:
                time.sleep(_PAUSE_SECONDS)
                continue
            self._fence()
            text = self._areas.status[: min(int(words[STATUS_LENGTH]), STATUS_BYTES)].tobytes()
            self._fence()
            if int(words[STATUS_SEQUENCE]) == before:
                status = json.loads(text) if text else None
                return status if isinstance(status, dict) else None
        return None

    def close(self) -> None:
        """Let go of the file; its memory goes with the last view of it."""
        os.close(self._file)
