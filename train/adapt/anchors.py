"""Pixels of the old scene that stand for its classes: what the network itself is surest of.

New rows of a head see the labels of new classes alone, and would call everything new. A few of the network's own
answers on the old scene's lines, whose labels nobody needs, say what is not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_anchors(logits: NDArray[np.float32], taken: NDArray[np.bool_], count: int, seed: int) -> NDArray[np.uint8]:
    """Draw pixels of every class that is answered, from the surer half of its answers.

    Args:
        logits: (line, sample, classes), what the network says of the old scene; NaN where a pixel is not valid.
        taken: (line, sample), pixels that have another label now.
        count: pixels of a class.
        seed: of the draw.

    Returns:
        (line, sample) class ids, 0 elsewhere.
    """
    valid = np.isfinite(logits).all(-1) & ~taken
    scores = np.where(valid[..., None], logits, 0.0).astype(np.float64)
    odds = np.exp(scores - scores.max(-1, keepdims=True))
    confidence = odds.max(-1) / odds.sum(-1)
    answer = np.where(valid, scores.argmax(-1) + 1, 0)
    anchors = np.zeros(answer.shape, np.uint8)
    rng = np.random.default_rng([seed, 3])
    for number in range(1, logits.shape[-1] + 1):
        pixels = np.flatnonzero(answer == number)
        sure = confidence.flat[pixels]
        if len(pixels):
            pixels = pixels[sure >= np.median(sure)]
        anchors.flat[rng.permutation(pixels)[:count]] = number
    return anchors
