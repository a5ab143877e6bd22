"""Where everything lies in the feed, and what keeps a reader from believing half a line."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# In the folder of the run: the name of the feed's file, as long as the strip is flown.
POINTER = "feed"
FILE_NAME = re.compile(r"hyperline-[0-9a-f]{16}\.feed")

MAGIC = int.from_bytes(b"HLFEED1\n", "little")
# The first 64 bytes are words of 64 bits.
WORDS = 8
(
    MAGIC_WORD,
    SESSION,  # random, another for every flight
    DESCRIPTION_BYTES,
    BEGUN,  # lines of the map before this one may be written already
    DONE,  # lines before this one are whole
    ENDED,  # 1 once no more lines come
    STATUS_SEQUENCE,  # odd while the status is written
    STATUS_LENGTH,
) = range(WORDS)

STATUS_BYTES = 1 << 16
_PAGE = 4096

# Of a line: its number in the map, and what is to be known of it.
INDEX = np.dtype([("line", "<u8"), ("flags", "<u8")])
FAILED = 1  # no engine could classify it


@dataclass(frozen=True)
class Lines:
    """Consecutive lines of a strip, as pictures.

    Attributes:
        first: number of the first line in the map.
        colours: (line, sample, 3) uint8 red, green, blue.
        labels: (line, sample) uint8 class ids, 0 for no class.
        confidence: (line, sample) uint8, 255 times the probability of the label.
    """

    first: int
    colours: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.labels)


@dataclass(frozen=True)
class Layout:
    """Offsets of the feed's areas. Each begins at a multiple of 4096 bytes.

    Attributes:
        samples: of a line.
        bands: of a spectrum.
        lines: that the ring holds, a power of two.
        step: every so many lines and samples the spectra are kept, a power of two; 0 for none.
        description_bytes: of the JSON text behind the words.
    """

    samples: int
    bands: int
    lines: int
    step: int
    description_bytes: int

    @classmethod
    def choose(cls, samples: int, bands: int, block_lines: int, spectra_bytes: int) -> Layout:
        """Lay out a feed of at least 1024 lines and four blocks.

        Args:
            samples: of a line.
            bands: of a line.
            block_lines: lines that come at a time.
            spectra_bytes: the most that spectra may take; the step is the smallest that they fit with.
        """
        lines = 1 << max(4 * block_lines - 1, 1023).bit_length()
        step = 1
        while step <= min(lines, samples) and cls(samples, bands, lines, step, 0).spectra_bytes > spectra_bytes:
            step *= 2
        return cls(samples, bands, lines, step if step <= min(lines, samples) else 0, 0)

    @property
    def spectra_shape(self) -> tuple[int, int, int]:
        """(stored lines, stored samples, bands)."""
        if not self.step:
            return 0, 0, self.bands
        return self.lines // self.step, -(-self.samples // self.step), self.bands

    @property
    def spectra_bytes(self) -> int:
        """Bytes of the spectra."""
        lines, samples, bands = self.spectra_shape
        return 4 * lines * samples * bands

    @property
    def offsets(self) -> dict[str, int]:
        """Where each area begins, and under ``end`` the size of the file."""
        pixels = self.lines * self.samples
        sizes = {
            "status": STATUS_BYTES,
            "index": self.lines * INDEX.itemsize,
            "colours": 3 * pixels,
            "labels": pixels,
            "confidence": pixels,
            "spectra": self.spectra_bytes,
        }
        offset, offsets = _pages(8 * WORDS + self.description_bytes), {}
        for name, size in sizes.items():
            offsets[name] = offset
            offset += _pages(size)
        return offsets | {"end": offset}

    def areas(self, data: Any) -> Areas:
        """Return views of a mapped file."""
        at = self.offsets
        pixels = self.lines * self.samples

        def view(name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
            return np.frombuffer(data, dtype, int(np.prod(shape)), at[name]).reshape(shape)

        return Areas(
            words=np.frombuffer(data, "<u8", WORDS, 0),
            status=view("status", np.uint8, (STATUS_BYTES,)),
            index=view("index", INDEX, (self.lines,)),
            colours=np.frombuffer(data, np.uint8, 3 * pixels, at["colours"]).reshape(self.lines, self.samples, 3),
            labels=view("labels", np.uint8, (self.lines, self.samples)),
            confidence=view("confidence", np.uint8, (self.lines, self.samples)),
            spectra=view("spectra", "<f4", self.spectra_shape) if self.step else np.zeros(self.spectra_shape, "<f4"),
        )


@dataclass(frozen=True)
class Areas:
    """Views of the feed's memory; see `Layout`. Slot ``number % lines`` of the ring holds a line."""

    words: NDArray[np.uint64]
    status: NDArray[np.uint8]
    index: NDArray[Any]
    colours: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    spectra: NDArray[np.float32]


class Fence:
    """Keeps stores, or loads, on either side of it in their order.

    x86 does so anyway; ARM does not. POSIX says that locking and unlocking synchronise memory. One pair is a fence in
    one direction each, two are one in both.
    """

    def __init__(self) -> None:
        self._locks = threading.Lock(), threading.Lock()

    def __call__(self) -> None:
        """Separate what stands before the call from what stands behind it."""
        for lock in self._locks:
            with lock:
                pass


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
