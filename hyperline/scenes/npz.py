"""NumPy's own files: an .npz archive of named arrays, or one array as .npy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes.arrays import load, names_in
from hyperline.scenes.files import printable, reading
from hyperline.scenes.labels import LabelMap, check_labels, match_class_names
from hyperline.scenes.scene import Scene

_BESIDE_CUBE = ("labels", "class_names", "wavelengths_nm", "wavelengths_nm_nominal", "nodata", "scale")


def read_scene(path: Path, variable: str | None = None) -> Scene:
    """Read ``cube`` and what stands beside it.

    An .npz may also hold ``labels`` (line, sample), ``class_names``, ``wavelengths_nm`` or
    ``wavelengths_nm_nominal`` (band,), ``nodata`` and ``scale`` (one number each). A .npy is mapped;
    members of an .npz are loaded.

    Args:
        path: the file.
        variable: name of the array to take as the cube, in place of ``cube``.

    Raises:
        InputError: no such array, a pickled one, or a damaged file.
    """
    name = variable or "cube"
    arrays = _load(path, name, _BESIDE_CUBE)
    labels = check_labels(arrays["labels"], f"{path}: labels") if "labels" in arrays else None
    class_names, notes = _class_names(arrays, labels, path)
    wavelengths = arrays.get("wavelengths_nm")
    if wavelengths is None and "wavelengths_nm_nominal" in arrays:
        wavelengths = arrays["wavelengths_nm_nominal"]
        notes += (f"{path.name}: wavelengths are nominal band centres",)
    if wavelengths is not None and wavelengths.dtype.kind not in "iuf":
        raise InputError(f"{path}: wavelengths_nm holds {wavelengths.dtype}; it must hold numbers")
    scale = _number(arrays, "scale", path)
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise InputError(f"{path}: scale is {scale:g}; it must be finite and positive")
    return Scene(
        name=path.stem,
        cube=arrays[name],
        labels=labels,
        class_names=class_names,
        wavelengths_nm=None if wavelengths is None else wavelengths.astype(np.float64),
        nodata=_number(arrays, "nodata", path),
        scale=1.0 if scale is None else scale,
        notes=notes,
    )


def read_labels(path: Path, variable: str | None = None) -> LabelMap:
    """Read ``labels`` (or the array ``variable``) and ``class_names``.

    Raises:
        InputError: no such array, or it is no label map.
    """
    name = variable or "labels"
    arrays = _load(path, name, ("class_names",))
    labels = check_labels(arrays[name], f"{path}: {name}")
    try:
        class_names, notes = _class_names(arrays, labels, path)
    except InputError:
        if variable is None:
            raise
        # The names belong to ``labels``; another map in the file may number other classes.
        class_names, notes = (), (f"{path.name}: class_names do not fit {name} and are left out",)
    return LabelMap(labels, class_names, notes)


def _load(path: Path, wanted: str, optional: tuple[str, ...]) -> Mapping[str, NDArray[Any]]:
    try:
        with reading(path, "a NumPy file"):
            loaded = load(path, (wanted, *optional))
            if isinstance(loaded, np.ndarray):
                return {wanted: loaded}
            if wanted not in loaded:
                held = printable(", ".join(names_in(path)))[:300] or "nothing at all"
                raise InputError(f"{path}: has no array '{wanted}', only {held}; choose one as {path.name}:NAME")
            return loaded
    except InputError as error:
        if "pickle" not in str(error.__cause__):
            raise
        # NumPy's own message advises to load it unsafely.
        raise InputError(
            f"{path}: is no NumPy file, or holds pickled objects, which are never loaded; "
            "save plain arrays with numpy.savez"
        ) from error


def _class_names(
    arrays: Mapping[str, NDArray[Any]], labels: NDArray[np.uint8] | None, path: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = arrays.get("class_names")
    if names is None:
        return (), ()
    if names.ndim != 1 or names.dtype.kind != "U":
        raise InputError(f"{path}: class_names must be a list of strings, one a class; it is {names.dtype}")
    return match_class_names(names.tolist(), labels, path)


def _number(arrays: Mapping[str, NDArray[Any]], name: str, path: Path) -> float | None:
    value = arrays.get(name)
    if value is None:
        return None
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise InputError(f"{path}: {name} must be one number; it is {value.dtype} of shape {value.shape}")
    return float(value.item())
