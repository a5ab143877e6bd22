"""What is here, what is not, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hyperline.doctor.clock import examine_clock
from hyperline.doctor.disk import examine_disk
from hyperline.doctor.finding import Finding
from hyperline.doctor.installation import examine_installation
from hyperline.doctor.machine import examine_machine
from hyperline.doctor.network import examine_cameras, examine_receive_buffer, examine_source

__all__ = ["Finding", "examine"]


def examine(out: Path, source: str | None = None) -> Iterator[Finding]:
    """Look at everything, from the ground up; some seconds.

    Args:
        out: where a strip is to be written; its disk is tried.
        source: to reach, as `hyperline run --source` takes it.
    """
    yield from examine_installation()
    yield from examine_machine()
    yield examine_disk(out)
    yield examine_clock()
    yield examine_receive_buffer()
    yield from examine_cameras()
    if source is not None:
        yield examine_source(source)
