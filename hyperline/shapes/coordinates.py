"""Coordinate systems by whatever name a file or a person gives them."""

from __future__ import annotations

from typing import Any

from hyperline.errors import InputError, require


def coordinate_system(text: str, where: str) -> Any:
    """Return rasterio's coordinate system of an EPSG code, a PROJ string or WKT.

    Args:
        text: as written.
        where: the file or the option, for the message.

    Raises:
        InputError: PROJ does not know it, or rasterio is not installed.
    """
    crs = require("rasterio.crs", "geo")
    try:
        return crs.CRS.from_user_input(text)
    except Exception as error:  # PROJ's own types, and rasterio's
        raise InputError(f"{where}: {text[:60]!r} is no coordinate system that PROJ knows; try EPSG:NUMBER") from error
