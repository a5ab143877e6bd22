"""Shapes onto the pixels of a scene, through rasterio (extra ``geo``)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.classes import all_names
from hyperline.errors import InputError, require
from hyperline.scenes.georeference import Georeference
from hyperline.scenes.labels import MAX_CLASSES
from hyperline.shapes.shape import Shape, Shapes


@dataclass(frozen=True)
class ShapeLabels:
    """A label map made of shapes.

    Attributes:
        labels: (line, sample) uint8 class ids, 0 = unlabelled.
        class_names: name of class 1, 2, ….
        shapes: of each class, those outside the scene too.
        pixels: of each class.
        overlapping: pixels that shapes of different classes cover; they are left unlabelled.
        outside: shapes that do not touch the scene.
        beyond: shapes that reach beyond it in part.
        missed: shapes within the scene that hold no pixel: too small.
        unnamed: shapes left out because they have no class (none at all, or the number 0).
        empty: shapes left out because they have no geometry.
    """

    labels: NDArray[np.uint8]
    class_names: tuple[str, ...]
    shapes: tuple[int, ...]
    pixels: tuple[int, ...]
    overlapping: int
    outside: int
    beyond: int
    missed: int
    unnamed: int
    empty: int


def rasterise(
    shapes: Shapes, size: tuple[int, int], place: Georeference | None, *, touched: bool = False
) -> ShapeLabels:
    """Label every pixel whose middle lies within a polygon, which a line crosses, or which holds a point.

    Classes that are named by text are numbered in the order of their names, so that every strip with the same classes
    has the same numbers. Numbers from 1 to 255 stay what they are; larger ones are taken as names.

    Args:
        shapes: of a file.
        size: (lines, samples) of the scene.
        place: where the scene lies, or None where nobody knows.
        touched: every pixel that a polygon touches, not only those whose middle it holds.

    Raises:
        InputError: shapes in map coordinates for a scene without, a file of another image, no shape with a class,
            more classes than a label map holds, or no pixel that gets a label.
    """
    features, shapely = require("rasterio.features", "geo"), require("shapely", "geo")
    affine = require("rasterio", "geo").Affine
    if shapes.size is not None and shapes.size != size:
        raise InputError(
            f"the shapes were drawn on {shapes.size[0]} lines × {shapes.size[1]} samples, the scene is {size[0]} × "
            f"{size[1]}; give the scene that they were drawn on"
        )
    ids, names = _classes(shapes.shapes)
    onto = _to_pixels(shapes.crs, place)
    lines, samples = size
    scene = shapely.box(0, 0, samples, lines)
    labels = np.zeros(size, np.uint8)
    disputed = np.zeros(size, bool)
    counts = [0] * len(names)
    outside = beyond = missed = unnamed = empty = 0
    for shape in shapes.shapes:
        if shape.value not in ids:
            unnamed += 1
            continue
        number = ids[shape.value]
        if shape.geometry is None or shape.geometry.is_empty:
            empty += 1
            continue
        counts[number - 1] += 1
        geometry = shapely.transform(shape.geometry, onto)
        west, north, east, south = geometry.bounds
        if not all(map(math.isfinite, geometry.bounds)):
            raise InputError(
                f"a shape of class {names[number - 1]} cannot be brought into the scene's coordinate system; check the "
                "one of the shapes, or give it with --crs"
            )
        # By the corners first: most shapes of a map may lie elsewhere.
        if east < 0 or south < 0 or west >= samples or north >= lines or not geometry.intersects(scene):
            outside += 1
            continue
        beyond += not scene.covers(geometry)
        left, top = max(0, math.floor(west)), max(0, math.floor(north))
        window = (slice(top, min(lines, math.floor(south) + 1)), slice(left, min(samples, math.floor(east) + 1)))
        held = labels[window]
        burnt = features.rasterize(
            [geometry],
            out_shape=held.shape,
            transform=affine.translation(left, top),
            all_touched=touched,
            dtype=np.uint8,
        ).astype(bool)
        missed += not burnt.any()
        disputed[window] |= burnt & (held != 0) & (held != number)
        held[burnt] = number
    labels[disputed] = 0
    if not labels.any():
        raise InputError(
            f"no pixel gets a label: of {sum(counts)} shapes with a class {outside} lie outside the scene and {missed} "
            f"are too small, and {np.count_nonzero(disputed)} pixels are in two classes; check the coordinates of the "
            "shapes (--crs, --pixels), or give --touched"
        )
    pixels = np.bincount(labels.ravel(), minlength=len(names) + 1)[1:].tolist()
    return ShapeLabels(
        labels,
        names,
        tuple(counts),
        tuple(pixels),
        int(np.count_nonzero(disputed)),
        outside,
        beyond,
        missed,
        unnamed,
        empty,
    )


def _classes(shapes: tuple[Shape, ...]) -> tuple[dict[str | int | None, int], tuple[str, ...]]:
    """Number the classes: the id of each value, and the names of class 1, 2, …."""
    values = {shape.value for shape in shapes} - {None, 0}
    if not values:
        raise InputError(f"none of the {len(shapes)} shapes has a class; name the field that says it: --class-field")
    numbers = sorted(value for value in values if isinstance(value, int))
    if len(numbers) == len(values) and numbers[0] >= 1 and numbers[-1] <= MAX_CLASSES:
        return {value: value for value in numbers}, all_names((), numbers[-1])
    ordered: list[str | int] = [*numbers, *sorted(value for value in values if isinstance(value, str))]
    if len(ordered) > MAX_CLASSES:
        raise InputError(f"the shapes have {len(ordered)} classes, the most is {MAX_CLASSES}; is it the right field?")
    return {value: number for number, value in enumerate(ordered, start=1)}, tuple(map(str, ordered))


def _to_pixels(crs: Any | None, place: Georeference | None) -> Any:
    """Return what brings (vertex, 2) coordinates x, y to samples and lines."""
    if crs is None:
        return lambda points: points
    if place is None:
        raise InputError(
            "the shapes are in map coordinates, and the scene does not say where it lies (ENVI: map info, GeoTIFF: its "
            "transform); give --pixels if x is the sample and y the line"
        )
    if place.crs is None:
        raise InputError(
            "the scene has map coordinates in no coordinate system; complete its header, or give shapes in pixels with "
            "--pixels"
        )
    warp = require("rasterio.warp", "geo")
    a, b, c, d, e, f = (~place.transform)[:6]

    def onto(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points[:, 0], points[:, 1]
        if crs != place.crs:
            x, y = (np.asarray(one) for one in warp.transform(crs, place.crs, x, y))
        return np.stack((a * x + b * y + c, d * x + e * y + f), axis=1)

    return onto
