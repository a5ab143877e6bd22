"""The class map of a finished strip as a GeoTIFF, for GIS programs (extra ``geo``)."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from hyperline.disk import disk_errors
from hyperline.errors import InputError, require
from hyperline.pictures import map_colours
from hyperline.scenes.envi_header import EnviHeader, find_data, read_header

_TILE = 256
NAME = "classes.tif"


def classes_geotiff(folder: Path, source: Path | None = None, bin_samples: int = 1) -> Path:
    """Write ``classes.tif`` from the ``classes.hdr`` and ``.img`` of a run.

    The TIFF is tiled and deflated, has the colours of the run's pictures, and 0 (no class) as its no-data value. Class
    names stand in its band's tags (``CLASS_1`` …) and as GDAL's category names in ``classes.tif.aux.xml``, which QGIS
    shows. The map is read a row of tiles at a time, and compared with the TIFF before that gets its name.

    Args:
        folder: of the run.
        source: the ENVI header of the source, whose ``map info`` and ``coordinate system string`` say where the strip
            lies; None, or a header without them, gives a map without coordinates.
        bin_samples: samples of the source to one of the map.

    Returns:
        The path of the TIFF.

    Raises:
        InputError: no map in the folder, a source that is not the map's, or rasterio is not installed.
        HyperlineError: the disk is full or gone; nothing stays that looks like a map.
    """
    rasterio = require("rasterio", "geo")
    header = read_header(folder / "classes.hdr")
    if header.dtype != np.uint8 or header.bands != 1:
        raise InputError(f"{header.path}: no class map: {header.bands} bands of {header.dtype}")
    classes = np.memmap(find_data(header), np.uint8, "r", shape=(header.lines, header.samples))
    names = header.class_names or ("no class",)
    place = _place(rasterio, source, header, bin_samples) if source else {}
    path, draft = folder / NAME, folder / f".{NAME}.part"
    colours = {0: (0, 0, 0)} | {
        number: tuple(colour) for number, colour in enumerate(map_colours(names[1:]).tolist(), start=1)
    }
    try:
        with warnings.catch_warnings(), disk_errors(path):
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            try:
                _write(rasterio, draft, classes, names, colours, place)
            except rasterio.errors.RasterioError as error:
                raise OSError(str(error)) from error
            (folder / f"{NAME}.aux.xml").write_text(_categories(names), encoding="utf-8")
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _write(
    rasterio: Any,
    path: Path,
    classes: np.memmap[Any, np.dtype[np.uint8]],
    names: tuple[str, ...],
    colours: dict[int, tuple[int, ...]],
    place: dict[str, Any],
) -> None:
    lines, samples = classes.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=lines,
        width=samples,
        count=1,
        dtype="uint8",
        nodata=0,
        tiled=True,
        blockxsize=_TILE,
        blockysize=_TILE,
        compress="deflate",
        photometric="palette",
        **place,
    ) as file:
        file.write_colormap(1, colours)
        file.set_band_description(1, "class")
        file.update_tags(1, **{f"CLASS_{number}": name for number, name in enumerate(names)})
        for line in range(0, lines, _TILE):
            rows = classes[line : line + _TILE]
            file.write(rows, 1, window=rasterio.windows.Window(0, line, samples, len(rows)))
    # GDAL says nothing where the disk is full when it closes the file.
    with rasterio.open(path) as file:
        for line in range(0, lines, _TILE):
            rows = classes[line : line + _TILE]
            if not np.array_equal(file.read(1, window=rasterio.windows.Window(0, line, samples, len(rows))), rows):
                raise OSError("what was written reads back otherwise")


def _place(rasterio: Any, source: Path, header: EnviHeader, bin_samples: int) -> dict[str, Any]:
    """Return coordinate system and transform as GDAL reads them from the source's header."""
    of_source = read_header(source)
    if of_source.samples != header.samples * bin_samples or of_source.lines < header.lines:
        raise InputError(
            f"{source} has {of_source.lines} lines × {of_source.samples} samples, the map in {header.path} has "
            f"{header.lines} × {header.samples}: name the header of the strip that was flown"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            with rasterio.open(find_data(of_source)) as file:
                crs, transform = file.crs, file.transform
        except rasterio.errors.RasterioError as error:
            raise InputError(f"{source}: GDAL cannot read its map info: {error}; leave it out") from error
    if transform.is_identity:
        logging.getLogger(__name__).warning("%s has no map info; the GeoTIFF has no coordinates", source)
        return {}
    a, b, c, d, e, f = transform[:6]
    return {"crs": crs, "transform": type(transform)(a * bin_samples, b, c, d * bin_samples, e, f)}


def _categories(names: tuple[str, ...]) -> str:
    """Return GDAL's side file; rasterio cannot write category names."""
    categories = "".join(f"<Category>{escape(name)}</Category>" for name in names)
    band = f'<PAMRasterBand band="1"><CategoryNames>{categories}</CategoryNames></PAMRasterBand>'
    return f"<PAMDataset>{band}</PAMDataset>\n"
