"""Events as JSON lines in a file: what is kept on board, whatever the radio does."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from hyperline.errors import InputError
from hyperline.runtime.links.event import Event
from hyperline.runtime.links.link import Link


class JsonLinesLink(Link):
    """Appends a line an event, and waits for the disk after every batch.

    A batch that the disk took in part is cut off again before it is tried anew, so the file holds whole lines. A line
    that an earlier flight left torn is ended, not removed. A pipe or a device takes the lines as they come.
    """

    batch = 256
    radio = False

    def __init__(self, path: Path) -> None:
        """Look at the path.

        Raises:
            InputError: ``path`` is a folder, or its folder does not exist.
        """
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(f"events cannot go to {path}: it is a folder, or its folder does not exist")
        super().__init__(f"jsonl:{path}")
        self._path = path
        self._file = -1
        self._on_disk = True

    def encode(self, event: Event) -> bytes:
        """Return a line of ASCII."""
        return json.dumps(event.as_dict(), separators=(",", ":")).encode() + b"\n"

    def open(self) -> None:
        """Open the file to append."""
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        status = os.fstat(self._file)
        self._on_disk = stat.S_ISREG(status.st_mode)
        if self._on_disk and status.st_size and os.pread(self._file, 1, status.st_size - 1) != b"\n":
            self._append(b"\n")

    def send(self, events: Sequence[Event]) -> None:
        """Append the events in the order in which they ended."""
        self._append(b"".join(map(self.encode, sorted(events, key=lambda event: event.sequence))))

    def _append(self, data: bytes) -> None:
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            while written < len(data):
                written += os.write(self._file, data[written:])
            if self._on_disk:
                os.fsync(self._file)
        except OSError:
            if self._on_disk:
                os.ftruncate(self._file, size)
            raise

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
