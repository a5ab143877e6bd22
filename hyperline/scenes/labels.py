"""Label maps: what may serve as truth, and the names that go with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes.files import printable

MAX_CLASSES = 255
"""Class ids are stored as uint8, and 0 is "unlabelled"."""

_NO_CLASS_NAMES = frozenset(
    {"unlabelled", "unlabeled", "unclassified", "undefined", "background", "none", "nodata", "no data"}
)


@dataclass(frozen=True)
class LabelMap:
    """A checked label map.

    Attributes:
        values: (line, sample) uint8 class ids, 0 = unlabelled.
        class_names: name of class 1, 2, …; empty where unknown.
        notes: what had to be assumed.
    """

    values: NDArray[np.uint8]
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_labels(values: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Check that an array is a label map and return it as uint8.

    Args:
        values: (line, sample) class ids of any real dtype.
        where: the file, and the array's name in it, for the error.

    Raises:
        InputError: not two axes, empty, not whole numbers, negative, or above 255.
    """
    if values.ndim != 2 or values.size == 0:
        axes = " × ".join(map(str, values.shape)) or "a single value"
        raise InputError(f"{where}: the label map is {axes}; it needs (line, sample), one id a pixel")
    if values.dtype.kind not in "biuf":
        raise InputError(f"{where}: the label map holds {values.dtype}; it must hold whole numbers")
    if values.dtype.kind == "f":
        _refuse(values, ~(np.isfinite(values) & (values == np.rint(values))), where, "is no whole number")
    _refuse(values, values < 0, where, "is negative; use 0 for unlabelled pixels")
    _refuse(values, values > MAX_CLASSES, where, f"is above {MAX_CLASSES}, the most classes there can be")
    return values.astype(np.uint8)


def _refuse(values: NDArray[Any], wrong: NDArray[np.bool_], where: str, why: str) -> None:
    if wrong.any():
        line, sample = (int(index) for index in np.argwhere(wrong)[0])
        raise InputError(f"{where}: label {values[line, sample]} at line {line}, sample {sample} {why}")


def match_class_names(
    names: Sequence[str], labels: NDArray[np.uint8] | None, path: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Decide whether a list of names begins with class 1 or with the unlabelled class 0.

    Files do either. The highest label settles it; a first name such as "unlabelled" does where classes
    without a pixel leave it open.

    Returns:
        The names of class 1, 2, …, and notes on what was assumed.

    Raises:
        InputError: there are fewer names than classes.
    """
    names = tuple(map(printable, names))
    begins_with_no_class = bool(names) and names[0].strip().lower() in _NO_CLASS_NAMES
    if labels is None:
        return (names[1:] if begins_with_no_class else names), ()
    highest = int(labels.max())
    if len(names) == highest:
        return names, ()
    if begins_with_no_class and len(names) > highest:
        return names[1:], ()
    if len(names) > highest + 1 or highest == 0:
        return names, ()  # a crop of a scene need not hold every class
    if len(names) == highest + 1:
        return names[1:], (f"{path.name}: '{names[0]}' was taken as the name of label 0 (unlabelled)",)
    raise InputError(
        f"{path}: class_names has {len(names)} names, the labels go up to {highest}; "
        f"give a name for each class 1 to {highest}"
    )
