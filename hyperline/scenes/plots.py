"""A collection of plots: many small cubes of one sensor, cut out at several sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes.arrays import load, names_in
from hyperline.scenes.files import printable, reading
from hyperline.scenes.labels import check_labels, match_class_names
from hyperline.scenes.scene import Scene

_MEMBERS = ("cube", "labels", "plot_ids", "class_names")


@dataclass(frozen=True)
class Plots:
    """Plots of one size, each a strip of its own.

    Attributes:
        name: of the file.
        cube: (plot, line, sample, band), the file's own dtype.
        labels: (plot, line, sample) uint8 class ids, 0 = unlabelled.
        ids: of the plots; what stands before an underscore is the site, as in ``MLBS_12``.
        class_names: name of class 1, 2, ….
    """

    name: str
    cube: NDArray[Any]
    labels: NDArray[np.uint8]
    ids: tuple[str, ...]
    class_names: tuple[str, ...]

    def at(self, site: str) -> NDArray[np.bool_]:
        """Say which plots are at a site, (plot,).

        Raises:
            InputError: none is.
        """
        found = np.array([one.rpartition("_")[0] == site for one in self.ids])
        if not found.any():
            sites = sorted({one.rpartition("_")[0] for one in self.ids})
            raise InputError(f"{self.name} has no plot at {site}; its sites are {', '.join(sites)}")
        return found

    def scene(self, place: int) -> Scene:
        """Return one plot, without its labels."""
        return Scene(self.ids[place], self.cube[place], class_names=self.class_names)


def read_plots(path: Path) -> Plots:
    """Read an .npz archive of plots.

    Args:
        path: holds ``cube`` (plot, line, sample, band), ``labels`` (plot, line, sample), ``plot_ids`` and
            ``class_names``.

    Raises:
        InputError: it is not there, damaged, lacks one of these, or they do not belong together.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; a collection of plots is an .npz archive")
    with reading(path, "a NumPy file"):
        arrays = load(path, _MEMBERS)
    if isinstance(arrays, np.ndarray) or set(arrays) != set(_MEMBERS):
        held = "one array" if isinstance(arrays, np.ndarray) else printable(", ".join(names_in(path)))[:300]
        raise InputError(f"{path}: a collection of plots holds {', '.join(_MEMBERS)}; this holds {held}")
    cube, labels, ids, names = (arrays[one] for one in _MEMBERS)
    if cube.ndim != 4 or 0 in cube.shape or cube.dtype.kind not in "iuf" or labels.shape != cube.shape[:3]:
        raise InputError(
            f"{path}: cube is {cube.dtype} of {cube.shape}, labels of {labels.shape}; they must be numbers, (plot, "
            "line, sample, band), and (plot, line, sample)"
        )
    if ids.shape != cube.shape[:1] or ids.dtype.kind != "U" or names.ndim != 1 or names.dtype.kind != "U":
        raise InputError(f"{path}: plot_ids and class_names must be lists of strings, one a plot and one a class")
    checked = check_labels(labels.reshape(-1, labels.shape[2]), f"{path}: labels").reshape(labels.shape)
    class_names, _ = match_class_names(names.tolist(), checked, path)
    return Plots(path.stem, cube, checked, tuple(map(printable, ids.tolist())), class_names)


def merge_classes(plots: Plots, classes: Mapping[str, Sequence[str]]) -> Plots:
    """Let several classes count as one, such as the species of a genus; all others become unlabelled.

    Args:
        plots: a collection.
        classes: names of its classes by the name that they get; class 1 is the first.

    Raises:
        InputError: it has no such class, or one is named twice.
    """
    ids = {name: number for number, name in enumerate(plots.class_names, start=1)}
    new = np.zeros(256, dtype=np.uint8)
    for number, (name, members) in enumerate(classes.items(), start=1):
        for member in members:
            if member not in ids:
                raise InputError(f"{plots.name} has no class {member!r}; it has {', '.join(plots.class_names)}")
            if new[ids[member]]:
                raise InputError(f"class {member!r} is named twice, the second time for {name}; name it once")
            new[ids[member]] = number
    return Plots(plots.name, plots.cube, new[plots.labels], plots.ids, tuple(classes))
