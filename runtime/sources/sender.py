"""The other end of a wire: sends the lines of a source, and damages them on request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from numpy.typing import NDArray

from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.sources.framing import (
    LINE,
    RECORD_BYTES,
    StreamHeader,
    encode_end,
    encode_header,
    encode_line,
    encode_record,
)
from hyperline.runtime.sources.source import Source
from hyperline.runtime.sources.transport import Transport


@dataclass(frozen=True)
class Damage:
    """What goes wrong on the way, each with this probability a line; the first that happens is the only one.

    Attributes:
        lost: the line is not sent.
        duplicated: it is sent twice.
        reordered: it is sent after the next one.
        corrupted: one of its record's bits is flipped.
        cut: some of its record's bytes are missing.
        resized: it is sent without its last byte, in an intact record.

    Raises:
        InputError: a probability is outside 0 to 1, or they sum to more than 1.
    """

    lost: float = 0.0
    duplicated: float = 0.0
    reordered: float = 0.0
    corrupted: float = 0.0
    cut: float = 0.0
    resized: float = 0.0

    def __post_init__(self) -> None:
        probabilities = [getattr(self, kind.name) for kind in fields(self)]
        if not all(0 <= probability <= 1 for probability in probabilities) or sum(probabilities) > 1:
            raise InputError(f"damage needs probabilities from 0 to 1 that sum to at most 1, not {probabilities}")

    @classmethod
    def parse(cls, text: str) -> Damage:
        """Read ``lost=0.01,cut=0.001``.

        Raises:
            InputError: it is written otherwise, or names no kind of damage.
        """
        known = [kind.name for kind in fields(cls)]
        values: dict[str, float] = {}
        for part in filter(None, text.split(",")):
            kind, _, value = part.partition("=")
            if kind not in known or kind in values:
                raise InputError(f"damage {part!r}: name each of {', '.join(known)} at most once, as lost=0.01")
            try:
                values[kind] = float(value)
            except ValueError:
                raise InputError(f"damage {part!r}: {value!r} is no probability") from None
        return cls(**values)

    def draw(self, random: Random) -> str | None:
        """Return what happens to a line, or None."""
        left = random.random()
        for kind in fields(self):
            left -= getattr(self, kind.name)
            if left < 0:
                return kind.name
        return None


@dataclass(frozen=True)
class Shutter:
    """A shutter that closes again and again.

    Attributes:
        darks: (line, sample, band), what the detector gives then, over and over.
        every: lines from one closing to the next.
        lines: of a closing; the strip begins with one.

    Raises:
        InputError: a closing is not shorter than the way to the next, or there are no dark lines.
    """

    darks: NDArray[Any]
    every: int
    lines: int

    def __post_init__(self) -> None:
        if not 1 <= self.lines < self.every or not len(self.darks):
            raise InputError(f"a shutter closes for 1 to {self.every - 1} lines of {self.every}, not {self.lines}")

    def sees(self, index: int) -> NDArray[Any] | None:
        """Return the dark line that comes in the place of a line, or None where the shutter is open."""
        if index % self.every >= self.lines:
            return None
        dark: NDArray[Any] = self.darks[(index // self.every * self.lines + index % self.every) % len(self.darks)]
        return dark


@dataclass
class SendReport:
    """What was sent.

    Attributes:
        lines: of the source.
        damaged: of those, lines that damage was done to.
        reconnections: times that the receiver was met again.
    """

    lines: int = 0
    damaged: int = 0
    reconnections: int = 0


def describe(source: Source, *, strip: int, first_sequence: int = 0, truth: bool = False) -> StreamHeader:
    """Return the stream header of a source.

    Args:
        source: what will be sent.
        strip: a number that no other strip has.
        first_sequence: of line 0.
        truth: whether to send the truth that the source has.

    Raises:
        InputError: the source is outside the limits of the framing.
    """
    nodata = source.nodata
    centres = source.wavelengths_nm
    return StreamHeader(
        source.name,
        source.samples,
        source.bands,
        source.dtype.newbyteorder("<"),
        strip=strip,
        scale=source.scale,
        nodata=None if nodata is None or nodata != nodata else nodata,  # NaN is no measurement, declared or not
        rate=source.rate,
        lines=source.lines,
        first_sequence=first_sequence,
        wavelengths_nm=None if centres is None else tuple(centres.tolist()),
        truth_classes=source.truth_classes if truth else 0,
    )


def send_strip(
    source: Source,
    header: StreamHeader,
    transport: Transport,
    *,
    patience: float,
    damage: Damage | None = None,
    seed: int = 0,
    shutter: Shutter | None = None,
) -> SendReport:
    """Send a strip: its header, its lines as the source gives them, its end.

    A receiver that goes away is waited for and gets the header again, then the record that it missed and what
    follows. What lay between the two machines at the break is lost, as a line would be.

    Args:
        source: the lines; each carries the time of its sending as the sensor's clock.
        header: as ``describe`` gives it.
        transport: where the receiver is; released at the end. A caller is waited for without limit the first time.
        patience: seconds to wait for a receiver that we call, and for one that went away.
        damage: what goes wrong, if anything.
        seed: of the damage.
        shutter: what it hides, if there is one.

    Raises:
        HyperlineError: there is no receiver, or it went away and did not come back.
    """
    report = SendReport()
    try:
        deadline = time.monotonic() + patience if transport.chosen else float("inf")
        if not _greet(transport, header, deadline):
            raise HyperlineError(f"nobody takes the strip at {transport.name} for {patience:g} s; start the receiver")
        for record in _records(source, header, damage or Damage(), Random(seed), report, shutter):
            while not transport.send(record):
                transport.hang_up()
                if not transport.lasting or not _greet(transport, header, time.monotonic() + patience):
                    raise HyperlineError(f"the receiver at {transport.name} went away after {report.lines} lines")
                report.reconnections += 1
    finally:
        transport.release()
    return report


def _greet(transport: Transport, header: StreamHeader, deadline: float) -> bool:
    while transport.establish(deadline):
        if transport.send(encode_header(header)):
            return True
        transport.hang_up()
    return False


def _records(
    source: Source,
    header: StreamHeader,
    damage: Damage,
    random: Random,
    report: SendReport,
    shutter: Shutter | None,
) -> Iterator[bytes]:
    held = b""  # a record that the next one overtakes
    for line in source:
        dark = shutter.sees(line.index) if shutter else None
        if dark is None:
            record = encode_line(header, line.index, line.values, time.time_ns(), line.truth, line.dark)
        else:
            record = encode_line(header, line.index, dark, time.time_ns(), dark=True)
        report.lines += 1
        harm = damage.draw(random)
        if harm == "reordered" and held:
            harm = None  # one line overtakes another, no more
        report.damaged += harm is not None
        if harm == "reordered":
            held = record
            continue
        if harm == "lost":
            record = b""
        elif harm == "duplicated":
            record += record
        elif harm == "corrupted":
            bit = random.randrange(8 * len(record))
            flipped = bytearray(record)
            flipped[bit // 8] ^= 1 << bit % 8
            record = bytes(flipped)
        elif harm == "cut":
            start, stop = sorted(random.sample(range(len(record) + 1), 2))
            record = record[:start] + record[stop:]
        elif harm == "resized":
            record = encode_record(LINE, header.first_sequence + line.index, record[RECORD_BYTES:-1], time.time_ns())
        if record or held:
            yield record + held
        held = b""
    yield held + encode_end(header, report.lines)
