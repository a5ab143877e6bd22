"""A walk over a strip that steps to a neighbour the more likely, the more alike the two pixels are.

Such a walk stays within a field and seldom crosses its edge. What it ends at, when it ends anywhere with the same small
chance, is what a pixel's own field holds: of spectra a mean without their noise, of opinions one without single errors
(train/propagation.py). The smaller the chance to end, the longer the walks.

Source: Grady, Multilabel random walker image segmentation using prior models, CVPR 2005; as an edge-preserving filter
of hyperspectral scenes Kang et al., Extended random walker-based classification of hyperspectral images, IEEE TGRS
53(1), 2015. Means over several lengths of walk are to its fields what a Gaussian scale space is to a plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

# The neighbours of a pixel that come after it, (lines, samples) away.
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
# How fast the chance of a step falls with the squared distance of two pixels, in units of the median over the strip:
# between pixels as they are, and between pixels that a first walk has freed from noise; and the chance to end of that
# first walk. All were chosen on tuning scenes (bench/tuning.md).
_CONTRAST = 1.0
_CONTRAST_DENOISED = 4.0
_END_DENOISING = 0.1
# Keeps the system solvable where a pixel is like none of its neighbours.
_LEAST = 1e-4


@dataclass(frozen=True)
class Walk:
    """A walk over the pixels of a strip.

    Attributes:
        steps: symmetric, pixel by pixel in line order: how likely a step is, such that those of an average pixel add up
            to 1; pixels without a measurement have none.
    """

    steps: Any

    def mean_at_end(self, values: NDArray[np.floating], end: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the walks from each pixel find where they end, on the mean.

        Args:
            values: (line, sample, channel).
            end: how likely a walk ends at a pixel, to that of an average step; of all, or (line, sample).

        Returns:
            The same shape; pixels without a measurement keep their values.
        """
        weights = np.broadcast_to(end, values.shape[:2]).reshape(-1).astype(np.float64)
        system = scipy.sparse.diags_array(np.asarray(self.steps.sum(0)) + weights) - self.steps
        # The system is symmetric and its diagonal dominates: ordered so, it fills in half as much.
        factors = splu(
            system.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
        flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
        found: NDArray[np.float64] = factors.solve(weights[:, None] * flat).reshape(values.shape)
        return found


def walk_between(components: NDArray[np.floating], valid: NDArray[np.bool_], contrast: float = _CONTRAST) -> Walk:
    """Let pixels be as alike as their components are.

    Args:
        components: (line, sample, component), the strongest of a noise-whitened map.
        valid: (line, sample); no walk goes to or from other pixels.
        contrast: how much a difference keeps walks apart.
    """
    lines, samples = valid.shape
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
    usual = max(float(np.median(apart)), float(np.finfo(np.float32).tiny)) if len(apart) else 1.0
    alike = np.exp(-contrast * apart / usual) + _LEAST
    first, second = (np.concatenate(one) for one in zip(*ends, strict=True))
    steps: Any = scipy.sparse.coo_array((alike, (first, second)), (numbers.size, numbers.size))
    steps = (steps + steps.T).tocsc()
    if len(apart):
        steps *= valid.sum() / steps.sum()
    return Walk(steps)


def walk_within_fields(components: NDArray[np.floating], valid: NDArray[np.bool_], first: Walk) -> Walk:
    """Let pixels be as alike as what a first walk finds around each: noise no longer keeps pixels of a field apart.

    Args:
        components: as for `walk_between`, as is ``valid``.
        valid: (line, sample).
        first: the walk between the same components.
    """
    return walk_between(first.mean_at_end(components, _END_DENOISING), valid, _CONTRAST_DENOISED)
