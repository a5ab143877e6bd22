"""GeoTIFF cubes and label maps, through rasterio (extra ``geo``)."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError, require
from hyperline.scenes.envi_header import EnviHeader
from hyperline.scenes.files import printable, reading
from hyperline.scenes.labels import MAX_CLASSES, LabelMap, check_labels
from hyperline.scenes.scene import Scene
from hyperline.scenes.wavelengths import to_nanometres


def read_scene(path: Path, header: EnviHeader | None = None) -> Scene:
    """Load a cube; what an ENVI header of file type TIFF says beside it comes first.

    Args:
        path: the TIFF file.
        header: its ENVI header, or None.

    Raises:
        InputError: damaged file, header and TIFF of different size, or rasterio is not installed.
    """
    with _opened(path) as source:
        size = (source.height, source.width, source.count)
        if header is not None and size != (header.lines, header.samples, header.bands):
            raise InputError(
                f"{path}: {size[0]} lines × {size[1]} samples × {size[2]} bands, but {header.path.name} says "
                f"{header.lines} × {header.samples} × {header.bands}"
            )
        cube = source.read().transpose(1, 2, 0)  # (band, line, sample) -> (line, sample, band)
        nodata, scale = source.nodata, _scale(source)
        wavelengths, notes = _wavelengths(source, path)
    if header is not None:
        scale = header.scale
        nodata = header.nodata if header.nodata is not None else nodata
        if header.wavelengths_nm is not None:
            wavelengths, notes = header.wavelengths_nm, ()
        notes += header.notes
    if scale is None:
        scale = 1.0
        notes += (f"{path.name}: the scales and offsets of its bands differ and are not applied",)
    return Scene(
        name=path.stem,
        cube=cube,
        wavelengths_nm=wavelengths,
        nodata=nodata,
        scale=scale,
        notes=notes,
    )


def read_labels(path: Path) -> LabelMap:
    """Read a label map of one band; its no-data value counts as unlabelled, its tags ``CLASS_1``, … name the classes.

    Raises:
        InputError: more than one band, or values that are no class ids.
    """
    with _opened(path) as source:
        if source.count != 1:
            raise InputError(f"{path}: {source.count} bands; a label map has 1")
        values, nodata, tags = source.read(1), source.nodata, source.tags(1)
    if nodata is not None:
        values = np.where(np.isnan(values) if np.isnan(nodata) else values == nodata, 0, values)
    labels = check_labels(values, str(path))
    return LabelMap(labels, _class_names(tags, int(labels.max())))


def _class_names(tags: Mapping[str, str], highest: int) -> tuple[str, ...]:
    """Return the names of class 1, 2, …, or none where the tags do not name them all."""
    names = (tags.get(f"CLASS_{number}", "") for number in range(1, MAX_CLASSES + 1))
    known = tuple(map(printable, itertools.takewhile(bool, names)))
    return known if len(known) >= highest else ()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    rasterio = require("rasterio", "geo")
    with warnings.catch_warnings(), reading(path, "a GeoTIFF"):
        # A raw strip has no map coordinates, and needs none here.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, driver="GTiff") as source:
            yield source


def _scale(source: Any) -> float | None:
    """Return the one scale of all bands, or None where a single factor cannot say it."""
    return float(source.scales[0]) if len(set(source.scales)) == 1 and not any(source.offsets) else None


def _wavelengths(source: Any, path: Path) -> tuple[NDArray[np.float64] | None, tuple[str, ...]]:
    """Find band centres in the tags of the bands: ``wavelength``, or GDAL's own imagery domain."""
    tags = [{key.lower(): text for key, text in source.tags(band).items()} for band in source.indexes]
    micrometres = [source.tags(band, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM") for band in source.indexes]
    unit = tags[0].get("wavelength_units")
    written = [tag.get("wavelength") for tag in tags]
    if all(micrometres):
        written, unit = micrometres, "um"
    if not all(written):
        return None, ()
    try:
        values = np.array([float(text) for text in written if text is not None])
    except ValueError:
        return None, (f"{path.name}: the 'wavelength' tags of its bands are no numbers; they are ignored",)
    return to_nanometres(values, unit, path.name)
