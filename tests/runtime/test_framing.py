"""The framing: to the byte, and through whatever a link does to it."""

import importlib
import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.runtime.sources import framing
from hyperline.runtime.sources.framing import (
    DTYPES,
    LINE,
    MAX_JUMP,
    RECORD_BYTES,
    LineReader,
    StreamHeader,
    encode_end,
    encode_header,
    encode_line,
    encode_record,
    read_header,
)

TOOLS = Path(__file__).resolve().parents[2] / "tools"
HEADER = StreamHeader(
    "field",
    samples=2,
    bands=3,
    dtype=np.dtype("<u2"),
    strip=0x1122334455667788,
    scale=1e-4,
    nodata=0.0,
    rate=330.0,
    lines=2,
    first_sequence=2**32 - 1,
    wavelengths_nm=(450.0, 550.0, 650.0),
    truth_classes=4,
)
VALUES = np.arange(6, dtype=np.uint16).reshape(2, 3)
PLAIN = StreamHeader("plain", samples=4, bands=5, dtype=np.dtype("<i2"))
# The strip of docs/framing.md.
GOLDEN = """
89484c530d0a1a0a 0100030302000000 0300000004050000 ffffffff02000000
8877665544332211 2d431cebe2361a3f 0000000000000000 0000000000a07440
0000000000207c40 0000000000308140 0000000000508440 6669656c64b6d5dd
e5
1acffc1d01000000 ffffffff0e000000 00002a36fe9c9717 4b94466b9f7b99d1
000001000200 0300040005000004
1acffc1d01000000 000000000e000000 ffffffffffffffff 0715f83e8ceb487a
060007000800 09000a000b000100
1acffc1d02000000 0100000000000000 ffffffffffffffff 0000000075a08dfd
"""


