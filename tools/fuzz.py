"""Feed a reader damaged bytes, for as long as it takes, and hold it to what it promises.

    python tools/fuzz.py framing --count 1000000

Each case is a small strip whose bytes are changed in one to eight places, read in pieces of random size. The reader
must hand over exactly the records that are still whole, in their order, and nothing else; a changed stream header
must be refused with an ``InputError``. Ends with exit code 1 at the first case that breaks this, takes more than
5 s or drives the process's memory more than 64 MiB up, and says which: ``--seed`` and ``--first`` repeat it.
"""

from __future__ import annotations

import argparse
import resource
import signal
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from random import Random

import numpy as np

from hyperline.errors import InputError
from hyperline.runtime.sources import framing
from hyperline.runtime.sources.framing import LineReader, StreamHeader, encode_end, encode_header, encode_line

CASE_S = 5
EXTRA_MEMORY_MIB = 64
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


def _place(data: bytearray, random: Random) -> int:
    return random.randrange(len(data) + 1)


def flip(data: bytearray, random: Random) -> None:
    """Flip a bit."""
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def overwrite(data: bytearray, random: Random) -> None:
    """Put noise over some bytes."""
    at = _place(data, random)
    noise = random.randbytes(random.randint(1, 40))
    data[at : at + len(noise)] = noise


def insert(data: bytearray, random: Random) -> None:
    """Put noise between two bytes."""
    at = _place(data, random)
    data[at:at] = random.randbytes(random.randint(1, 200))


def delete(data: bytearray, random: Random) -> None:
    """Take bytes out."""
    at = _place(data, random)
    del data[at : at + random.randint(1, 200)]


def repeat(data: bytearray, random: Random) -> None:
    """Put a copy of some bytes elsewhere."""
    at = _place(data, random)
    copied = data[at : at + random.randint(1, 300)]
    at = _place(data, random)
    data[at:at] = copied


def truncate(data: bytearray, random: Random) -> None:
    """End the stream early."""
    del data[_place(data, random) :]


def insert_sync(data: bytearray, random: Random) -> None:
    """Put sync words where none belong."""
    at = _place(data, random)
    data[at:at] = framing.SYNC * random.randint(1, 9)


def insert_head(data: bytearray, random: Random) -> None:
    """Put a record head with a right CRC where none belongs: a length or a kind that lies, no payload."""
    kind = random.choice((0, framing.LINE, framing.LINE, 3, 255))
    length = random.choice((0, 1, 2**31, 2**32 - 1, random.randrange(2**32)))
    sequence = random.choice((random.randrange(12), random.randrange(2**31, 2**32 - 2**20)))
    head = RECORD.pack(framing.SYNC, kind, sequence, length, 0, random.randrange(2**32))
    at = _place(data, random)
    data[at:at] = head + CRC.pack(zlib.crc32(head))


def forge_header(data: bytearray, random: Random) -> None:
    """Change a field of the stream header and make its CRC right again: only the limits can refuse it."""
    size = framing.STREAM_BYTES + 4  # the name of these strips
    if len(data) < size + 4:
        return
    at = random.randrange(8, framing.STREAM_BYTES)
    for place in range(at, min(at + random.choice((1, 4, 8)), framing.STREAM_BYTES)):
        data[place] = random.choice((0, 0xFF, random.randrange(256)))
    data[size : size + 4] = CRC.pack(zlib.crc32(data[:size]))


MUTATIONS: tuple[Callable[[bytearray, Random], None], ...] = (
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
    try:
        lines, ended, reader = read(data, random)
    except InputError:
        assert not whole, "a whole stream header was refused"
        return "refused"
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


def resident_mib() -> float:
    """Return the most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _too_long(signum: int, frame: object) -> None:
    raise AssertionError(f"a case took more than {CASE_S} s")


def fuzz_framing(count: int, seed: int, first: int) -> int:
    """Run the cases; print the log and return the exit code."""
    signal.signal(signal.SIGALRM, _too_long)
    kinds: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    strips = [Strip(Random(f"{seed} strip {number}")) for number in range(64)]
    for strip in strips:  # what the first reads allocate once
        check_case(strip, strip.data, Random(0))
    before, start, slowest = resident_mib(), time.perf_counter(), 0.0
    for case in range(first, first + count):
        random = Random(seed << 40 | case)
        strip = strips[case % len(strips)]
        data, names = mutate(strip, random)
        kinds.update(names)
        began = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, CASE_S)
        try:
            outcomes[check_case(strip, data, random)] += 1
            extra = resident_mib() - before
            assert extra <= EXTRA_MEMORY_MIB, f"{extra:.1f} MiB more memory, allowed are {EXTRA_MEMORY_MIB}"
        except Exception as error:  # whatever it is, it is the finding
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(f"FAILED case {case} (--seed {seed} --first {case} --count 1), {', '.join(names)}: {error!r}")
            return 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        slowest = max(slowest, time.perf_counter() - began)
        done, seconds = case + 1 - first, time.perf_counter() - start
        if done % 100_000 == 0:
            print(f"{done} cases, {seconds:.0f} s, {resident_mib() - before:.1f} MiB extra", flush=True)
    print(
        f"framing: {count} mutated streams from seed {seed}, {sum(kinds.values())} mutations, no fault; "
        f"{time.perf_counter() - start:.0f} s, slowest case {slowest * 1e3:.1f} ms, "
        f"at most {resident_mib() - before:.1f} MiB extra memory"
    )
    for title, counted in (("outcomes", outcomes), ("mutations", kinds)):
        print(f"{title}: " + ", ".join(f"{name} {number}" for name, number in sorted(counted.items())))
    return 0


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=["framing"])
    parser.add_argument("--count", type=int, default=1_000_000, help="mutated streams")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    arguments = parser.parse_args()
    sys.exit(fuzz_framing(arguments.count, arguments.seed, arguments.first))


if __name__ == "__main__":
    main()
