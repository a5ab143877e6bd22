"""ENVI maps that grow while the strip is flown and can be opened after every block."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.disk import disk_errors
from hyperline.errors import HyperlineError, InputError
from hyperline.pictures import class_colours
from hyperline.runtime.records import RECORDS, SIZE, crc, read_records

_HEAD = "ENVI\nlines =    "  # 16 bytes, so that the count after it is aligned
_COUNT_BYTES = 8
_HEADER_BYTES = 1 << 20  # more than 255 names and colours take
_SAMPLES = re.compile(rb"^samples = ([1-9][0-9]{0,8})$", re.MULTILINE)
# ENVI lists are split at commas and end at a brace: a class name must hold neither.
_PLAIN = {ord(character): plain for character, plain in zip(",{}=", ";()-", strict=True)}


class EnviSink:
    """``classes.hdr/.img`` (uint8, 0 = no class) and ``confidence.hdr/.img`` (float32), a block at a time.

    In every ``write`` the lines are handed to the operating system first, and only then does the header say that
    they are there. So a reader never meets a header that promises more than the file holds, wherever this process
    dies. A write that failed can be tried again. ``close`` waits until everything is on the disk.

    Attributes:
        lines: lines written.
    """

    FILES = ("classes.hdr", "classes.img", "confidence.hdr", "confidence.img")

    def __init__(
        self, folder: Path, block_lines: int, samples: int, class_names: Sequence[str], resume_lines: int = 0
    ) -> None:
        """Create the data files; the headers follow with the first block.

        Args:
            folder: an existing folder.
            block_lines: the most lines of one ``write``.
            samples: cross-track samples of a line.
            class_names: name of class 1, 2, ….
            resume_lines: go on behind so many lines of the maps that are there.

        Raises:
            HyperlineError: the files cannot be made.
        """
        names = ["no class", *(" ".join(name.translate(_PLAIN).split()) for name in class_names)]
        colours = [0, 0, 0, *class_colours(len(class_names)).ravel().tolist()]
        self.lines = resume_lines
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
                    resume_lines,
                )
            )
            self._maps.append(
                _Map(
                    folder / "confidence",
                    np.zeros(shape, "<f4"),
                    "file type = ENVI Standard\ndata type = 4\nband names = {confidence}\n",
                    resume_lines,
                )
            )
        except BaseException:
            self.close()
            raise

    def write(self, labels: NDArray[np.uint8], confidence: NDArray[np.float32], count: int) -> tuple[int, int]:
        """Append the first ``count`` lines of a block.

        Args:
            labels: (block_lines, samples or more) uint8; what lies beyond the samples is padding.
            confidence: (block_lines, samples or more) float32.
            count: lines to append.

        Returns:
            The CRC-32 of the bytes that this added to either map.

        Raises:
            HyperlineError: the disk is full or gone; the headers still tell the truth, and nothing was appended.
        """
        classes, certainty = self._maps
        _count_text(classes.header, self.lines + count)
        words = classes.write(self.lines, labels, count), certainty.write(self.lines, confidence, count)
        for one in self._maps:
            one.count(self.lines + count)
        self.lines += count
        return words

    def sync(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            HyperlineError: the disk is gone.
        """
        for one in self._maps:
            one.sync()

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

    def __init__(self, stem: Path, buffer: NDArray[Any], extra: str, lines: int) -> None:
        self._buffer = buffer  # a block without its padding: contiguous, so that one call writes it
        self._line_bytes = buffer[0].nbytes
        self._image, self.header = stem.with_suffix(".img"), stem.with_suffix(".hdr")
        self._draft = stem.with_suffix(".hdr.part")
        header = (
            f"{_HEAD}{lines:{_COUNT_BYTES}}\nsamples = {buffer.shape[1]}\nbands = 1\n"
            f"header offset = 0\ninterleave = bsq\nbyte order = 0\n{extra}"
        )
        self._files: list[int] = []
        with disk_errors(self._image):
            try:
                flags = os.O_RDWR | os.O_CREAT | (0 if lines else os.O_TRUNC)
                self._data = os.open(self._image, flags, 0o644)
                self._files.append(self._data)
                if lines:
                    os.ftruncate(self._data, lines * self._line_bytes)
                self._text = os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
                self._files.append(self._text)
                _write_all(self._text, header.encode(), 0)
                if lines:
                    self._draft.replace(self.header)
            except BaseException:
                self._close()
                raise

    def write(self, first: int, values: NDArray[Any], count: int) -> int:
        np.copyto(self._buffer[:count], values[:count, : self._buffer.shape[1]])
        with disk_errors(self._image):
            _write_all(self._data, self._buffer[:count].reshape(-1).view(np.uint8).data, first * self._line_bytes)
        return crc(self._buffer[:count])

    def count(self, lines: int) -> None:
        number = _count_text(self.header, lines)
        with disk_errors(self.header):
            _write_all(self._text, number, len(_HEAD))
            if self._draft.exists():
                self._draft.replace(self.header)

    def sync(self) -> None:
        with disk_errors(self._image):
            for file in self._files:
                os.fsync(file)

    def close(self) -> None:
        with disk_errors(self._image):
            try:
                self._draft.unlink(missing_ok=True)  # of a map that got no line
                for file in self._files:
                    os.fsync(file)
            finally:
                self._close()

    def _close(self) -> None:
        while self._files:
            os.close(self._files.pop())


