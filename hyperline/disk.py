"""Writing to disk: whole files or the old ones, and one clear error when the disk fails."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperline.errors import HyperlineError, InputError


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about ``path`` into an error that a person can act on.

    Raises:
        HyperlineError: in place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise HyperlineError(
            f"{path} cannot be written: {error.strerror or error}; make room there, or choose another folder"
        ) from error


def write_all(file: int, data: bytes | memoryview, offset: int) -> None:
    """Write at an offset; a disk that fills up takes the first part alone, and says so at the next.

    Args:
        file: its descriptor.
        data: what to write.
        offset: in bytes.

    Raises:
        OSError: the disk is full or gone.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in place so that a crash or a loss of power at any time leaves the old file or the new one.

    Args:
        path: the file to make or replace; a link stays a link.
        data: its content.

    Raises:
        InputError: ``path`` is a folder, or its folder does not exist.
        HyperlineError: the disk is full or gone; the old file stands, and nothing is left beside it.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir() or not target.parent.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder, or its folder does not exist")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with disk_errors(path):
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        finally:
            draft.unlink(missing_ok=True)
