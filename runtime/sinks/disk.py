"""Writing to disk: whole files or the old ones, and one clear error when the disk fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperline.errors import HyperlineError


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about ``path`` into an error that a person can act on."""
    try:
        yield
    except OSError as error:
        raise HyperlineError(
            f"{path} cannot be written: {error.strerror or error}; make room there, or choose another folder"
        ) from error


def replace_text(path: Path, text: str) -> None:
    """Put a small text file in place at once: a reader meets the old one or the new one, and so does a loss of power.

    Args:
        path: the file to make or replace.
        text: its content.

    Raises:
        OSError: the disk is full or gone; the old file stands.
    """
    draft = path.with_name(f"{path.name}.part")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
