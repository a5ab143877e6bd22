"""What a baseline says of a scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hyperline.scenes import Scene


@dataclass(frozen=True)
class Classification:
    """Classes of a scene.

    Attributes:
        class_map: (line, sample) class ids, 0 where the pixel is not valid.
        probabilities: (line, sample, class) float32, class 1 first, a sum of 1 a pixel; None where the classifier has
            none to give. Support vectors have none: Platt's need a cross-validation that few labels do not bear.
    """

    class_map: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None


class Classifier(Protocol):
    """Anything trained that classifies a scene, pixels that are not valid with the rest."""

    def __call__(self, scene: Scene) -> Classification:
        """Classify every pixel."""
