"""ENVI images that grow while the strip is flown and can be opened after every block."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.disk import disk_errors, write_all
from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.records import IMAGES, RECORDS, SIZE, Part, Record, crc, read_records, refuse_earlier
from hyperline.runtime.sinks.images import PIXEL_BYTES, ImageForm

_HEAD = "ENVI\nlines =    "  # 16 bytes, so that the count after it is aligned
_COUNT_BYTES = 8
_PROMISE = re.compile(rf"{_HEAD}( *[0-9]+)\n".encode())


class EnviSink:
    """The images of a run, NAME.hdr and NAME.img each, a block at a time.

    In every ``write`` the lines are handed to the operating system first, and only then does the header say that
    they are there. So a reader never meets a header that promises more than the file holds, wherever this process
    dies. A write that failed can be tried again. ``close`` waits until everything is on the disk.

    Attributes:
        lines: of the strip written.
        records: blocks written.
    """

    def __init__(
        self,
        folder: Path,
        forms: Sequence[ImageForm],
        block_lines: int,
        resume_lines: int = 0,
        resume_records: int = 0,
    ) -> None:
        """Create the data files; the headers follow with the first block.

        Args:
            folder: an existing folder.
            forms: of the images.
            block_lines: the most lines of one ``write``.
            resume_lines: go on behind so many lines of the maps that are there.
            resume_records: and behind so many blocks.

        Raises:
            HyperlineError: the files cannot be made.
        """
        self.lines, self.records = resume_lines, resume_records
        self._images: list[_Image] = []
        try:
            for form in forms:
                held = resume_records if form.per_block else resume_lines
                self._images.append(_Image(folder / form.name, form, 1 if form.per_block else block_lines, held))
        except BaseException:
            self.close()
            raise

    def write(self, block: Mapping[str, NDArray[Any]], count: int) -> tuple[Part, ...]:
        """Append the first ``count`` lines of a block.

        Args:
            block: for each image by its name (block_lines, samples or more[, bands]); what lies beyond the samples is
                padding. (1, samples, bands) of one that has a line for each block.
            count: lines to append.

        Returns:
            What this added to each of `IMAGES`.

        Raises:
            HyperlineError: the disk is full or gone; the headers still tell the truth, and nothing was appended.
        """
        ends = [(one, self.records + 1 if one.form.per_block else self.lines + count) for one in self._images]
        for one, end in ends:
            _count_text(one.header, end)
        parts = {
            one.form.name: one.write(end, block[one.form.name], 1 if one.form.per_block else count) for one, end in ends
        }
        for one, end in ends:
            one.count(end)
        self.lines, self.records = self.lines + count, self.records + 1
        return tuple(parts.get(name, Part()) for name in IMAGES)

    def sync(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            HyperlineError: the disk is gone.
        """
        for one in self._images:
            one.sync()

    def close(self) -> None:
        """Put everything on the disk and close the files."""
        while self._images:
            self._images.pop().close()

    def __enter__(self) -> EnviSink:
        """Return the sink itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, also when the run failed."""
        self.close()


