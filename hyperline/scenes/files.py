"""Turning whatever a file library raises into one error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperline.errors import HyperlineError, InputError


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Report any failure inside the block as an ``InputError`` about this file.

    Args:
        path: the file being read.
        kind: what it was taken for, with its article, such as ``"an .npz archive"``.

    Raises:
        InputError: in place of whatever the library raised.
    """
    try:
        yield
    except HyperlineError:
        raise
    except Exception as error:
        # A damaged file makes zipfile, zlib, SciPy, HDF5 and GDAL raise almost any type of error.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read as {kind}: {reason}") from error
