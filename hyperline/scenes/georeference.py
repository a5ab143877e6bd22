"""Where the pixels of a scene lie on a map, as GDAL reads it (extra ``geo``)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperline.errors import require
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


def georeference(data: Path) -> Georeference | None:
    """Read where a raster lies: an ENVI data file by its header's ``map info``, a GeoTIFF by its own tags.

    Args:
        data: the file of the pixels.

    Returns:
        None where the file does not say it.

    Raises:
        InputError: GDAL cannot read it, or rasterio is not installed.
    """
    rasterio = require("rasterio", "geo")
    with warnings.catch_warnings(), reading(data, "a raster with map coordinates"):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(data) as file:
            crs, transform = file.crs, file.transform
    return None if transform.is_identity else Georeference(crs or None, transform)
