"""A label map on disk, as the readers of scenes take it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from hyperline.disk import replace_file
from hyperline.errors import InputError, require
from hyperline.pictures import class_colours
from hyperline.scenes.georeference import Georeference
from hyperline.shapes.raster import ShapeLabels

SUFFIXES = (".npz", ".tif", ".tiff")


def write_labels(path: Path, made: ShapeLabels, place: Georeference | None) -> None:
    """Write labels and the names of their classes, for ``--labels``; the old file or the new one is there at any time.

    Args:
        path: .npz, or a GeoTIFF (.tif) that lies where the scene does.
        made: the labels.
        place: of the scene, or None.

    Raises:
        InputError: another suffix, or its folder does not exist.
        HyperlineError: the disk is full or gone.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: a label map is written as .npz or .tif; name it so")
    if suffix == ".npz":
        file = io.BytesIO()
        np.savez_compressed(file, labels=made.labels, class_names=np.array(made.class_names))
        replace_file(path, file.getvalue())
        return
    rasterio = require("rasterio", "geo")
    lies = {} if place is None else {"crs": place.crs, "transform": place.transform}
    lines, samples = made.labels.shape
    profile = {"driver": "GTiff", "height": lines, "width": samples, "count": 1, "dtype": "uint8", "nodata": 0}
    colours = class_colours(len(made.class_names)).tolist()
    with rasterio.io.MemoryFile() as memory:
        with memory.open(**profile, compress="deflate", photometric="palette", **lies) as tiff:
            tiff.write(made.labels, 1)
            tiff.write_colormap(1, {0: (0, 0, 0)} | {id: tuple(one) for id, one in enumerate(colours, start=1)})
            tiff.update_tags(1, **{f"CLASS_{id}": name for id, name in enumerate(made.class_names, start=1)})
        replace_file(path, memory.read())
