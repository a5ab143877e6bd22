"""Opinions about pixels, carried along a strip to neighbours that look alike.

Classifiers that judge each pixel for itself err here and there. Every pixel is given the opinion that a walk from it
(train/walk.py) ends at, when it ends anywhere with a small chance, and at a labelled pixel with a large one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hyperline.train.walk import Walk

# The chance to end at a labelled pixel, to that of an average step.
_END_AT_LABEL = 1.0


def propagate(
    opinions: NDArray[np.float32], walk: Walk, labels: NDArray[np.integer], end: float
) -> NDArray[np.float32]:
    """Carry opinions from each pixel of a strip to those like it.

    Args:
        opinions: (line, sample, class), class probabilities.
        walk: over the strip; opinions of pixels that it leaves out stay, and go nowhere.
        labels: (line, sample) class ids, 0 where none is known.
        end: the chance that a walk ends at a pixel without a label.

    Returns:
        (line, sample, class) probabilities.
    """
    known = labels > 0
    wanted = opinions.astype(np.float64)
    wanted[known] = np.eye(opinions.shape[2])[labels[known] - 1]
    found = np.maximum(walk.mean_at_end(wanted, np.where(known, _END_AT_LABEL, end)), 0)
    found /= found.sum(-1, keepdims=True)
    carried: NDArray[np.float32] = found.astype(np.float32)
    return carried
