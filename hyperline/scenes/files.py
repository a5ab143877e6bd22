"""Turning whatever a file library raises into one error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperline.errors import HyperlineError, InputError

_MOST_CHARACTERS = 300


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
        reason = printable(" ".join(str(error).split())) or type(error).__name__
        if len(reason) > _MOST_CHARACTERS:
            reason = f"{reason[:_MOST_CHARACTERS]}..."
        raise InputError(f"{path}: cannot be read as {kind}: {reason}") from error


def printable(text: str) -> str:
    """Return text of a stranger's file without the characters that could drive a terminal.

    Any white space becomes a space, any other control character U+FFFD, the replacement character.
    """
    return text if text.isprintable() else text.translate(_Printable())


class _Printable:
    """What stands for each character, as ``str.translate`` asks for it: no table of them all, no list of the text's."""

    def __getitem__(self, code: int) -> str:
        character = chr(code)
        if character.isprintable():
            return character
        return " " if character.isspace() else "\ufffd"
