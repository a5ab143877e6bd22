"""What shallow classifiers see of a pixel: its spectrum, or noise-whitened components and their Gaussian blurs.

Components and blurs carry most of what the spatial context of such scenes holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from hyperline.errors import InputError
from hyperline.scenes import Scene, valid_pixels
from hyperline.train.mnf import MinimumNoiseFraction

_BLURS = (1.0, 2.0, 4.0, 8.0)


class Features(Protocol):
    """A map from a scene to (line, sample, feature) float64, fitted to the training strip."""

    def __call__(self, scene: Scene) -> NDArray[np.float64]:
        """Return the features of every pixel."""


@dataclass(frozen=True)
class Spectra:
    """The spectra themselves; a pixel without a measurement has the mean spectrum of the training strip.

    Attributes:
        mean: (band,) float64.
    """

    mean: NDArray[np.float64]

    def __call__(self, scene: Scene) -> NDArray[np.float64]:
        """Return (line, sample, band)."""
        cube = np.asarray(scene.cube)
        valid = valid_pixels(cube, scene.nodata)
        spectra: NDArray[np.float64] = np.where(valid[..., None], cube, self.mean).astype(np.float64)
        return spectra


def fit_spectra(scenes: Sequence[Scene]) -> Spectra:
    """Take the mean of the valid pixels of the training strips.

    Raises:
        InputError: there is no valid pixel.
    """
    pixels = np.concatenate([np.asarray(one.cube)[valid_pixels(np.asarray(one.cube), one.nodata)] for one in scenes])
    if not len(pixels):
        raise InputError(f"{scenes[0].name} has no valid pixel")
    return Spectra(pixels.mean(axis=0, dtype=np.float64))


@dataclass(frozen=True)
class GaussianScales:
    """MNF components and their Gaussian blurs of 1, 2, 4 and 8 pixels.

    Attributes:
        mnf: from the training strip.
        block_lines: K; None takes the whole scene as one block.
    """

    mnf: MinimumNoiseFraction
    block_lines: int | None

    def __call__(self, scene: Scene) -> NDArray[np.float64]:
        """Return (line, sample, 5 times the components)."""
        components = self.mnf(Spectra(self.mnf.mean)(scene))
        return np.concatenate([components, *(blur(components, sigma, self.block_lines) for sigma in _BLURS)], axis=-1)


def blur(components: NDArray[np.float64], sigma: float, block_lines: int | None = None) -> NDArray[np.float64]:
    """Blur (line, sample, component) with a Gaussian; across track the edges are repeated.

    Along track each line sees what a streaming run has by then: all earlier lines and its block. The weights are those
    of the lines that are there, normalised: of the ways to end a blur at a block the one that serves these classifiers
    best (Indian Pines, SVM: 89.6 against 88.3 for repeating the last line).
    """
    across = gaussian_filter1d(components, sigma, axis=1, mode="nearest")
    out: NDArray[np.float64] = np.empty_like(across)
    reach = int(4 * sigma + 0.5)  # the filter's own radius
    for start, end in blocks(len(across), block_lines):
        first = max(0, start - reach)
        seen = gaussian_filter1d(across[first:end], sigma, axis=0, mode="constant")
        share = gaussian_filter1d(np.ones(end - first), sigma, mode="constant")
        out[start:end] = (seen / share[:, None, None])[start - first :]
    return out


def blocks(lines: int, block_lines: int | None) -> Iterator[tuple[int, int]]:
    """Give first and end of every block of K lines in a strip; None makes it one block."""
    step = block_lines or lines
    for start in range(0, lines, step):
        yield start, min(start + step, lines)


def block_window(image: NDArray[np.float64], start: int, end: int, reach: int) -> NDArray[np.float64]:
    """Cut a block out of (line, sample, channel) with ``reach`` pixels around it, as a streaming run has them.

    Before the block stand the lines of the past. After it, and beside the strip, the edge is repeated: a patch has a
    shape that a classifier was trained for, so a line past the block cannot be dropped, and a line of zeros would be
    one more material.

    Returns:
        (end - start + 2 reach, samples + 2 reach, channel).
    """
    first = max(0, start - reach)
    return np.pad(
        image[first:end],
        ((reach - (start - first), reach), (reach, reach), (0, 0)),
        mode="edge",
    )
