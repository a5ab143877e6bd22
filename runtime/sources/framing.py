"""Lines as bytes, and bytes as lines again: the framing that ``docs/framing.md`` specifies."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.runtime.sources.source import Line

MAGIC = b"\x89HLS\r\n\x1a\n"  # as PNG's: a link in text mode or of seven bits spoils it at once
VERSION = 1
SYNC = b"\x1a\xcf\xfc\x1d"  # CCSDS 131.0-B; no part of it is its own beginning, so a search may step over it
LINE, END, DARK = 1, 2, 3

MAX_SAMPLES = 65536
MAX_BANDS = 4096
MAX_LINE_BYTES = 16 << 20
MAX_LINES = 2**32 - 1
# 50 minutes of a fast sensor. More is no gap but a record that must not make a receiver fill a map with nothing.
MAX_JUMP = 1 << 20

DTYPES = {
    code: np.dtype(text)
    for code, text in enumerate(("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"), start=1)
}
CODES = {dtype: code for code, dtype in DTYPES.items()}

_STREAM = struct.Struct("<8sHBBIIBBHIIQddd")
_RECORD = struct.Struct("<4sB3xIIQII")
_CRC = struct.Struct("<I")
STREAM_BYTES = _STREAM.size  # 64, before wavelengths, name and CRC
RECORD_BYTES = _RECORD.size  # 32, before the payload
_HAS_NODATA, _HAS_WAVELENGTHS = 1, 2
_NO_TIME = 2**64 - 1
_SEQUENCES = 2**32

Fill = Callable[[memoryview], int]


@dataclass(frozen=True)
class StreamHeader:
    """What is known of a strip before its first line.

    Attributes:
        name: 1 to 255 bytes of printable UTF-8.
        samples: 1 to ``MAX_SAMPLES``.
        bands: 1 to ``MAX_BANDS``; a line's values have at most ``MAX_LINE_BYTES``.
        dtype: a value of ``DTYPES``.
        strip: the sender's number for this strip, 0 to 2**64 - 1: what it sends after a break is the same strip
            only if this is.
        scale: stored values times this are physical units; finite and positive.
        nodata: the declared no-data value, or None.
        rate: lines per second, or None where nobody knows.
        lines: how many lines will come, or None where nobody knows.
        first_sequence: sequence number of the strip's line 0.
        wavelengths_nm: band centres in nanometres, finite and positive, or None.
        truth_classes: the highest class id of the truth behind each line's values; 0 for no truth.

    Raises:
        InputError: a value is outside these limits.
    """

    name: str
    samples: int
    bands: int
    dtype: np.dtype[Any]
    strip: int = 0
    scale: float = 1.0
    nodata: float | None = None
    rate: float | None = None
    lines: int | None = None
    first_sequence: int = 0
    wavelengths_nm: tuple[float, ...] | None = None
    truth_classes: int = 0

    def __post_init__(self) -> None:
        _require(self.dtype in CODES, f"values of type {self.dtype.str}", "integers or floats of at most 8 bytes")
        _require_size(self.samples, self.bands, self.dtype)
        name = self.name.encode()
        _require(0 < len(name) <= 255 and self.name.isprintable(), "its name", "1 to 255 bytes of printable UTF-8")
        _require(0 < self.scale < np.inf, f"scale {self.scale}", "a positive number")
        _require(self.nodata is None or self.nodata == self.nodata, "NaN as nodata", "a number, or none declared")
        _require(self.rate is None or 0 < self.rate < np.inf, f"rate {self.rate}", "a positive number")
        _require(self.lines is None or 0 < self.lines <= MAX_LINES, f"{self.lines} lines", f"1 to {MAX_LINES}")
        _require(0 <= self.first_sequence < _SEQUENCES, f"sequence {self.first_sequence}", "32 bits")
        _require(0 <= self.strip <= _NO_TIME, f"strip {self.strip}", "64 bits")
        _require(0 <= self.truth_classes <= 255, f"{self.truth_classes} classes", "at most 255")
        if self.wavelengths_nm is not None:
            centres = self.wavelengths_nm
            _require(len(centres) == self.bands, f"{len(centres)} wavelengths", f"one a band, {self.bands}")
            _require(all(0 < centre < np.inf for centre in centres), "a wavelength", "a positive number")

    @property
    def payload_bytes(self) -> int:
        """Bytes of a line: (sample, band) values, then (sample,) uint8 truth where there is one."""
        truth = self.samples if self.truth_classes else 0
        return self.samples * self.bands * self.dtype.itemsize + truth


def encode_header(header: StreamHeader) -> bytes:
    """Return the stream header, which comes before the first record."""
    flags = _HAS_NODATA * (header.nodata is not None) + _HAS_WAVELENGTHS * (header.wavelengths_nm is not None)
    name = header.name.encode()
    fixed = _STREAM.pack(
        MAGIC,
        VERSION,
        CODES[header.dtype],
        flags,
        header.samples,
        header.bands,
        header.truth_classes,
        len(name),
        0,
        header.first_sequence,
        header.lines or 0,
        header.strip,
        header.scale,
        header.nodata or 0.0,
        header.rate or 0.0,
    )
    body = fixed + np.asarray(header.wavelengths_nm or (), "<f8").tobytes() + name
    return body + _CRC.pack(zlib.crc32(body))


def read_header(fill: Fill) -> StreamHeader:
    """Read the stream header, no byte further.

    Args:
        fill: puts 1 to all of a buffer's bytes into it and returns how many; 0 when no more will come.

    Raises:
        InputError: the bytes end, are no header of this version, are damaged, or are outside the limits.
    """
    fixed = _exactly(STREAM_BYTES, fill, b"")
    magic, version, code, flags, samples, bands, truth_classes, name_bytes, reserved, *numbers = _STREAM.unpack(fixed)
    first_sequence, lines, strip, scale, nodata, rate = numbers
    if magic != MAGIC:
        raise InputError(f"no stream of lines begins here: {magic.hex(' ')}, not {MAGIC.hex(' ')}. Is the sender ours?")
    _require(version == VERSION, f"version {version}", f"{VERSION}; sender and receiver need the same hyperline")
    _require(bands <= MAX_BANDS, f"{bands} bands", f"at most {MAX_BANDS}")  # before the rest is read
    centres_bytes = 8 * bands if flags & _HAS_WAVELENGTHS else 0
    rest = _exactly(centres_bytes + name_bytes + _CRC.size, fill, fixed)
    body = fixed + rest[: -_CRC.size]
    _require(_CRC.unpack(rest[-_CRC.size :])[0] == zlib.crc32(body), "a wrong CRC", "undamaged; send it again")
    # A sender of ours leaves these zero: whatever else they hold changes what the rest means.
    _require(
        reserved == 0 and flags <= _HAS_NODATA + _HAS_WAVELENGTHS, "reserved bytes in use", f"of version {VERSION}"
    )
    _require(code in DTYPES, f"values of type {code}", f"1 to {len(DTYPES)}")
    try:
        name = rest[centres_bytes : -_CRC.size].decode()
    except UnicodeDecodeError:
        name = ""  # refused below, with the rule
    return StreamHeader(
        name,
        samples,
        bands,
        DTYPES[code],
        strip=strip,
        scale=scale,
        nodata=nodata if flags & _HAS_NODATA else None,
        rate=rate or None,
        lines=lines or None,
        first_sequence=first_sequence,
        wavelengths_nm=tuple(np.frombuffer(rest, "<f8", bands).tolist()) if centres_bytes else None,
        truth_classes=truth_classes,
    )


def encode_line(
    header: StreamHeader,
    index: int,
    values: NDArray[Any],
    timestamp_ns: int | None = None,
    truth: NDArray[np.uint8] | None = None,
    dark: bool = False,
) -> bytes:
    """Return the record of one line.

    Args:
        header: of the stream.
        index: the line's number in the strip, from 0; its sequence number wraps.
        values: (sample, band), converted to the stream's dtype.
        timestamp_ns: the sensor's clock, 0 to 2**64 - 2, or None.
        truth: (sample,) class ids where the stream has truth.
        dark: whether the shutter was closed.
    """
    payload = np.ascontiguousarray(values, header.dtype).tobytes()
    if header.truth_classes:
        payload += (np.zeros(header.samples, np.uint8) if truth is None else truth).tobytes()
    return encode_record(DARK if dark else LINE, header.first_sequence + index, payload, timestamp_ns)


def encode_end(header: StreamHeader, lines: int) -> bytes:
    """Return the record that ends the strip after this many lines."""
    return encode_record(END, header.first_sequence + lines)


def encode_record(kind: int, sequence: int, payload: bytes = b"", timestamp_ns: int | None = None) -> bytes:
    """Return a record of any kind, its sequence number wrapped to 32 bits."""
    timestamp = _NO_TIME if timestamp_ns is None else timestamp_ns
    fields = SYNC, kind, sequence % _SEQUENCES, len(payload), timestamp, zlib.crc32(payload)
    head = _RECORD.pack(*fields, 0)[: -_CRC.size]
    return head + _CRC.pack(zlib.crc32(head)) + payload


@dataclass
class ReaderCounters:
    """What a reader met.

    Attributes:
        lines: handed over, rejected ones among them.
        rejected: intact records whose content does not fit the stream header: another size, or truth of a
            class above its highest. Handed over without values.
        damaged: times that no intact record stood where one was due.
        resynchronised: times that the next intact record was found after bytes were skipped.
        skipped_bytes: bytes that belong to no record.
        misplaced: intact records whose sequence number lies before the strip or ``MAX_JUMP`` beyond the last.
    """

    lines: int = 0
    rejected: int = 0
    damaged: int = 0
    resynchronised: int = 0
    skipped_bytes: int = 0
    misplaced: int = 0


class LineReader:
    """Finds the intact records in a stream of bytes, whatever stands between them.

    It holds the bytes of one line's record and no more. In step it reads just the record that it waits for;
    searching, whatever is there. A steady stream costs two reads, a CRC and one ``Line`` a line.

    Attributes:
        counters: see ``ReaderCounters``.
        ended: whether the end of the strip was read.
        total: how many lines the strip has, from its end record; None before.
    """

    def __init__(self, header: StreamHeader, fill: Fill) -> None:
        """Allocate the buffer.

        Args:
            header: of the stream.
            fill: as for ``read_header``.
        """
        self.counters = ReaderCounters()
        self.ended = False
        self.total: int | None = None
        self._header = header
        self._fill = fill
        self._buffer = bytearray(RECORD_BYTES + header.payload_bytes)
        self._view = memoryview(self._buffer)
        self._head = self._view[: RECORD_BYTES - _CRC.size]
        self._payload = self._view[RECORD_BYTES:]
        count = header.samples * header.bands
        shape = header.samples, header.bands
        self._values = np.frombuffer(self._buffer, header.dtype, count, RECORD_BYTES).reshape(shape)
        self._values.flags.writeable = False
        self._truth: NDArray[np.uint8] | None = None
        if header.truth_classes:
            self._truth = np.frombuffer(self._buffer, np.uint8, offset=len(self._buffer) - header.samples)
            self._truth.flags.writeable = False
        self._nothing = np.empty((0, 0), header.dtype)
        self._start = self._have = 0  # the buffer's bytes that are read and not yet used
        self._searching = False
        self._highest = -1  # index of the furthest line so far

    def restart(self) -> None:
        """Forget the record that a break of the link cut short; the strip goes on."""
        if self._have > self._start:
            self._skip(self._have - self._start)
        self._start = self._have = 0
        self._searching = False

    def read(self) -> Line | None:
        """Return the next intact line; None at the end of the strip or of the bytes, which ``ended`` tells apart.

        The line's arrays are the reader's own: the next call overwrites them. A rejected line has values of
        shape (0, 0).
        """
        while not self.ended and self._find_head():
            _, kind, sequence, length, timestamp, crc, _ = _RECORD.unpack_from(self._buffer)
            index = self._index(sequence)
            if kind == END and length == 0:
                self.ended = True
                self.total = None if index is None else max(index, self._highest + 1)
            elif kind not in (LINE, DARK) or length != len(self._payload):
                # What such a record says of its length is nothing to wait for: the next one is found by its sync word.
                self._start, self._searching = len(SYNC), True
                if kind not in (LINE, DARK):
                    self.counters.damaged += 1
                elif index is not None:
                    return self._line(index, timestamp, kind == DARK, fits=False)
            elif not self._hold(len(self._buffer)) or zlib.crc32(self._payload) != crc:
                self._skip(len(SYNC))
            else:
                self._start = self._have = 0
                if index is not None:
                    fits = self._truth is None or self._truth_fits()
                    return self._line(index, timestamp, kind == DARK, fits)
        return None

    def _line(self, index: int, timestamp: int, dark: bool, fits: bool) -> Line:
        arrived = time.perf_counter()
        self._highest = max(self._highest, index)
        self.counters.lines += 1
        self.counters.rejected += not fits
        timestamp_ns = None if timestamp == _NO_TIME else timestamp
        if not fits:
            return Line(index, self._nothing, arrived, None, timestamp_ns, dark)
        return Line(index, self._values, arrived, self._truth, timestamp_ns, dark)

    def _truth_fits(self) -> bool:
        return self._truth is not None and int(self._truth.max()) <= self._header.truth_classes

    def _index(self, sequence: int) -> int | None:
        """Unwrap a sequence number around the furthest line; None, and counted, where that cannot be."""
        ahead = (sequence - self._header.first_sequence - self._highest) % _SEQUENCES
        if ahead >= _SEQUENCES // 2:
            ahead -= _SEQUENCES
        if ahead > MAX_JUMP or self._highest + ahead < 0:
            self.counters.misplaced += 1
            return None
        return self._highest + ahead

    def _find_head(self) -> bool:
        """Bring the next intact record head to the front of the buffer; False when the bytes end before."""
        while self._have - self._start >= RECORD_BYTES or self._hold(RECORD_BYTES):
            at = self._buffer.find(SYNC, self._start, self._have)
            if at < 0:
                at = self._have - len(SYNC) + 1  # what may be the beginning of one
            elif at == self._start and self._head_is_intact():
                self._hold(RECORD_BYTES)
                self.counters.resynchronised += self._searching
                self._searching = False
                return True
            self._skip(max(at - self._start, 0) or len(SYNC))
        if self._have > self._start:
            self._skip(self._have - self._start)
        return False

    def _head_is_intact(self) -> bool:
        checked = self._start + RECORD_BYTES - _CRC.size
        expected: int = _CRC.unpack_from(self._buffer, checked)[0]
        return zlib.crc32(self._view[self._start : checked]) == expected

    def _skip(self, count: int) -> None:
        self.counters.damaged += not self._searching
        self.counters.skipped_bytes += count
        self._searching = True
        self._start += count

    def _hold(self, count: int) -> bool:
        """Bring what is unused to the front and read until it is this many bytes; False when the bytes end before."""
        if self._start:
            unused = self._have - self._start
            self._view[:unused] = self._view[self._start : self._have]
            self._start, self._have = 0, unused
        limit = len(self._buffer) if self._searching else count
        while self._have < count:
            read = self._fill(self._view[self._have : limit])
            if not read:
                return False
            self._have += read
        return True


def _exactly(count: int, fill: Fill, before: bytes) -> bytes:
    buffer = bytearray(count)
    view, have = memoryview(buffer), 0
    while have < count:
        read = fill(view[have:])
        if not read:
            raise InputError(f"the stream ends inside its header, after {len(before) + have} bytes")
        have += read
    return bytes(buffer)


def _require(holds: bool, found: str, allowed: str) -> None:
    if not holds:
        raise InputError(f"the stream's header has {found}; it must be {allowed}")


def _require_size(samples: int, bands: int, dtype: np.dtype[Any]) -> None:
    _require(1 <= samples <= MAX_SAMPLES, f"{samples} samples", f"1 to {MAX_SAMPLES}")
    _require(1 <= bands <= MAX_BANDS, f"{bands} bands", f"1 to {MAX_BANDS}")
    size = samples * bands * dtype.itemsize
    _require(size <= MAX_LINE_BYTES, f"lines of {size} bytes", f"at most {MAX_LINE_BYTES}")
