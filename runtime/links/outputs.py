"""Where the bytes of a link without acknowledgement go: datagrams, a serial line, a file."""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from pathlib import Path

from hyperline.errors import require


class Output(ABC):
    """Takes whole messages."""

    @abstractmethod
    def write(self, message: bytes) -> None:
        """Hand over one message whole, or raise."""

    def flush(self) -> None:  # noqa: B027  # what is on its way cannot be made safer
        """Wait until what was written is safe."""

    @abstractmethod
    def close(self) -> None:
        """Release it."""


class UdpOutput(Output):
    """One datagram a message; connected, so that a port of which ICMP says that nobody listens is an error."""

    def __init__(self, host: str, port: int) -> None:
        """Resolve the address."""
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, kind, protocol)
        try:
            self._socket.settimeout(1.0)
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    def write(self, message: bytes) -> None:
        """Send one datagram."""
        self._socket.send(message)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class SerialOutput(Output):
    """A serial line, such as the one to the autopilot."""

    def __init__(self, device: str, baud: int) -> None:
        """Open the device."""
        self._serial = require("serial", "links").Serial(device, baud, write_timeout=2.0)

    def write(self, message: bytes) -> None:
        """Write all bytes; raises where the far end holds them up for two seconds."""
        self._serial.write(message)

    def close(self) -> None:
        """Close the device."""
        self._serial.close()


class FileOutput(Output):
    """Messages one behind the other, appended; of one that the disk took in part nothing stays."""

    def __init__(self, path: Path, message_bytes: int) -> None:
        """Open the file to append.

        Args:
            path: the file.
            message_bytes: size of every message. What a loss of power tore at the end is cut off, for it would
                shift all behind it.
        """
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._file).st_size
        os.ftruncate(self._file, size - size % message_bytes)

    def write(self, message: bytes) -> None:
        """Append."""
        size = os.fstat(self._file).st_size
        if os.write(self._file, message) < len(message):
            os.ftruncate(self._file, size)
            raise OSError("the disk took part of a message; make room there")

    def flush(self) -> None:
        """Wait for the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
