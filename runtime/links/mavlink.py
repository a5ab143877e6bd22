"""Events over MAVLink: a text that every ground station shows, and a record that a program can read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from hyperline.errors import require
from hyperline.runtime.links.event import Event
from hyperline.runtime.links.link import Link
from hyperline.runtime.links.outputs import Output

TUNNEL_TYPE = 0xC84C  # one of MAVLink's types for private use, which are those above 32767
_TEXT = 50  # bytes of a STATUSTEXT
_HEARTBEAT = 1.0  # seconds


class MavlinkLink(Link):
    """Sends STATUSTEXT and TUNNEL for each event (docs/links.md), and a heartbeat a second.

    MAVLink acknowledges neither: sent means handed to the operating system.
    """

    batch = 4

    def __init__(self, name: str, output: Callable[[], Output], system: int = 1, component: int = 191) -> None:
        """Look for the library.

        Args:
            name: for reports.
            output: where messages go; called on every connection.
            system: MAVLink's id of the vehicle.
            component: MAVLink's id of this computer; 191 is MAV_COMP_ID_ONBOARD_COMPUTER.

        Raises:
            InputError: pymavlink is not installed.
        """
        super().__init__(name)
        self._dialect = require("pymavlink.dialects.v20.common", "links")
        self._make = output
        self._system, self._component = system, component
        self._sizer = self._dialect.MAVLink(None, srcSystem=system, srcComponent=component)
        self._protocol = self._dialect.MAVLink(None, srcSystem=system, srcComponent=component)
        self._output: Output | None = None
        self._beat = 0.0

    def encode(self, event: Event) -> bytes:
        """Return both messages, with sequence number 0."""
        return b"".join(message.pack(self._sizer) for message in self._messages(event))

    def _messages(self, event: Event) -> tuple[Any, Any]:
        where = f" {event.pixels} px {event.mean_confidence:.2f} at line {event.centre_line:.0f} "
        where += f"sample {event.centre_sample:.0f}"
        name = event.class_name.encode("ascii", "replace")[: _TEXT - len(where)]
        record = event.record()
        return (
            self._dialect.MAVLink_statustext_message(self._dialect.MAV_SEVERITY_NOTICE, name + where.encode()),
            self._dialect.MAVLink_tunnel_message(0, 0, TUNNEL_TYPE, len(record), record.ljust(128, b"\0")),
        )

    def open(self) -> None:
        """Open the output and say that we are here."""
        self._output = self._make()
        self._beat = 0.0
        self.attend()

    def attend(self) -> None:
        """Send the heartbeat when it is due and the budget has room: ground stations route by it."""
        now = time.monotonic()
        if now - self._beat < _HEARTBEAT:
            return
        common = self._dialect
        message = common.MAVLink_heartbeat_message(
            common.MAV_TYPE_ONBOARD_CONTROLLER, common.MAV_AUTOPILOT_INVALID, 0, 0, common.MAV_STATE_ACTIVE, 3
        )
        if self.spend(len(message.pack(self._sizer))):
            self._beat = now
            self._write(message)

    def send(self, events: Sequence[Event]) -> None:
        """Send the messages of each event."""
        for event in events:
            for message in self._messages(event):
                self._write(message)

    def _write(self, message: Any) -> None:
        if self._output is None:
            raise ConnectionError("the output is closed")
        data = message.pack(self._protocol)
        self._protocol.seq = (self._protocol.seq + 1) % 256
        self._output.write(data)

    def close(self) -> None:
        """Close the output."""
        output, self._output = self._output, None
        if output is not None:
            output.close()
