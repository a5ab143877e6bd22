"""Regions of interest of ENVI: the XML of ENVI 5 and the ASCII of ENVI Classic.

Format of the first: https://www.nv5geospatialsoftware.com/docs/ENVIROI.html and files that ENVI 5 saved. The second
is a table of the pixels of each region, with a head of comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from hyperline.errors import InputError, require
from hyperline.scenes.files import printable, reading
from hyperline.shapes.coordinates import coordinate_system
from hyperline.shapes.shape import Shape, Shapes

# Ten million vertices, or pixels: more than anyone draws.
_MOST_BYTES = 1 << 29
_GEOGRAPHIC = "EPSG:4326"
_HEAD = re.compile(r";\s*(Number of ROIs|File Dimension|ROI name|ROI npts)\s*:\s*(.*)", re.IGNORECASE)
_COLUMN = re.compile(r"Map [XY]|\S+", re.IGNORECASE)
# Which columns say where a pixel is, the best first, and in what.
_PLACES = ((("X", "Y"), "pixels"), (("MAP X", "MAP Y"), "map"), (("LON", "LAT"), _GEOGRAPHIC))


def read_xml(path: Path, crs: Any | None, pixels: bool) -> Shapes:
    """Read the geometries of every region.

    Regions without map coordinates are in pixels. Regions of pixels or of thresholds are left out, with a note.

    Args:
        path: the file.
        crs: in place of what the file says.
        pixels: likewise.

    Raises:
        InputError: no such XML, or regions in several coordinate systems.
    """
    shapely = require("shapely", "geo")
    root = _parsed(path)
    shapes: list[Shape] = []
    systems: set[str] = set()
    others: list[str] = []
    with reading(path, "an ENVI ROI"):
        for region in root.iter("Region"):
            name = " ".join(printable(region.get("name", "")).split()) or None
            for part in region:
                if part.tag != "GeometryDef":
                    others.append(f"{part.tag} of {name}")
                    continue
                systems.add((part.findtext("CoordSysStr") or "none").strip())
                shapes += (Shape(name, geometry) for geometry in _geometries(part, shapely))
    if len(systems) > 1:
        raise InputError(f"{path}: its regions are in {len(systems)} coordinate systems; save them in one")
    system = systems.pop() if systems else "none"
    if crs is None and not pixels and system.lower() != "none":
        crs = coordinate_system(system, str(path))
    notes = []
    if crs is None:
        notes.append(f"{path.name}: its coordinates were taken as pixels, (0, 0) the scene's upper left corner")
    if others:
        shown = printable(", ".join(others[:3]))
        notes.append(f"{path.name}: only geometries are read, {len(others)} other definitions are left out ({shown})")
    return Shapes(tuple(shapes), crs, None, tuple(notes))


def _parsed(path: Path) -> ElementTree.Element:
    with reading(path, "an ENVI ROI"):
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: has over {_MOST_BYTES} bytes; no ROI is so long")
        data = path.read_bytes()
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise InputError(f"{path}: declares entities, which no ROI needs; save it again from ENVI")
        root = ElementTree.fromstring(data)
    if root.tag != "RegionsOfInterest":
        raise InputError(f"{path}: its XML is {printable(root.tag)[:60]!r}, not RegionsOfInterest as ENVI 5 saves them")
    return root


def _geometries(definition: ElementTree.Element, shapely: Any) -> Iterator[Any]:
    for polygon in definition.iter("Polygon"):
        outside = polygon.find("Exterior/LinearRing/Coordinates")
        if outside is None:
            raise ValueError("a polygon has no outline")
        holes = polygon.findall("Interior/LinearRing/Coordinates")
        yield shapely.Polygon(_pairs(outside), [_pairs(hole) for hole in holes])
    for line in definition.iter("LineString"):
        yield from (shapely.LineString(_pairs(one)) for one in line.findall("Coordinates"))
    for kind in ("Point", "MultiPoint"):
        for points in definition.iter(kind):
            yield from (shapely.Point(pair) for one in points.findall("Coordinates") for pair in _pairs(one))


def _pairs(element: ElementTree.Element) -> list[tuple[float, float]]:
    numbers = [float(text) for text in (element.text or "").split()]
    if not numbers or len(numbers) % 2:
        raise ValueError(f"{len(numbers)} coordinates are no pairs of x and y")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def read_ascii(path: Path, crs: Any | None, pixels: bool) -> Shapes:
    """Read the pixels of every region; each becomes a point.

    ENVI Classic counts samples (X) and lines (Y) from 1. A table without them is read by its map coordinates, whose
    system must then be given, or by latitude and longitude.

    Args:
        path: the file.
        crs: of the columns Map X and Map Y.
        pixels: refuse a table without X and Y.

    Raises:
        InputError: no such table, or one that contradicts its head; the message names the line.
    """
    shapely = require("shapely", "geo")
    with reading(path, "an ENVI ROI"):
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: has over {_MOST_BYTES} bytes; put out the locations alone")
        lines = path.read_text("latin-1").splitlines()
    names: list[str] = []
    counts: list[int] = []
    columns: list[str] = []
    size = None
    for number, line in enumerate(lines, start=1):
        if not line.startswith(";"):
            break
        head = _HEAD.match(line)
        if head is None:
            columns = _COLUMN.findall(line[1:]) or columns
            continue
        field, text = head[1].lower(), head[2].strip()
        if field == "roi name":
            names.append(" ".join(printable(text).split()))
        elif field == "roi npts":
            counts.append(_whole(text, path, number))
        elif field == "file dimension":
            samples, _, rows = text.partition("x")
            size = (_whole(rows, path, number), _whole(samples, path, number))
    if not names or len(names) != len(counts):
        raise InputError(
            f"{path}: no ROI of ENVI: {len(names)} names of regions and {len(counts)} counts of points in its head"
        )
    places, system = _places(path, columns, crs, pixels)
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip() and line[0] != ";"]
    if len(rows) != sum(counts):
        raise InputError(f"{path}: {len(rows)} rows of points, its head says {sum(counts)}; put it out again")
    shapes: list[Shape] = []
    owners = (name for name, count in zip(names, counts, strict=True) for _ in range(count))
    for name, (number, row) in zip(owners, rows, strict=True):
        try:
            x, y = (float(row[place]) for place in places)
        except (ValueError, IndexError) as error:
            raise InputError(f"{path}, line {number}: no x and y in columns {places[0] + 1} and {places[1] + 1}") from (
                error
            )
        # the middle of a pixel that is counted from 1
        point = (x - 0.5, y - 0.5) if system == "pixels" else (x, y)
        shapes.append(Shape(name, shapely.Point(point)))
    if system == "pixels":
        return Shapes(tuple(shapes), None, size)
    return Shapes(tuple(shapes), crs if system == "map" else coordinate_system(_GEOGRAPHIC, str(path)))


def _places(path: Path, columns: list[str], crs: Any | None, pixels: bool) -> tuple[tuple[int, int], str]:
    named = [column.upper() for column in columns]
    for (x, y), system in _PLACES:
        if x in named and y in named and (system == "pixels" or not pixels):
            if system == "map" and crs is None:
                continue
            return (named.index(x), named.index(y)), system
    raise InputError(
        f"{path}: its columns ({printable(' '.join(columns))[:80]}) do not say where a pixel is; put it out with X and "
        "Y, with Lat and Lon, or with Map X and Map Y and give --crs"
    )


def _whole(text: str, path: Path, number: int) -> int:
    if not text.strip().isdecimal() or len(text) > 12:
        raise InputError(f"{path}, line {number}: {printable(text)[:30]!r} is no whole number")
    return int(text)