def _count_text(header: Path, lines: int) -> bytes:
    number = f"{lines:{_COUNT_BYTES}}".encode()
    if len(number) > _COUNT_BYTES:
        raise HyperlineError(f"{header} cannot count more than {10**_COUNT_BYTES - 1} lines: start a new strip")
    return number


def _write_all(file: int, data: bytes | memoryview, offset: int) -> None:
    """Write at an offset; a disk that fills up takes the first part alone, and says so at the next."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


@dataclass(frozen=True)
class Repaired:
    """What `repair_maps` found.

    Attributes:
        lines: of the maps now.
        removed: lines at their end that could not be believed.
        records: blocks in the log now.
        next_index: index of the source's line after them.
        damaged: headers that are none of ours any more, and were left as they are; a resumed run writes them anew.
    """

    lines: int
    removed: int
    records: int
    next_index: int
    damaged: tuple[str, ...] = ()


def repair_maps(folder: Path, most_lines: int | None = None) -> Repaired:
    """Cut the maps of a strip back to what can be believed.

    Every block is read back and compared with its record; the maps end with the last block that is whole in both.

    Args:
        folder: of the strip, whatever became of its process or the power.
        most_lines: cut back to this many in any case; the end of a block.

    Raises:
        InputError: there is no strip in the folder, or none of its headers is left.
        HyperlineError: the disk is full or gone.
    """
    log = folder / RECORDS
    if not log.is_file():
        raise InputError(f"{folder} holds no strip that can be repaired: it has no {RECORDS}")
    samples = _samples(folder)
    images = [(folder / "classes.img", samples), (folder / "confidence.img", 4 * samples)]
    lines = records = next_index = 0
    damaged: list[str] = []
    with disk_errors(folder / "classes.img"):
        held = [os.open(path, os.O_RDWR) for path, _ in images]
        try:
            before = max(os.fstat(file).st_size // size for file, (_, size) in zip(held, images, strict=True))
            for record in read_records(log):
                if most_lines is not None and lines + record.lines > most_lines:
                    break
                ends = [(lines + record.lines) * size for _, size in images]
                if any(os.fstat(file).st_size < end for file, end in zip(held, ends, strict=True)):
                    break
                words = [
                    zlib.crc32(os.pread(file, record.lines * size, lines * size))
                    for file, (_, size) in zip(held, images, strict=True)
                ]
                if words != [record.classes_crc, record.confidence_crc]:
                    break
                lines, records, next_index = lines + record.lines, records + 1, record.next_index
            for file, (path, size) in zip(held, images, strict=True):
                os.ftruncate(file, lines * size)
                header = path.with_suffix(".hdr")
                if header.exists():
                    text = os.open(header, os.O_RDWR)
                    try:
                        if os.pread(text, len(_HEAD), 0) == _HEAD.encode():
                            _write_all(text, _count_text(header, lines), len(_HEAD))
                            os.fsync(text)
                        else:
                            damaged.append(header.name)
                    finally:
                        os.close(text)
                os.fsync(file)
        finally:
            for file in held:
                os.close(file)
    with disk_errors(log):
        os.truncate(log, records * SIZE)
    return Repaired(lines, max(before - lines, 0), records, next_index, tuple(damaged))


def _samples(folder: Path) -> int:
    """Read the samples of a line from whichever header is there."""
    for name in ("classes.hdr", "confidence.hdr", "classes.hdr.part", "confidence.hdr.part"):
        path = folder / name
        if path.is_file():
            with disk_errors(path), path.open("rb") as file:
                found = _SAMPLES.search(file.read(_HEADER_BYTES))
            if found:
                return int(found[1])
    raise InputError(f"{folder} holds no header that tells the samples of a line; without it the maps cannot be read")
