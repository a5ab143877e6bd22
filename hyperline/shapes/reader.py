"""From a file of drawn labels to shapes, whatever program drew them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hyperline.errors import InputError
from hyperline.scenes.files import reading
from hyperline.shapes import envi_roi, vector
from hyperline.shapes.coordinates import coordinate_system
from hyperline.shapes.shape import Shapes

_BEGINNING = 4096
_ENVI_ROI = (".roi", ".txt", ".xml")


def read_shapes(
    path: Path,
    *,
    class_field: str | None = None,
    layer: str | None = None,
    crs: str | None = None,
    pixels: bool = False,
) -> Shapes:
    """Read drawn labels.

    Args:
        path: GeoJSON, a shapefile, a GeoPackage or whatever else GDAL reads; or regions of interest as ENVI saves them
            (XML) or ENVI Classic puts them out (ASCII).
        class_field: the property that names the class; None where only one can. ENVI's regions have names.
        layer: of a file with several.
        crs: the coordinate system, where the file does not say it or is wrong; anything that PROJ understands.
        pixels: x is the sample and y the line, whatever the file says of its coordinates.

    Raises:
        InputError: no such file, one that cannot be read, no coordinate system, or no telling what names the class.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; name a GeoJSON, shapefile, GeoPackage or ENVI ROI (XML or ASCII)")
    if pixels and crs is not None:
        raise InputError("pixels have no coordinate system: give --pixels or --crs, not both")
    asked = None if crs is None else coordinate_system(crs, "--crs")
    if path.suffix.lower() in _ENVI_ROI:
        for name in (name for name, value in (("--class-field", class_field), ("--layer", layer)) if value is not None):
            raise InputError(f"{path}: ENVI's regions have names, which are the classes; leave out {name}")
        return _envi(path, asked, pixels)
    return vector.read(path, class_field, layer, asked, pixels)


def _envi(path: Path, crs: Any | None, pixels: bool) -> Shapes:
    with reading(path, "an ENVI ROI"), path.open("rb") as file:
        beginning = file.read(_BEGINNING)
    if b"\0" in beginning:
        raise InputError(
            f"{path}: a binary ROI of ENVI Classic, whose format is not published; in ENVI save the regions as XML, or "
            "put them out as ASCII with their locations"
        )
    if beginning.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return envi_roi.read_xml(path, crs, pixels)
    return envi_roi.read_ascii(path, crs, pixels)
