"""MATLAB files: v5 to v7 through SciPy, v7.3 (which is HDF5) through h5py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError, require
from hyperline.scenes.files import reading
from hyperline.scenes.labels import LabelMap, check_labels
from hyperline.scenes.scene import Scene

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HDF5_OFFSETS = (0, 512)  # MATLAB puts a 512-byte block of its own before the HDF5 file
_V5_NUMERIC = frozenset(
    {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
)

Shapes = dict[str, tuple[int, ...]]


def read_scene(path: Path, variable: str | None = None) -> Scene:
    """Read the cube, and the label map if there is exactly one.

    Args:
        path: the file.
        variable: name of the cube; without it, the cube is the only numeric array of three axes. Labels
            are the only array of whole numbers whose size is the cube's lines × samples;
            ``wavelengths_nm`` is read where it exists.

    Raises:
        InputError: no cube or several, or a damaged file.
    """
    shapes = _shapes(path)
    cubes = [name for name, shape in shapes.items() if len(shape) == 3]
    cube = _load(path, _choose(path, shapes, cubes, variable, "cube (three axes)"))
    maps = _label_maps(path, shapes, cube.shape[:2])
    labels, notes = None, []
    if len(maps) == 1:
        ((name, values),) = maps.items()
        labels = check_labels(values, f"{path}: {name}")
    elif maps:
        notes.append(
            f"{path.name} holds {len(maps)} label maps ({', '.join(maps)}) and none was taken; "
            f"choose one as --labels {path.name}:NAME"
        )
    wavelengths = _load(path, "wavelengths_nm").ravel() if "wavelengths_nm" in shapes else None
    return Scene(
        name=path.stem,
        cube=cube,
        labels=labels,
        wavelengths_nm=None if wavelengths is None else wavelengths.astype(np.float64),
        notes=tuple(notes),
    )


def read_labels(path: Path, variable: str | None, size: tuple[int, int]) -> LabelMap:
    """Read the label map ``variable``, or the only array of whole numbers of this (lines, samples) size.

    Raises:
        InputError: no such array or several, or it is no label map.
    """
    shapes = _shapes(path)
    candidates = [] if variable else list(_label_maps(path, shapes, size))
    name = _choose(path, shapes, candidates, variable, f"label map of {size[0]} lines × {size[1]} samples")
    return LabelMap(check_labels(_load(path, name), f"{path}: {name}"))


def _choose(path: Path, shapes: Shapes, candidates: list[str], variable: str | None, what: str) -> str:
    held = ", ".join(f"{name} ({' × '.join(map(str, shape))})" for name, shape in shapes.items()) or "none"
    if variable is not None:
        if variable not in shapes:
            raise InputError(f"{path}: has no numeric array '{variable}'; its numeric arrays: {held}")
        return variable
    if len(candidates) != 1:
        several = f"{len(candidates)} arrays could be the {what}; choose one as {path.name}:NAME"
        raise InputError(f"{path}: {several if candidates else f'no array is a {what}'}; its numeric arrays: {held}")
    return candidates[0]


def _label_maps(path: Path, shapes: Shapes, size: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Load the arrays of this size that hold only whole numbers."""
    arrays = {name: _load(path, name) for name, shape in shapes.items() if shape == size}
    return {
        name: array
        for name, array in arrays.items()
        if array.dtype.kind in "biu" or (array.dtype.kind == "f" and bool((array == np.rint(array)).all()))
    }


def _is_hdf5(path: Path) -> bool:
    with reading(path, "a MATLAB file"), path.open("rb") as file:
        start = file.read(_HDF5_OFFSETS[-1] + len(_HDF5_SIGNATURE))
    return any(start[offset:].startswith(_HDF5_SIGNATURE) for offset in _HDF5_OFFSETS)


def _shapes(path: Path) -> Shapes:
    """List the file's numeric arrays with their shapes as MATLAB shows them."""
    if not _is_hdf5(path):
        scipy_io = require("scipy.io", "mat")
        with reading(path, "a MATLAB file"):
            return {name: shape for name, shape, kind in scipy_io.whosmat(path) if kind in _V5_NUMERIC}
    h5py = require("h5py", "mat")
    with reading(path, "a MATLAB v7.3 file"), h5py.File(path, "r") as file:
        # Text, empty arrays and cells are stored as numbers too; attributes tell them apart.
        return {
            name: item.shape[::-1]
            for name, item in file.items()
            if isinstance(item, h5py.Dataset)
            and item.dtype.kind in "iuf"
            and item.attrs.get("MATLAB_class", b"double") != b"char"
            and "MATLAB_empty" not in item.attrs
        }


def _load(path: Path, name: str) -> NDArray[Any]:
    if not _is_hdf5(path):
        scipy_io = require("scipy.io", "mat")
        with reading(path, "a MATLAB file"):
            return np.asarray(scipy_io.loadmat(path, variable_names=[name])[name])
    h5py = require("h5py", "mat")
    with reading(path, "a MATLAB v7.3 file"), h5py.File(path, "r") as file:
        # MATLAB stores column-major arrays into row-major HDF5: every axis comes out reversed.
        return np.asarray(file[name]).T
