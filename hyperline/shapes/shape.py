"""A drawn label: a polygon, line or point, and the class that it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """One drawn label.

    Attributes:
        value: what the file says of its class: a name, a number, or None where it says nothing.
        geometry: of shapely, any type; x and y in the coordinates of `Shapes.crs`.
    """

    value: str | int | None
    geometry: Any


@dataclass(frozen=True)
class Shapes:
    """The drawn labels of a file.

    Attributes:
        shapes: in the file's order.
        crs: the coordinate system of x and y, of rasterio; None for pixels of the scene: x = sample, y = line, and
            the pixel (0, 0) reaches from (0, 0) to (1, 1).
        size: (lines, samples) of the image that they were drawn on, where the file says it.
        notes: what had to be assumed or was left out, one sentence each.
    """

    shapes: tuple[Shape, ...]
    crs: Any | None
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
