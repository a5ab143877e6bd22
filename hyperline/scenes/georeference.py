"""Where the pixels of a scene lie on a map, as GDAL reads it (extra ``geo``)."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperline.errors import require
from hyperline.scenes.envi_header import EnviHeader
from hyperline.scenes.files import reading


@dataclass(frozen=True)
class Georeference:
    """Where a scene lies.

    Attributes:
        crs: its coordinate system, of rasterio; None where the file has coordinates without saying in which.
        transform: of rasterio, from (sample, line) to x and y; (0, 0) is the outer corner of the first pixel.
    """

    crs: Any | None
    transform: Any


def georeference(data: Path, header: EnviHeader | None = None) -> Georeference | None:
    """Read where a raster lies: an ENVI data file by its header's ``map info``, a GeoTIFF by its own tags.

    Args:
        data: the file of the pixels.
        header: the ENVI header beside it, or None. Of a TIFF it says what the tags do not.

    Returns:
        None where neither says it.

    Raises:
        InputError: GDAL cannot read it, or rasterio is not installed.
    """
    place = _placed(data)
    if header is not None and header.is_tiff and (place is None or place.crs is None):
        return _placed_by_header(header) or place
    return place


def _placed_by_header(header: EnviHeader) -> Georeference | None:
    """Have GDAL read the map fields of a header whose data file is a TIFF, in which it would not look for them."""
    if not header.map_fields:
        return None
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder) / "pixels.img"
        pixels.write_bytes(bytes(2))  # the least that GDAL takes for a raster
        fields = {"samples": "2", "lines": "1", "bands": "1", "data type": "1", "interleave": "bsq"}
        lines = [f"{name} = {text}" for name, text in (*fields.items(), *header.map_fields)]
        pixels.with_suffix(".hdr").write_text("\n".join(["ENVI", *lines, ""]))
        return _placed(pixels)


def _placed(data: Path) -> Georeference | None:
    rasterio = require("rasterio", "geo")
    with warnings.catch_warnings(), reading(data, "a raster with map coordinates"):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(data) as file:
            crs, transform = file.crs, file.transform
    return None if transform.is_identity else Georeference(crs or None, transform)
