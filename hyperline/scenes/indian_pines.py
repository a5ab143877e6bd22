"""The Indian Pines scene, from the package tensorly, whose wheel ships the real cube.

Source: Baumgardner, Biehl, Landgrebe (2015), 220 Band AVIRIS Hyperspectral Image Data Set: June 12, 1992
Indian Pine Test Site 3, Purdue University Research Repository, doi:10.4231/R7RX991C. The cube is the
corrected version: 20 bands of water absorption and noise are left out.
"""

from __future__ import annotations

import numpy as np

from hyperline.errors import require
from hyperline.scenes.labels import check_labels
from hyperline.scenes.scene import Scene

NAME = "indian-pines"

# The package has the map but not the legend; the names are those of the test site's report.
CLASS_NAMES = (
    "Alfalfa",
    "Corn-notill",
    "Corn-mintill",
    "Corn",
    "Grass-pasture",
    "Grass-trees",
    "Grass-pasture-mowed",
    "Hay-windrowed",
    "Oats",
    "Soybean-notill",
    "Soybean-mintill",
    "Soybean-clean",
    "Wheat",
    "Woods",
    "Buildings-Grass-Trees-Drives",
    "Stone-Steel-Towers",
)


def read_scene() -> Scene:
    """Return the cube (145, 145, 200) uint16 with its 16 classes; nothing is downloaded.

    Raises:
        InputError: tensorly is not installed.
    """
    bunch = require("tensorly.datasets", "demo").load_indian_pines()
    labels, wavelengths = bunch.ticks
    return Scene(
        name=NAME,
        # The loader widens the stored uint16 counts to float64.
        cube=np.ascontiguousarray(bunch.tensor, dtype=np.uint16),
        labels=check_labels(np.asarray(labels), NAME),
        class_names=CLASS_NAMES,
        wavelengths_nm=np.asarray(wavelengths, dtype=np.float64),
        notes=(f"{NAME}: wavelengths are nominal band centres; above 1350 nm they may be one band off",),
    )
