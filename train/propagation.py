"""Opinions about pixels, carried along a strip to neighbours that look alike.

Classifiers that judge each pixel for itself err here and there; a walk over the strip that steps to a neighbour the
more likely, the more alike the two are, stays within a field and averages its errors away. Every pixel is given the
opinion that such a walk from it ends at, when it ends anywhere with a small chance, and at a labelled pixel with a
large one.

Source: Grady, Multilabel random walker image segmentation using prior models, CVPR 2005; on hyperspectral scenes Kang
et al., Extended random walker-based classification of hyperspectral images, IEEE TGRS 53(1), 2015.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

# The neighbours of a pixel that come after it, (lines, samples) away.
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
# How fast the chance of a step falls with the squared distance of two spectra, in units of the median over the strip;
# and the chance to end at a pixel, to that of an average step. Both were chosen on tuning scenes (bench/tuning.md).
_CONTRAST = 4.0
_END = 0.01
_END_AT_LABEL = 1.0
# Keeps the system solvable where a pixel is like none of its neighbours.
_LEAST = 1e-4


def propagate(
    opinions: NDArray[np.float32],
    components: NDArray[np.floating],
    labels: NDArray[np.integer],
    valid: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Carry opinions from each pixel of a strip to those like it.

    Args:
        opinions: (line, sample, class), class probabilities.
        components: (line, sample, component), by which pixels are alike; the strongest of a noise-whitened map.
        labels: (line, sample) class ids, 0 where none is known.
        valid: (line, sample); opinions of other pixels stay, and go nowhere.

    Returns:
        (line, sample, class) probabilities.
    """
    lines, samples, classes = opinions.shape
    numbers = np.arange(lines * samples).reshape(lines, samples)
    ends: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    distances: list[NDArray[np.float64]] = []
    for down, right in _NEIGHBOURS:
        here = slice(0, lines - down), slice(max(0, -right), samples - max(0, right))
        there = slice(down, lines), slice(max(0, right), samples - max(0, -right))
        both = valid[here] & valid[there]
        ends.append((numbers[here][both], numbers[there][both]))
        distances.append(((components[here] - components[there]) ** 2).sum(-1, dtype=np.float64)[both])
    apart: NDArray[np.float64] = np.concatenate(distances)
    if not len(apart):
        return opinions
    usual = max(float(np.median(apart)), float(np.finfo(np.float32).tiny))
    alike = np.exp(-_CONTRAST * apart / usual) + _LEAST
    first, second = (np.concatenate(one) for one in zip(*ends, strict=True))
    steps: Any = scipy.sparse.coo_array((alike, (first, second)), (numbers.size, numbers.size))
    steps = steps + steps.T
    steps /= steps.sum() / valid.sum()  # an average pixel's steps add up to 1

    known = labels.ravel() > 0
    end = np.where(known, _END_AT_LABEL, _END)
    wanted = opinions.reshape(-1, classes).astype(np.float64)
    wanted[known] = np.eye(classes)[labels.ravel()[known] - 1]
    system = scipy.sparse.diags_array(np.asarray(steps.sum(0)) + end) - steps
    # The system is symmetric and its diagonal dominates: ordered so, it fills in half as much.
    factors = splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    found: NDArray[np.float64] = np.maximum(factors.solve(end[:, None] * wanted), 0)
    found /= found.sum(-1, keepdims=True)
    carried: NDArray[np.float32] = found.reshape(opinions.shape).astype(np.float32)
    return carried
