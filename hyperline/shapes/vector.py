"""GeoJSON, shapefiles, GeoPackages: what GDAL reads, through pyogrio and shapely (extra ``geo``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError, require
from hyperline.scenes.files import printable, reading
from hyperline.shapes.coordinates import coordinate_system
from hyperline.shapes.shape import Shape, Shapes

_GEOJSON = (".geojson", ".json")
_SHOWN = 3  # values of a field, for the message


def read(path: Path, class_field: str | None, layer: str | None, crs: Any | None, pixels: bool) -> Shapes:
    """Read one layer; see `hyperline.shapes.read_shapes`.

    Args:
        path: the file.
        class_field: names the class, or None.
        layer: or None, where the file has one.
        crs: in place of the file's, of rasterio.
        pixels: whatever the file says of its coordinates.

    Raises:
        InputError: as ``read_shapes``.
    """
    raw, shapely = require("pyogrio.raw", "geo"), require("shapely", "geo")
    with reading(path, "a file of shapes"):
        layers = require("pyogrio", "geo").list_layers(path)
        drawn = [printable(name) for name, kind in layers.tolist() if kind is not None]
        if layer is None and len(drawn) != 1:
            raise InputError(f"{path}: {len(drawn)} layers of shapes ({', '.join(drawn)}); choose one with --layer")
        if layer is not None and layer not in drawn:
            raise InputError(f"{path}: has no layer {layer!r} of shapes; it has {', '.join(drawn)}")
        meta, _, encoded, columns = raw.read(path, layer=layer or drawn[0], force_2d=True)
        geometries = shapely.from_wkb(encoded)
    fields = {str(name): column for name, column in zip(meta["fields"], columns, strict=True)}
    name = _class_field(path, fields, class_field)
    values = _values(path, name, fields[name])
    shapes = tuple(Shape(value, geometry) for value, geometry in zip(values, geometries, strict=True))
    if pixels:
        return Shapes(shapes, None)
    return Shapes(shapes, crs if crs is not None else _crs(path, meta["crs"], geometries, shapely))


def _crs(path: Path, text: str | None, geometries: NDArray[Any], shapely: Any) -> Any:
    if text is None:
        raise InputError(f"{path}: does not say its coordinate system; give --crs EPSG:NUMBER, or --pixels")
    crs = coordinate_system(text, str(path))
    bounds = shapely.total_bounds(geometries)  # NaN without a geometry
    if path.suffix.lower() in _GEOJSON and crs.is_geographic and (np.abs(bounds) > (180, 90, 180, 90)).any():
        raise InputError(
            f"{path}: GeoJSON is longitude and latitude by its standard, and this reaches from {bounds[0]:g}, "
            f"{bounds[1]:g} to {bounds[2]:g}, {bounds[3]:g}; give --crs EPSG:NUMBER, or --pixels if x is the sample"
        )
    return crs


def _class_field(path: Path, fields: Mapping[str, NDArray[Any]], asked: str | None) -> str:
    if asked is not None:
        if asked not in fields:
            raise InputError(f"{path}: has no field {asked!r}; {_listed(fields)}")
        return asked
    candidates = {name: column for name, column in fields.items() if _is_text(column) or _is_whole(column)}
    if len(candidates) == 1:
        return next(iter(candidates))
    if candidates:
        raise InputError(
            f"{path}: several fields could name the class; choose with --class-field: {_shown(candidates)}"
        )
    raise InputError(f"{path}: no field of text or whole numbers could name the class; {_listed(fields)}")


def _listed(fields: Mapping[str, NDArray[Any]]) -> str:
    return f"its fields: {_shown(fields)}" if fields else "it has no fields at all: give every shape a class"


def _shown(fields: Mapping[str, NDArray[Any]]) -> str:
    shown = []
    for name, column in fields.items():
        values = list(dict.fromkeys(column[:100].tolist()))[:_SHOWN]
        shown.append(f"{printable(name)} ({', '.join(printable(str(value))[:30] for value in values)}, …)")
    return "; ".join(shown)


def _is_text(column: NDArray[Any]) -> bool:
    return column.dtype.kind == "O" and any(isinstance(value, str) for value in column)


def _is_whole(column: NDArray[Any]) -> bool:
    if column.dtype.kind in "iu":
        return True
    # a column of integers with gaps comes as floats
    return column.dtype.kind == "f" and bool((column[np.isfinite(column)] % 1 == 0).all()) and np.isfinite(column).any()


def _values(path: Path, name: str, column: NDArray[Any]) -> list[str | int | None]:
    if _is_whole(column):
        return [int(value) if np.isfinite(value) else None for value in column]
    if not _is_text(column):
        raise InputError(f"{path}: the field {name!r} is {column.dtype}; text or whole numbers can name a class")
    names = (" ".join(printable(str(value)).split()) if value is not None else "" for value in column)
    return [name or None for name in names]
