"""Pictures within the page: arrays as PNG in a data URL, and the colours of what is measured."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import require

# Anchors of cividis, evenly spaced, which the colour-blind see as others do: Nuñez, Anderton, Renslow (2018), PLoS ONE.
_RAMP = (
    (0, 32, 76),
    (35, 62, 108),
    (75, 85, 109),
    (107, 109, 112),
    (138, 134, 120),
    (173, 160, 112),
    (210, 189, 96),
    (255, 234, 70),
)
NO_CLASS = (0, 0, 0)
"""What pixels without a class are in every map."""


def ramp(colours: int = 256) -> NDArray[np.uint8]:
    """Return (colours, 3) uint8 from low, dark blue, to high, yellow."""
    anchors = np.array(_RAMP, float)
    at = np.linspace(0, len(anchors) - 1, colours)
    return np.stack([np.interp(at, range(len(anchors)), channel) for channel in anchors.T], -1).round().astype(np.uint8)


def value_palette() -> NDArray[np.uint8]:
    """Return (256, 3): 0 is no class, 1 to 255 the ramp."""
    return np.concatenate([np.array([NO_CLASS], np.uint8), ramp(255)])


def data_url(picture: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> str:
    """Encode a picture.

    Args:
        picture: (row, column) indices into ``palette``, or (row, column, 3) red, green, blue.
        palette: (colours, 3) uint8, at most 256.

    Returns:
        ``data:image/png;base64,…``.

    Raises:
        InputError: Pillow is not installed.
    """
    image = require("PIL.Image", "report").fromarray(np.ascontiguousarray(picture))
    if palette is not None:
        image.putpalette(palette.tobytes())
    encoded = io.BytesIO()
    image.save(encoded, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode()


def css_colour(colour: NDArray[np.uint8] | tuple[int, int, int]) -> str:
    """Write a colour as #rrggbb."""
    red, green, blue = (int(part) for part in colour)
    return f"#{red:02x}{green:02x}{blue:02x}"
