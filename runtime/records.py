"""The log of a strip: one record a block, appended, each with the checksums of what the block added to the images.

Where power fails, files may lose what was not synced and end in a torn page. The log says how far the images can be
believed: up to the last record that is whole and whose bytes in all of them have their checksums.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.disk import disk_errors, write_all
from hyperline.errors import InputError

RECORDS = "blocks.log"
# What a run may leave an image of, in the order of a record.
IMAGES = ("classes", "confidence", "uncertainty", "quicklook", "experts")

_MAGIC, _EARLIER = b"HLB2", b"HLB1"
# magic, flags, lines, first map line, next source index, first and last timestamp; size and CRC of each image's part
_BODY = struct.Struct(f"<4sHHQQqq{2 * len(IMAGES)}I")
_CRC = struct.Struct("<I")
SIZE = _BODY.size + _CRC.size  # 84 bytes


@dataclass(frozen=True)
class Part:
    """What a block added to an image.

    Attributes:
        size: in bytes; 0 where the run has no such image.
        crc: their CRC-32.
    """

    size: int = 0
    crc: int = 0


@dataclass(frozen=True)
class Record:
    """One block of the maps.

    Attributes:
        first_line: of the map.
        lines: that the block added.
        next_index: index of the source's line after the block.
        parts: what it added to each of `IMAGES`.
        first_ns, last_ns: the sensor's timestamps of its first and last line, 0 where it gives none.
        flags: see the constants of this class.
    """

    first_line: int
    lines: int
    next_index: int
    parts: tuple[Part, ...]
    first_ns: int = 0
    last_ns: int = 0
    flags: int = 0

    RESET = 1  # the strip begins anew with this block: a gap before it was too long
    FAILED = 2  # no engine could classify it
    UNWRITTEN = 4  # its labels were lost to a full or slow disk: no class stands in their place
    SUSPECT = 8  # before it a self-test failed: the blocks from the last one with TESTED up to it may be wrong
    TESTED = 16  # before it a self-test passed

    def pack(self) -> bytes:
        """Return the record's bytes."""
        body = _BODY.pack(
            _MAGIC,
            self.flags,
            self.lines,
            self.first_line,
            self.next_index,
            self.first_ns,
            self.last_ns,
            *(number for part in self.parts for number in (part.size, part.crc)),
        )
        return body + _CRC.pack(zlib.crc32(body))

    @classmethod
    def unpack(cls, data: bytes) -> Record | None:
        """Read a record; None where it is torn or damaged."""
        if len(data) != SIZE or _CRC.unpack(data[_BODY.size :])[0] != zlib.crc32(data[: _BODY.size]):
            return None
        magic, flags, lines, first, index, first_ns, last_ns, *numbers = _BODY.unpack(data[: _BODY.size])
        parts = tuple(Part(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True))
        return cls(first, lines, index, parts, first_ns, last_ns, flags) if magic == _MAGIC else None


def crc(values: NDArray[Any]) -> int:
    """Return the CRC-32 of a contiguous array's bytes."""
    return zlib.crc32(values.reshape(-1).view(np.uint8).data)


def refuse_earlier(path: Path) -> None:
    """Refuse a log that this version would take for damaged, and the images with it.

    Raises:
        InputError: an earlier version wrote it.
        HyperlineError: it cannot be read.
    """
    if path.is_file():
        with disk_errors(path), path.open("rb") as file:
            if file.read(len(_EARLIER)) == _EARLIER:
                raise InputError(
                    f"{path} was written by an earlier version of hyperline, which knew of two maps alone: resume or "
                    "repair the strip with that version, or give --overwrite to fly it anew; it stays as it is"
                )


def read_records(path: Path) -> Iterator[Record]:
    """Give the records of a log up to the first that is torn, damaged or out of line.

    Raises:
        HyperlineError: the file cannot be read.
    """
    line = 0
    with disk_errors(path), path.open("rb") as file:
        while (record := Record.unpack(file.read(SIZE))) is not None and record.first_line == line:
            yield record
            line += record.lines


class RecordLog:
    """The log of a strip that is being flown."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Open the log.

        Args:
            path: of the log.
            keep: records to keep of a log that is there; 0 starts a new one.

        Raises:
            HyperlineError: it cannot be opened.
        """
        self._path = path
        with disk_errors(path):
            self._file = path.open("r+b" if keep else "wb", buffering=0)
            self._file.truncate(keep * SIZE)
        self._records = keep

    def append(self, record: Record) -> None:
        """Add a record; one that a full disk took in part may be added again."""
        with disk_errors(self._path):
            write_all(self._file.fileno(), record.pack(), self._records * SIZE)
        self._records += 1

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        with disk_errors(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
