"""Which three bands make a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hyperline.scenes.scene import Scene

_RED_GREEN_BLUE_NM = np.array([640.0, 550.0, 460.0])
# Where there is no visible light, long waves are shown red and short ones blue: at these parts of the range.
_SPREAD = np.array([5 / 6, 1 / 2, 1 / 6])


def composite_bands(scene_or_wavelengths: Scene | NDArray[np.float64] | None, bands: int) -> tuple[int, int, int]:
    """Choose the bands of a red, green, blue picture.

    Args:
        scene_or_wavelengths: a scene, or (band,) band centres in nanometres, or None where unknown.
        bands: number of bands.

    Returns:
        Indices of the bands nearest to 640, 550 and 460 nm, targets outside the sensor's range moved to
        its edge. Where the range leaves no three targets (a SWIR sensor), bands spread over the range;
        without wavelengths, over the indices. Different from each other if there are 3 bands or more.
    """
    wavelengths = (
        scene_or_wavelengths.wavelengths_nm if isinstance(scene_or_wavelengths, Scene) else scene_or_wavelengths
    )
    if wavelengths is None:
        return bands * 5 // 6, bands // 2, bands // 6
    low, high = float(np.min(wavelengths)), float(np.max(wavelengths))
    targets = _RED_GREEN_BLUE_NM.clip(low, high)
    if len(set(targets.tolist())) < 3:
        targets = low + _SPREAD * (high - low)
    distance = np.abs(wavelengths - targets[:, None])  # (colour, band)
    chosen = []
    for of_colour in distance:
        band = int(np.argmin(of_colour))
        distance[:, band] = np.inf  # no colour takes the band of another
        chosen.append(band)
    red, green, blue = chosen
    return red, green, blue
