"""Packets: the framing of lines on a wire (``docs/framing.md``).

Each case is a small strip whose bytes are changed in one to eight places, read in pieces of random size. The reader
must hand over exactly the records that are still whole, in their order, and nothing else; a changed stream header
must be refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from fuzzing.damage import Damage, delete, flip, insert, overwrite, place, repeat, truncate
from fuzzing.target import Case, Refusal, Target, attempt
from hyperline.runtime.sources import framing
from hyperline.runtime.sources.framing import LineReader, StreamHeader, encode_end, encode_header, encode_line

RECORD = struct.Struct("<4sB3xIIQI")
CRC = struct.Struct("<I")


class Strip:
    """A strip of twelve small lines as bytes.

    Attributes:
        header: of the stream.
        head: its bytes.
        records: each line's bytes; no two are equal.
        end: the bytes of the end record.
    """

    def __init__(self, random: Random) -> None:
        first = random.choice((0, 7, 2**32 - 5))
        truth = random.choice((0, 3))
        self.header = StreamHeader(
            "fuzz",
            samples=random.randint(1, 4),
            bands=random.randint(1, 5),
            dtype=random.choice(list(framing.CODES)),
            first_sequence=first,
            truth_classes=truth,
            nodata=random.choice((None, -1.0)),
        )
        shape = self.header.samples, self.header.bands
        width = shape[0] * shape[1] * self.header.dtype.itemsize
        self.head = encode_header(self.header)
        self.records = []
        for index in range(12):
            values = np.frombuffer(random.randbytes(width), self.header.dtype).reshape(shape)
            classes = np.array([random.randint(0, 3) for _ in range(shape[0])], np.uint8)
            self.records.append(encode_line(self.header, index, values, random.getrandbits(60), classes))
        self.end = encode_end(self.header, len(self.records))

    @property
    def data(self) -> bytes:
        """All bytes of the stream."""
        return self.head + b"".join(self.records) + self.end


def expected(strip: Strip, data: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """Find by brute force what a reader owes: (index, payload) of whole records before the end, and whether it ends."""
    found = []
    for index, record in enumerate((*strip.records, strip.end)):
        at = data.find(record, len(strip.head))
        while at >= 0:
            found.append((at, index, record))
            at = data.find(record, at + 1)
    owed: list[tuple[int, bytes]] = []
    free = 0
    for at, index, record in sorted(found):
        if at < free:  # its first byte is the last of the one before: only one of the two was not cut
            continue
        if record is strip.end:
            return owed, True
        owed.append((index, record[framing.RECORD_BYTES :]))
        free = at + len(record)
    return owed, False


def read(data: bytes, random: Random) -> tuple[list[tuple[int, bytes]], bool, LineReader]:
    """Read a stream in pieces: (index, payload) of each line with values, whether it ended, and the reader.

    Raises:
        InputError: the header is refused.
    """
    position = 0
    longest = random.choice((1, 7, 64, 4096))

    def fill(view: memoryview) -> int:
        nonlocal position
        piece = data[position : position + min(len(view), random.randint(1, longest))]
        view[: len(piece)] = piece
        position += len(piece)
        return len(piece)

    reader = LineReader(framing.read_header(fill), fill)
    lines = []
    while (line := reader.read()) is not None:
        if line.values.size:
            lines.append((line.index, line.values.tobytes() + (b"" if line.truth is None else line.truth.tobytes())))
    return lines, reader.ended, reader


def insert_sync(data: bytearray, random: Random) -> None:
    """Put sync words where none belong."""
    at = place(data, random)
    data[at:at] = framing.SYNC * random.randint(1, 9)


def insert_head(data: bytearray, random: Random) -> None:
    """Put a record head with a right CRC where none belongs: a length or a kind that lies, no payload."""
    kind = random.choice((0, framing.LINE, framing.LINE, 3, 255))
    length = random.choice((0, 1, 2**31, 2**32 - 1, random.randrange(2**32)))
    sequence = random.choice((random.randrange(12), random.randrange(2**31, 2**32 - 2**20)))
    head = RECORD.pack(framing.SYNC, kind, sequence, length, 0, random.randrange(2**32))
    at = place(data, random)
    data[at:at] = head + CRC.pack(zlib.crc32(head))


def forge_header(data: bytearray, random: Random) -> None:
    """Change a field of the stream header and make its CRC right again: only the limits can refuse it."""
    size = framing.STREAM_BYTES + 4  # the name of these strips
    if len(data) < size + 4:
        return
    at = random.randrange(8, framing.STREAM_BYTES)
    for changed in range(at, min(at + random.choice((1, 4, 8)), framing.STREAM_BYTES)):
        data[changed] = random.choice((0, 0xFF, random.randrange(256)))
    data[size : size + 4] = CRC.pack(zlib.crc32(data[:size]))


MUTATIONS: tuple[Damage, ...] = (
    flip,
    overwrite,
    insert,
    delete,
    repeat,
    truncate,
    insert_sync,
    insert_head,
)


def check_case(strip: Strip, data: bytes, random: Random) -> str:
    """Read one mutated stream.

    Returns:
        What came of it: refused, ended or cut.

    Raises:
        AssertionError: the reader owed something else.
    """
    whole = data.startswith(strip.head)
    found = attempt(lambda: read(data, random))
    if isinstance(found, Refusal):
        assert not whole, "a whole stream header was refused"
        return "refused"
    lines, ended, reader = found
    if whole:
        owed, ends = expected(strip, data)
        assert lines == owed, f"owed lines {[i for i, _ in owed]}, got {[i for i, _ in lines]}"
        assert ended == ends, f"ended: {ended}, the end record is {'there' if ends else 'not there'}"
    assert reader.counters.skipped_bytes <= len(data), "more bytes skipped than there are"
    return "ended" if ended else "cut"


def mutate(strip: Strip, random: Random) -> tuple[bytes, list[str]]:
    """Damage a strip's bytes; return them and the names of what was done."""
    head, data = bytearray(), bytearray(strip.data)
    mutations = [random.choice(MUTATIONS) for _ in range(random.randint(1, 8))]
    # Three of four cases keep the stream header, or there would be few lines to owe.
    if random.random() < 0.75:
        head, data = data[: len(strip.head)], data[len(strip.head) :]
    elif random.random() < 0.5:
        mutations.insert(0, forge_header)
    for mutation in mutations:
        mutation(data, random)
    return bytes(head + data), [mutation.__name__ for mutation in mutations]


@dataclass(frozen=True)
class StreamCase(Case):
    """A damaged stream, with the strip that it was and what decides in which pieces it is read."""

    strip: Strip
    pieces: Random


class Packets(Target):
    """Streams of lines as a receiver gets them."""

    name = "packets"
    accepted = "ended"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.strips = [Strip(Random(f"strip {number}")) for number in range(64)]

    def originals(self) -> Iterator[Case]:
        """Give the strips."""
        for strip in self.strips:
            yield StreamCase((), {"stream": strip.data}, strip, Random(0))

    def make(self, random: Random) -> Case:
        """Damage a strip."""
        strip = random.choice(self.strips)
        data, done = mutate(strip, random)
        return StreamCase(tuple(done), {"stream": data}, strip, random)

    def check(self, case: Case) -> str:
        """Read a stream: refused, ended or cut."""
        assert isinstance(case, StreamCase)
        return check_case(case.strip, case.files["stream"], case.pieces)
