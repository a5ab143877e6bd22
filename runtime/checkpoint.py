"""Where a strip can go on after the process or the power has gone.

After every block the carried state and the counters go into one of three slots, in turns, without waiting for the
disk: a killed process leaves them in the system's cache, and only the block in flight is computed again. Every second
the maps and then the slot are synced, and the synced slot is left alone until the next one is: after a power cut, which
may tear any of the others, that one is whole, and everything it speaks of is on the disk.

A slot is written in place, with a checksum, and not renamed into place: a rename a block would wait for the disk, which
is milliseconds, and wear flash.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from hyperline.disk import disk_errors

SLOTS = tuple(f"state.{number}" for number in range(3))

_MAGIC = b"HLS1"
# magic, bytes of facts, bytes of state, serial number; then the CRC-32 of this, the facts and the state
_HEAD = struct.Struct("<4sIQQ")
_CRC = struct.Struct("<I")
_MAX_FACTS = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A strip between two blocks.

    Attributes:
        serial: one more with every block.
        facts: counters, and what the strip is of (see `hyperline.runtime.strip`).
        state: of the engine, flat float32.
    """

    serial: int
    facts: dict[str, Any]
    state: NDArray[np.float32]


class Checkpoints:
    """The slots of a strip that is being flown."""

    def __init__(self, folder: Path, resumed: int | None = None) -> None:
        """Open the slots.

        Args:
            folder: of the strip.
            resumed: number of the slot that was resumed from, which is left alone until another is on the disk; None
                for a new strip, which empties all.

        Raises:
            HyperlineError: the disk is full or gone.
        """
        self._files = []
        for name in SLOTS:
            with disk_errors(folder / name):
                # A slot that was not resumed from may be later, and speak of lines that are gone.
                stale = 0 if resumed is not None and name == SLOTS[resumed] else os.O_TRUNC
                self._files.append((folder / name, os.open(folder / name, os.O_RDWR | os.O_CREAT | stale, 0o644)))
        self._synced = resumed
        self._latest = resumed if resumed is not None else -1

    def write(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint into a slot that is not the synced one.

        Raises:
            HyperlineError: the disk is full or gone; the synced slot is untouched.
        """
        slot = next(
            number
            for number in ((self._latest + step) % len(SLOTS) for step in range(1, len(SLOTS) + 1))
            if number != self._synced
        )
        facts = json.dumps(checkpoint.facts).encode()
        state = np.ascontiguousarray(checkpoint.state).view(np.uint8).data
        head = _HEAD.pack(_MAGIC, len(facts), len(state), checkpoint.serial)
        word = zlib.crc32(state, zlib.crc32(facts, zlib.crc32(head)))
        path, file = self._files[slot]
        with disk_errors(path):
            parts: list[Buffer] = [head, _CRC.pack(word), facts, state]
            size = len(head) + _CRC.size + len(facts) + len(state)
            written = os.pwritev(file, parts, 0)
            if written != size:
                raise OSError(28, os.strerror(28))
        self._latest = slot

    def sync(self) -> None:
        """Put the latest checkpoint on the disk; the maps must be there already.

        Raises:
            HyperlineError: the disk is full or gone.
        """
        if self._latest >= 0:
            path, file = self._files[self._latest]
            with disk_errors(path):
                os.fsync(file)
            self._synced = self._latest

    def close(self) -> None:
        """Close the files."""
        for _, file in self._files:
            os.close(file)


def read_checkpoints(folder: Path) -> list[tuple[int, Checkpoint]]:
    """Return the slots of a folder that are whole, with their numbers, the latest first."""
    found = []
    for number, name in enumerate(SLOTS):
        checkpoint = _read(folder / name)
        if checkpoint is not None:
            found.append((number, checkpoint))
    return sorted(found, key=lambda pair: -pair[1].serial)


def _read(path: Path) -> Checkpoint | None:
    start = _HEAD.size + _CRC.size
    try:
        with path.open("rb") as file:
            data = file.read(start)
            if len(data) < start:
                return None
            magic, facts_size, state_size, serial = _HEAD.unpack_from(data)
            end = start + facts_size + state_size
            whole = end <= os.fstat(file.fileno()).st_size
            if magic != _MAGIC or facts_size > _MAX_FACTS or not whole or state_size % 4:
                return None
            data += file.read(end - start)
    except OSError:
        return None
    facts, state = data[start : start + facts_size], data[start + facts_size : end]
    word = zlib.crc32(state, zlib.crc32(facts, zlib.crc32(data[: _HEAD.size])))
    if _CRC.unpack_from(data, _HEAD.size)[0] != word:
        return None
    try:
        held = json.loads(facts)
    except (ValueError, RecursionError):
        return None
    return Checkpoint(serial, held, np.frombuffer(state, np.float32)) if isinstance(held, dict) else None