@pytest.fixture(scope="module")
def packets():
    """The fuzzer's own idea of what a reader owes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        yield importlib.import_module("fuzzing.packets")


class Bytes:
    """A link that gives what it holds, a piece at a time."""

    def __init__(self, data: bytes, piece: int = 1 << 20) -> None:
        self.data, self.piece, self.position = data, piece, 0

    def __call__(self, view: memoryview) -> int:
        piece = self.data[self.position : self.position + min(len(view), self.piece)]
        view[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)


def record(index: int, header: StreamHeader = PLAIN) -> bytes:
    return encode_line(header, index, values(index))


def values(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(-(2**15), 2**15, (PLAIN.samples, PLAIN.bands)).astype(np.int16)


def read_all(data: bytes, header: StreamHeader = PLAIN, piece: int = 1 << 20) -> tuple[list[int], LineReader]:
    """Indices of the lines with values, each checked, and the reader."""
    reader = LineReader(header, Bytes(data, piece))
    indices = []
    while (line := reader.read()) is not None:
        if line.values.size:
            np.testing.assert_array_equal(line.values, values(line.index))
            indices.append(line.index)
    return indices, reader


def test_a_strip_is_these_bytes_and_reads_back() -> None:
    lines = (
        (VALUES, 1_700_000_000_000_000_000, np.array([0, 4], np.uint8)),
        (VALUES + 6, None, np.array([1, 0], np.uint8)),
    )
    data = encode_header(HEADER)
    data += b"".join(encode_line(HEADER, index, *line) for index, line in enumerate(lines)) + encode_end(HEADER, 2)
    assert data == bytes.fromhex(GOLDEN)
    fill = Bytes(data)
    assert read_header(fill) == HEADER
    reader = LineReader(HEADER, fill)
    for index, (expected, timestamp_ns, truth) in enumerate(lines):
        line = reader.read()
        assert (line.index, line.timestamp_ns, line.values.dtype) == (index, timestamp_ns, HEADER.dtype)
        np.testing.assert_array_equal(line.values, expected)
        np.testing.assert_array_equal(line.truth, truth)
    assert reader.read() is None
    assert (reader.ended, reader.total, fill.position) == (True, 2, len(data))


def test_the_specification_shows_these_bytes() -> None:
    shown = (TOOLS.parent / "docs/framing.md").read_text()
    assert "".join(GOLDEN.split()) in "".join(shown.split())


@given(
    code=st.sampled_from(sorted(DTYPES)),
    samples=st.integers(1, 5),
    bands=st.integers(1, 5),
    lines=st.integers(1, 6),
    first=st.integers(0, 2**32 - 1),
    name=st.text(min_size=1, max_size=60).filter(str.isprintable),
    wavelengths=st.booleans(),
    nodata=st.none() | st.floats(allow_nan=False),
    classes=st.integers(0, 255),
    piece=st.integers(1, 99),
    seed=st.integers(0, 2**32),
)
def test_what_was_written_is_read(
    code: int,
    samples: int,
    bands: int,
    lines: int,
    first: int,
    name: str,
    wavelengths: bool,
    nodata: float | None,
    classes: int,
    piece: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    header = StreamHeader(
        name,
        samples,
        bands,
        DTYPES[code],
        first_sequence=first,
        nodata=nodata,
        wavelengths_nm=tuple(random.uniform(400, 2500, bands).tolist()) if wavelengths else None,
        truth_classes=classes,
    )
    cube = [random.integers(0, 100, (samples, bands)).astype(DTYPES[code]) for _ in range(lines)]
    truth = random.integers(0, classes + 1, (lines, samples)).astype(np.uint8)
    data = encode_header(header)
    data += b"".join(encode_line(header, index, cube[index], index, truth[index]) for index in range(lines))
    fill = Bytes(data + encode_end(header, lines), piece)
    assert read_header(fill) == header
    reader = LineReader(header, fill)
    for index in range(lines):
        line = reader.read()
        assert (line.index, line.timestamp_ns) == (index, index)
        np.testing.assert_array_equal(line.values, cube[index])
        np.testing.assert_array_equal(line.truth, truth[index] if classes else None)
    assert reader.read() is None
    assert reader.ended
    assert reader.counters == framing.ReaderCounters(lines=lines)


@given(seed=st.integers(0, 2**63))
def test_a_damaged_stream_gives_exactly_the_lines_that_are_still_whole(packets: ModuleType, seed: int) -> None:
    random = Random(seed)
    strip = packets.Strip(random)
    data, _ = packets.mutate(strip, random)
    packets.check_case(strip, data, random)


def test_the_fuzzer_finds_a_reader_that_drops_a_line(packets: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    read = LineReader.read

    def forgetful(self: LineReader) -> object:
        line = read(self)
        return read(self) if line is not None and line.index == 5 else line

    monkeypatch.setattr(LineReader, "read", forgetful)
    strip = packets.Strip(Random(0))
    with pytest.raises(AssertionError, match="owed lines"):
        packets.check_case(strip, strip.data, Random(0))


@pytest.mark.parametrize("at", range(0, RECORD_BYTES + PLAIN.payload_bytes, 3))
def test_a_flipped_bit_costs_its_line_and_no_other(at: int) -> None:
    damaged = bytearray(record(1))
    damaged[at] ^= 4
    indices, reader = read_all(record(0) + damaged + record(2) + encode_end(PLAIN, 3), piece=17)
    assert indices == [0, 2]
    assert reader.ended
    assert reader.counters == framing.ReaderCounters(
        lines=2, damaged=1, resynchronised=1, skipped_bytes=RECORD_BYTES + PLAIN.payload_bytes
    )


def test_missing_bytes_cost_their_line_and_no_other() -> None:
    cut = record(1)[:30] + record(1)[43:]
    indices, reader = read_all(record(0) + cut + record(2) + record(3)[:-1] + encode_end(PLAIN, 4))
    assert (indices, reader.ended, reader.total) == ([0, 2], True, 4)
    assert reader.counters.damaged == 2


def test_lost_and_repeated_and_late_lines_show_in_the_index() -> None:
    indices, reader = read_all(b"".join(map(record, (2, 2, 5, 4))))
    assert indices == [2, 2, 5, 4]
    assert not reader.ended


def test_a_sequence_number_that_wraps_is_unwrapped_again_and_again() -> None:
    """Sixty lines from a sequence just below the wrap; then as if another 2**32 had gone by."""
    header = replace(PLAIN, first_sequence=2**32 - 30)
    reader = LineReader(header, Bytes(b"".join(record(index, header) for index in range(60))))
    indices = []
    while (line := reader.read()) is not None:
        indices.append(line.index)
    assert indices == list(range(60))
    step = MAX_JUMP
    data = b"".join(
        encode_record(LINE, index, bytes(PLAIN.payload_bytes)) for index in range(0, 2**32 + 4 * step, step)
    )
    reader = LineReader(PLAIN, Bytes(data))
    last = 0
    while (line := reader.read()) is not None:
        last = line.index
    assert last == 2**32 + 3 * step


@pytest.mark.parametrize("index", [-1, -(2**31), MAX_JUMP + 1, 2**31])
def test_a_record_far_from_its_place_is_counted_and_not_handed_over(index: int) -> None:
    stray = encode_record(LINE, index, values(0).tobytes())
    indices, reader = read_all(record(0) + stray + record(1))
    assert indices == [0, 1]
    assert reader.counters.misplaced == 1


@pytest.mark.parametrize("size", [0, 1, PLAIN.payload_bytes - 1, PLAIN.payload_bytes + 1, 1000])
def test_an_intact_line_of_another_size_comes_without_values_and_the_next_is_found(size: int) -> None:
    data = record(0) + encode_record(LINE, 1, bytes(size), 77) + record(2) + encode_end(PLAIN, 3)
    reader = LineReader(PLAIN, Bytes(data))
    lines = [(line.index, line.values.shape) for line in iter(reader.read, None)]
    assert lines == [(0, (4, 5)), (1, (0, 0)), (2, (4, 5))]
    assert reader.counters.rejected == 1
    assert (reader.counters.damaged, reader.ended) == (0, True)


def test_truth_of_a_class_that_the_header_does_not_know_rejects_its_line() -> None:
    header = replace(PLAIN, truth_classes=3)
    data = b"".join(
        encode_line(header, index, values(index), truth=np.full(4, 3 + index, np.uint8)) for index in (0, 1)
    )
    reader = LineReader(header, Bytes(data))
    assert [line.values.size for line in iter(reader.read, None)] == [20, 0]


def test_a_length_that_lies_is_never_waited_for_nor_allocated() -> None:
    head = struct.pack("<4sB3xIIQI", framing.SYNC, LINE, 1, 2**32 - 1, 0, 0)
    liar = head + struct.pack("<I", zlib.crc32(head))
    indices, _ = read_all(record(0) + liar + record(1) + record(2))
    assert indices == [0, 1, 2]


def test_a_steady_stream_of_large_lines_allocates_nothing_a_line() -> None:
    header = StreamHeader("large", samples=512, bands=512, dtype=np.dtype("<u2"))
    one = encode_line(header, 0, np.zeros((512, 512), np.uint16))
    stream = Bytes(b"".join((one, one, one, one)))
    reader = LineReader(header, stream)
    view = memoryview(stream.data)

    def fill(into: memoryview) -> int:  # copies without a copy of its own
        position = stream.position % len(view)
        count = min(len(into), len(view) - position)
        into[:count] = view[position : position + count]
        stream.position += count
        return count

    reader._fill = fill
    reader.read()
    tracemalloc.start()
    for _ in range(50):
        assert reader.read() is not None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16384


def change(data: bytes, at: int, value: bytes) -> bytes:
    """The header with other bytes in one place, its CRC right again."""
    body = data[:at] + value + data[at + len(value) : -4]
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("header", "at", "value", "message"),
    [
        (PLAIN, 0, b"GET / HT", "no stream of lines begins here"),
        (PLAIN, 6, b"\n\n", "no stream of lines begins here"),  # as a link in text mode makes it
        (PLAIN, 8, b"\2\0", "version 2; it must be 1"),
        (PLAIN, 10, b"\0", "values of type 0"),
        (PLAIN, 10, b"\x0c", "values of type 12"),
        (PLAIN, 11, b"\4", "reserved bytes in use"),
        (PLAIN, 12, bytes(4), "0 samples"),
        (PLAIN, 12, b"\xff\xff\xff\xff", "4294967295 samples"),
        (PLAIN, 12, b"\0\0\1\0\0\1\0\0", "lines of 33554432 bytes"),
        (PLAIN, 16, bytes(4), "0 bands"),
        (PLAIN, 16, b"\xff\xff\xff\xff", "4294967295 bands"),
        (HEADER, 16, b"\xff\xff\xff\xff", "4294967295 bands"),
        (PLAIN, 22, b"\1", "reserved bytes in use"),
        (PLAIN, 40, struct.pack("<d", 0.0), "scale 0.0"),
        (PLAIN, 40, struct.pack("<d", np.nan), "scale nan"),
        (HEADER, 48, struct.pack("<d", np.nan), "NaN as nodata"),
        (HEADER, 56, struct.pack("<d", -1.0), "rate -1.0"),
        (HEADER, 64, struct.pack("<d", -1.0), "a wavelength"),
        (HEADER, 88, b"\x1b[1m", "printable"),
        (HEADER, 88, b"\xff", "printable"),
    ],
)
def test_a_header_outside_the_limits_is_refused_with_the_field(
    header: StreamHeader, at: int, value: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_header(Bytes(change(encode_header(header), at, value)))


@given(at=st.integers(0, len(encode_header(HEADER)) - 1), bit=st.integers(0, 7))
def test_every_flipped_bit_of_a_header_is_refused(at: int, bit: int) -> None:
    damaged = bytearray(encode_header(HEADER))
    damaged[at] ^= 1 << bit
    with pytest.raises(InputError):
        read_header(Bytes(bytes(damaged)))


@pytest.mark.parametrize("length", [0, 5, 63, 64, 90, len(encode_header(HEADER)) - 1])
def test_a_header_that_ends_early_is_refused_with_the_place(length: int) -> None:
    with pytest.raises(InputError, match=f"ends inside its header, after {length} bytes"):
        read_header(Bytes(encode_header(HEADER)[:length]))