class _Image:
    """One ENVI file that grows.

    The header is put in place whole, with the first block. After that only its count of lines is overwritten: eight
    bytes at an offset that is a multiple of eight, which the processor stores as one word, so a reader meets
    the old count or the new. Replacing the file by a rename would be the same to a reader, but on ext4 it waits for
    the disk: 8 ms for two headers a block against 10 µs (measured), and it wears flash.
    """

    def __init__(self, stem: Path, form: ImageForm, block_lines: int, lines: int) -> None:
        self.form = form
        shape = (block_lines, form.samples) if form.bands == 1 else (block_lines, form.samples, form.bands)
        # A block without its padding: contiguous, so that one call writes it.
        self._buffer = np.zeros(shape, form.dtype)
        self._line_bytes = self._buffer[0].nbytes
        self._image, self.header = stem.with_suffix(".img"), stem.with_suffix(".hdr")
        self._draft = stem.with_suffix(".hdr.part")
        self._in_place = bool(lines)
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
                write_all(self._text, f"{_HEAD}{lines:{_COUNT_BYTES}}\n{form.header()}".encode(), 0)
                if lines:
                    self._draft.replace(self.header)
            except BaseException:
                self._close()
                raise

    def write(self, end: int, values: NDArray[Any], count: int) -> Part:
        """Write lines so that the last ends at ``end``."""
        lines = self._buffer[:count]
        np.copyto(lines, values[:count, : self.form.samples].reshape(lines.shape))
        with disk_errors(self._image):
            write_all(self._data, lines.reshape(-1).view(np.uint8).data, (end - count) * self._line_bytes)
        return Part(lines.nbytes, crc(lines))

    def count(self, lines: int) -> None:
        number = _count_text(self.header, lines)
        with disk_errors(self.header):
            write_all(self._text, number, len(_HEAD))
            if not self._in_place:
                self._draft.replace(self.header)
                self._in_place = True

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
    """Cut the images of a strip back to what can be believed.

    Every block is read back and compared with its record; they end with the last block that is whole in all of them.

    Args:
        folder: of the strip, whatever became of its process or the power.
        most_lines: cut back to this many in any case; the end of a block.

    Raises:
        InputError: there is no strip in the folder, or one of an earlier version.
        HyperlineError: an image is gone, or the disk is full or gone.
    """
    log = folder / RECORDS
    if not log.is_file():
        raise InputError(f"{folder} holds no strip that can be repaired: it has no {RECORDS}")
    refuse_earlier(log)
    first = next(read_records(log), None)
    widths = _widths(first) if first else None
    held = {name for name in IMAGES if (folder / f"{name}.img").exists()}
    # One that the log speaks of and that is gone is said to be, before the others are cut.
    names = [name for name in IMAGES if name in held or (widths and widths[name])]
    files: dict[str, int] = {}
    try:
        for name in names:
            path = folder / f"{name}.img"
            with disk_errors(path):
                files[name] = os.open(path, os.O_RDWR)
        maps = [name for name in files if name in PIXEL_BYTES]
        before = max(
            0,
            *(_promised(folder / f"{name}.hdr") for name in maps),
            *(os.fstat(files[name]).st_size // widths[name] for name in maps if widths and widths[name]),
        )
        believed = _believed(log, files, widths, most_lines)
        damaged = [
            f"{name}.hdr"
            for name, file in files.items()
            if not _cut(
                folder / name, file, believed.ends[name], believed.lines if name in PIXEL_BYTES else believed.records
            )
        ]
    finally:
        for file in files.values():
            os.close(file)
    with disk_errors(log):
        os.truncate(log, believed.records * SIZE)
    removed = max(before - believed.lines, 0)
    return Repaired(believed.lines, removed, believed.records, believed.next_index, tuple(damaged))


@dataclass
class _Believed:
    """The blocks that are whole in all images, and where those end, in bytes."""

    ends: dict[str, int]
    lines: int = 0
    records: int = 0
    next_index: int = 0


def _believed(log: Path, files: Mapping[str, int], widths: Mapping[str, int] | None, most: int | None) -> _Believed:
    """Compare the images with their records, block by block, as far as they agree."""
    found = _Believed(dict.fromkeys(files, 0))
    for record in read_records(log):
        parts = dict(zip(IMAGES, record.parts, strict=True))
        whole = (
            (most is None or found.lines + record.lines <= most)
            and widths is not None
            and _widths(record) == widths
            and all((parts[name].size > 0) == (name in files) for name in IMAGES)
            and all(_holds(file, found.ends[name], parts[name], log) for name, file in files.items())
        )
        if not whole:
            break
        for name in files:
            found.ends[name] += parts[name].size
        found.lines, found.records, found.next_index = found.lines + record.lines, found.records + 1, record.next_index
    return found


def _widths(record: Record) -> dict[str, int] | None:
    """Return the bytes of a line of each image, by a record; None where its numbers do not fit each other."""
    sizes = {name: part.size for name, part in zip(IMAGES, record.parts, strict=True)}
    samples = sizes["classes"] // max(record.lines, 1)
    wanted = {name: record.lines * samples * bytes_ for name, bytes_ in PIXEL_BYTES.items()}
    optional = {"uncertainty", "quicklook"}
    fits = all(sizes[name] == size or (name in optional and not sizes[name]) for name, size in wanted.items())
    if not fits or not wanted["classes"]:
        return None
    return {name: size // record.lines if name in wanted else size for name, size in sizes.items()}


def _holds(file: int, start: int, part: Part, log: Path) -> bool:
    """Return whether a file holds the bytes of a part from ``start`` on. One that is too short is not read."""
    with disk_errors(log):
        if os.fstat(file).st_size < start + part.size:
            return False
        return zlib.crc32(os.pread(file, part.size, start)) == part.crc


def _promised(header: Path) -> int:
    """Return the lines that a header promises; 0 where it tells none."""
    if not header.is_file():
        return 0
    with disk_errors(header), header.open("rb") as file:
        found = _PROMISE.match(file.read(len(_HEAD) + _COUNT_BYTES + 1))
    return int(found[1]) if found else 0


def _cut(stem: Path, file: int, size: int, lines: int) -> bool:
    """Cut an image and let its header say so; False where that is none of ours, and stays as it is."""
    header = stem.with_suffix(".hdr")
    ours = True
    with disk_errors(stem.with_suffix(".img")):
        os.ftruncate(file, size)
        if header.exists():
            text = os.open(header, os.O_RDWR)
            try:
                ours = os.pread(text, len(_HEAD), 0) == _HEAD.encode()
                if ours:
                    write_all(text, _count_text(header, lines), len(_HEAD))
                    os.fsync(text)
            finally:
                os.close(text)
        os.fsync(file)
    return ours
