"""ENVI maps that grow while the strip is flown and can be opened after every block."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.disk import disk_errors
from hyperline.errors import HyperlineError
from hyperline.pictures import class_colours

_HEAD = "ENVI\nlines =    "  # 16 bytes, so that the count after it is aligned
_COUNT_BYTES = 8
# ENVI lists are split at commas and end at a brace: a class name must hold neither.
_PLAIN = {ord(character): plain for character, plain in zip(",{}=", ";()-", strict=True)}


class EnviSink:
    """``classes.hdr/.img`` (uint8, 0 = no class) and ``confidence.hdr/.img`` (float32), a block at a time.

    In every ``write`` the lines are handed to the operating system first, and only then does the header say that
    they are there. So a reader never meets a header that promises more than the file holds, wherever this process
    dies. ``close`` waits until everything is on the disk.

    Attributes:
        lines: lines written.
    """

    FILES = ("classes.hdr", "classes.img", "confidence.hdr", "confidence.img")

    def __init__(self, folder: Path, block_lines: int, samples: int, class_names: Sequence[str]) -> None:
        """Create the data files; the headers follow with the first block.

        Args:
            folder: an existing folder.
            block_lines: the most lines of one ``write``.
            samples: cross-track samples of a line.
            class_names: name of class 1, 2, ….

        Raises:
            HyperlineError: the files cannot be made.
        """
        names = ["no class", *(" ".join(name.translate(_PLAIN).split()) for name in class_names)]
        colours = [0, 0, 0, *class_colours(len(class_names)).ravel().tolist()]
        self.lines = 0
        self._maps: list[_Map] = []
        shape = (block_lines, samples)
        try:
            self._maps.append(
                _Map(
                    folder / "classes",
                    np.zeros(shape, np.uint8),
                    "file type = ENVI Classification\ndata type = 1\nband names = {class}\n"
                    f"classes = {len(names)}\nclass names = {{{', '.join(names)}}}\n"
                    f"class lookup = {{{', '.join(map(str, colours))}}}\n",
                )
            )
            self._maps.append(
                _Map(
                    folder / "confidence",
                    np.zeros(shape, "<f4"),
                    "file type = ENVI Standard\ndata type = 4\nband names = {confidence}\n",
                )
            )
        except BaseException:
            self.close()
            raise

    def write(self, labels: NDArray[np.uint8], confidence: NDArray[np.float32], count: int) -> None:
        """Append the first ``count`` lines of a block.

        Args:
            labels: (block_lines, samples or more) uint8; what lies beyond the samples is padding.
            confidence: (block_lines, samples or more) float32.
            count: lines to append.

        Raises:
            HyperlineError: the disk is full or gone; the headers still tell the truth.
        """
        classes, certainty = self._maps
        classes.append(labels, count)
        certainty.append(confidence, count)
        self.lines += count

    def close(self) -> None:
        """Put everything on the disk and close the files."""
        while self._maps:
            self._maps.pop().close()

    def __enter__(self) -> EnviSink:
        """Return the sink itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, also when the run failed."""
        self.close()


class _Map:
    """One single-band ENVI file that grows.

    The header is put in place whole, with the first block. After that only its count of lines is overwritten: eight
    bytes at an offset that is a multiple of eight, which the processor stores as one word, so a reader meets
    the old count or the new. Replacing the file by a rename would be the same to a reader, but on ext4 it waits for
    the disk: 8 ms for two headers a block against 10 µs (measured), and it wears flash.
    """

    def __init__(self, stem: Path, buffer: NDArray[Any], extra: str) -> None:
        self._buffer = buffer  # a block without its padding: contiguous, so that one call writes it
        self._lines = 0
        self._image, self._header = stem.with_suffix(".img"), stem.with_suffix(".hdr")
        self._draft = stem.with_suffix(".hdr.part")
        header = (
            f"{_HEAD}{0:{_COUNT_BYTES}}\nsamples = {buffer.shape[1]}\nbands = 1\n"
            f"header offset = 0\ninterleave = bsq\nbyte order = 0\n{extra}"
        )
        with ExitStack() as files, disk_errors(self._image):
            self._data = files.enter_context(self._image.open("wb"))
            self._count = files.enter_context(self._draft.open("wb", buffering=0))
            self._count.write(header.encode())
            self._files = files.pop_all()

    def append(self, values: NDArray[Any], count: int) -> None:
        np.copyto(self._buffer[:count], values[:count, : self._buffer.shape[1]])
        first = self._lines == 0
        self._lines += count
        number = f"{self._lines:{_COUNT_BYTES}}".encode()
        if len(number) > _COUNT_BYTES:
            raise HyperlineError(
                f"{self._header} cannot count more than {self._lines - count} lines: start a new strip"
            )
        with disk_errors(self._image):
            self._data.write(self._buffer[:count].data)
            self._data.flush()
            os.pwrite(self._count.fileno(), number, len(_HEAD))
            if first:
                self._draft.replace(self._header)

    def close(self) -> None:
        with disk_errors(self._image), self._files:
            self._draft.unlink(missing_ok=True)  # of a map that got no line
            self._data.flush()
            for file in (self._data, self._count):
                os.fsync(file.fileno())
