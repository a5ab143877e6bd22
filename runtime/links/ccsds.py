"""Events as CCSDS space packets (CCSDS 133.0-B-2), over UDP or into a file."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Sequence

from hyperline.errors import InputError, require
from hyperline.runtime.links.event import RECORD_BYTES, Event
from hyperline.runtime.links.link import Link
from hyperline.runtime.links.outputs import Output

_DAY_MS = 86_400_000
PACKET_BYTES = 6 + 7 + RECORD_BYTES + 2  # header, time, record, checksum


class CcsdsLink(Link):
    """Sends a telemetry packet of ``PACKET_BYTES`` bytes an event; docs/links.md has it to the byte.

    Neither UDP nor a file acknowledges: sent means that the operating system has it. The packet's sequence count
    shows what was lost on the way, the event's sequence what the budget left out.
    """

    def __init__(self, name: str, output: Callable[[], Output], apid: int, radio: bool) -> None:
        """Look for the library.

        Args:
            name: for reports.
            output: where packets go; called on every connection.
            apid: application process identifier, 0 to 2046; 2047 is that of idle packets.
            radio: whether the budget applies.

        Raises:
            InputError: spacepackets is not installed, or no such ``apid``.
        """
        if not 0 <= apid < 0x7FF:
            raise InputError(f"{name}: apid must be from 0 to 2046, not {apid}")
        super().__init__(name)
        self.radio = radio
        self._packets = require("spacepackets.ccsds.spacepacket", "links")
        self._time = require("spacepackets.ccsds.time", "links")
        self._apid = apid
        self._make = output
        self._output: Output | None = None
        self._count = 0

    def encode(self, event: Event) -> bytes:
        """Return the packet, with the sequence count that the next one has."""
        days, milliseconds = divmod(round(event.first_time * 1000), _DAY_MS)
        # A clock that was never set may be before CCSDS's epoch of 1958 or beyond its 16 bits of days.
        stamp = self._time.CdsShortTimestamp.from_unix_days(min(max(days, -4383), 61152), milliseconds)
        data = bytes(stamp.pack()) + event.record()
        header = self._packets.SpacePacketHeader.tm(
            apid=self._apid, seq_count=self._count, data_len=len(data) + 2 - 1, sec_header_flag=True
        )
        packet = bytes(header.pack()) + data
        return packet + crc_hqx(packet, 0xFFFF).to_bytes(2, "big")

    def open(self) -> None:
        """Open the output."""
        self._output = self._make()

    def send(self, events: Sequence[Event]) -> None:
        """Send a packet an event."""
        if self._output is None:
            raise ConnectionError("the output is closed")
        for event in events:
            packet = self.encode(event)
            self._count = (self._count + 1) % (1 << 14)
            self._output.write(packet)
        self._output.flush()

    def close(self) -> None:
        """Close the output."""
        output, self._output = self._output, None
        if output is not None:
            output.close()
