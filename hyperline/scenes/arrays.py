"""NumPy's files, believed only as far as they bear themselves out.

NumPy takes an array's header at its word: it allocates what the header says, and has no limit for a shape or a type
that cannot be (a negative length of empty values ends the process in 2.4.6). So header, member and file are compared
first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from hyperline.errors import InputError

_MAGIC = b"\x93NUMPY"
# Deflate makes at most 1032 bytes of one (https://zlib.net/zlib_tech.html).
_MOST_INFLATED = 1032
_MOST_CODE_POINT = 0x10FFFF


def load(path: Path, names: Iterable[str]) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Load a file of NumPy's.

    Args:
        path: a .npy, which is mapped, or an .npz, whose members are loaded.
        names: of the arrays wanted of an .npz.

    Returns:
        The array of a .npy; those of the wanted arrays that an .npz holds.

    Raises:
        InputError: an array declares another size than it has, or is none that is read.
        Exception: whatever NumPy, zipfile or zlib raise where the file is damaged.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            file.seek(0)
            _check(file, path.stat().st_size, str(path))
    loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return _checked_text(loaded, str(path))
    with loaded as archive:
        return {name: _read(archive, name, path) for name in names if name in archive}


def names_in(path: Path) -> list[str]:
    """Return the names of an .npz archive's arrays."""
    with np.load(path, allow_pickle=False) as archive:
        return list(archive.files)


def _read(archive: NpzFile, name: str, path: Path) -> NDArray[Any]:
    zipped = archive.zip
    assert zipped is not None  # it is open
    member = f"{name}.npy" if f"{name}.npy" in zipped.namelist() else name
    size = zipped.getinfo(member).file_size
    where = f"{path}: {name}"
    if size > _MOST_INFLATED * path.stat().st_size:
        raise InputError(f"{where} declares {size} bytes, which so short a file cannot hold; copy it again")
    with zipped.open(member) as file:
        _check(file, size, where)
    array: NDArray[Any] = archive[name]
    return _checked_text(array, where)


def _check(file: IO[bytes], size: int, where: str) -> None:
    """Compare the header of an array with the bytes that there are."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise InputError(f"{where} is an array of format {version[0]}.{version[1]}; save a plain one")
    if dtype.hasobject:
        raise InputError(f"{where} holds pickled objects, which are never loaded; save plain arrays with numpy.savez")
    if dtype.names is not None or dtype.itemsize == 0:
        raise InputError(f"{where} holds records or nothing at all; save a plain array of numbers")
    declared, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or declared != held:
        raise InputError(f"{where} has {held} bytes of data, not what its header declares; copy it or save it again")


def _checked_text(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Refuse text with numbers that are no characters, of which NumPy would make strings that break Python."""
    if array.dtype.kind == "U":
        codes = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if codes.max(initial=0) > _MOST_CODE_POINT:
            raise InputError(f"{where} holds text that is damaged; copy it or save it again")
    return array
