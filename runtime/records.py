"""The log of a strip: one record a block, appended, each with the checksums of what the block added to the maps.

Where power fails, files may lose what was not synced and end in a torn page. The log says how far the maps can be
believed: up to the last record that is whole and whose bytes in both maps have their checksums.
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

from hyperline.disk import disk_errors

RECORDS = "blocks.log"

_MAGIC = b"HLB1"
# magic, flags, lines, first map line, next source index, first and last timestamp, CRCs of classes and confidence
_BODY = struct.Struct("<4sHHQQqqII")
_CRC = struct.Struct("<I")
SIZE = _BODY.size + _CRC.size  # 52 bytes


@dataclass(frozen=True)
class Record:
    """One block of the maps.

    Attributes:
        first_line: of the map.
        lines: that the block added.
        next_index: index of the source's line after the block.
        classes_crc, confidence_crc: CRC-32 of the bytes that it added to either map.
        first_ns, last_ns: the sensor's timestamps of its first and last line, 0 where it gives none.
        flags: see the constants of this class.
    """

    first_line: int
    lines: int
    next_index: int
    classes_crc: int
    confidence_crc: int
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
            self.classes_crc,
            self.confidence_crc,
        )
        return body + _CRC.pack(zlib.crc32(body))

    @classmethod
    def unpack(cls, data: bytes) -> Record | None:
        """Read a record; None where it is torn or damaged."""
        if len(data) != SIZE or _CRC.unpack(data[_BODY.size :])[0] != zlib.crc32(data[: _BODY.size]):
            return None
        magic, flags, lines, first, index, first_ns, last_ns, classes, confidence = _BODY.unpack(data[: _BODY.size])
        return cls(first, lines, index, classes, confidence, first_ns, last_ns, flags) if magic == _MAGIC else None


def crc(values: NDArray[Any]) -> int:
    """Return the CRC-32 of a contiguous array's bytes."""
    return zlib.crc32(values.reshape(-1).view(np.uint8).data)


def read_records(path: Path) -> Iterator[Record]:
    """Give the records of a log up to the first that is torn, damaged or out of line.

    Raises:
        InputError: the file cannot be read.
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
            self._file.seek(keep * SIZE)

    def append(self, record: Record) -> None:
        """Add a record."""
        with disk_errors(self._path):
            self._file.write(record.pack())

    def truncate(self, records: int) -> None:
        """Forget all but so many records."""
        with disk_errors(self._path):
            self._file.truncate(records * SIZE)
            self._file.seek(records * SIZE)

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        with disk_errors(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
