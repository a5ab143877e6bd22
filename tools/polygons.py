"""The outlines of a label map, as the polygons that somebody would have drawn around its fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.features import shapes
from rasterio.warp import transform_geom

from hyperline.scenes.georeference import Georeference


def polygons(labels: NDArray[np.uint8], names: Sequence[str], place: Georeference) -> dict[str, Any]:
    """Outline every field of a label map.

    Args:
        labels: (line, sample) class ids from 1, 0 elsewhere.
        names: of the classes, from 1.
        place: where the map lies.

    Returns:
        A GeoJSON FeatureCollection in longitude and latitude, as its standard wants it; a feature a field, its class
        the property ``material``.
    """
    features = [
        {
            "type": "Feature",
            "properties": {"material": names[int(number) - 1]},
            "geometry": transform_geom(place.crs, "EPSG:4326", outline, precision=12),
        }
        for outline, number in shapes(labels, labels > 0, transform=place.transform)
    ]
    return {"type": "FeatureCollection", "features": features}
