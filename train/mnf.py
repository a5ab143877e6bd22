"""Minimum noise fraction: the fixed first layer.

The map whitens the noise of the training strip and keeps the directions of the best signal-to-noise ratio (Green et
al., IEEE TGRS 26(1), 1988). It is linear, so the export folds it into the first learned layer, and it costs nothing at
run time.

What noise is, a scene has to tell. ``neighbours`` is what differs between neighbouring samples, as Green et al. have
it: of wide fields the scatter within a field, which no class is made of. Where neighbours are of different materials
(roofs, crowns, mixed pixels) it would whiten away what tells those apart; ``regression`` is what a band holds that no
combination of all others explains (Bioucas-Dias and Nascimento, IEEE TGRS 46(8), 2008), whatever lies next to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes import Scene, valid_pixels

Noise = Literal["neighbours", "regression"]

# Bands without noise of their own (dead or duplicated) get this share of the mean noise variance.
_RIDGE = 1e-4
# Against bands that repeat others.
_REGRESSION_RIDGE = 1e-6
_LINES_AT_ONCE = 64


@dataclass(frozen=True)
class MinimumNoiseFraction:
    """A linear map from spectra to noise-whitened components, best first.

    Attributes:
        mean: (bands,) mean spectrum, float64.
        projection: (bands, components); a component has noise variance 1.
        snr: (components,) signal plus noise over noise variance, descending.
        variance: (bands,) of the spectra, noise and signal together.
    """

    mean: NDArray[np.float64]
    projection: NDArray[np.float64]
    snr: NDArray[np.float64]
    variance: NDArray[np.float64]

    def __call__(self, spectra: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map (..., bands) to (..., components)."""
        mapped: NDArray[np.float64] = (spectra - self.mean) @ self.projection
        return mapped


def fit_mnf(scenes: Scene | Sequence[Scene], components: int, noise: Noise = "neighbours") -> MinimumNoiseFraction:
    """Estimate the map from every valid pixel of one training strip, or of several; labels are not looked at.

    Reads a strip in runs of lines, so that one larger than memory will do. Covariances are sums over all strips, about
    their common mean; no difference of neighbours spans two strips.

    Args:
        scenes: the training strips, of the same bands.
        components: how many to keep; fewer than that are kept where there are fewer bands.
        noise: what is whitened.

    Raises:
        InputError: too few valid pixels to estimate the covariances, or strips of different bands.
    """
    strips = [scenes] if isinstance(scenes, Scene) else list(scenes)
    bands = strips[0].bands
    other = next((one for one in strips if one.bands != bands), None)
    if other is not None:
        raise InputError(
            f"{other.name} has {other.bands} bands, {strips[0].name} has {bands}; train on strips of one sensor"
        )
    total = np.zeros(bands)
    count = 0
    for spectra, valid in _runs(strips):
        total += spectra[valid].sum(0)
        count += int(valid.sum())
    if count < 2 * bands:
        raise InputError(
            f"{strips[0].name}: {count} valid pixels are too few to estimate the noise of {bands} bands; "
            f"at least {2 * bands} are needed"
        )
    mean = total / count
    signal = np.zeros((bands, bands))
    for spectra, valid in _runs(strips):
        centred = spectra[valid] - mean
        signal += centred.T @ centred
    signal /= count
    covariance = _between_neighbours(strips) if noise == "neighbours" else _unexplained(signal)
    floor = _RIDGE * max(float(np.trace(covariance)) / bands, np.finfo(np.float64).tiny)
    covariance[np.diag_indices(bands)] += floor

    variance, axes = np.linalg.eigh(covariance)
    whiten = axes / np.sqrt(variance)
    snr, rotation = np.linalg.eigh(whiten.T @ signal @ whiten)
    best = np.argsort(snr)[::-1][: min(components, bands)]
    projection = whiten @ rotation[:, best]
    # eigenvectors come with any sign; fix it, so that one scene always gives one map
    projection *= np.sign(projection[np.abs(projection).argmax(0), np.arange(len(best))])
    return MinimumNoiseFraction(mean, projection, snr[best], np.diag(signal).copy())


def _between_neighbours(strips: Sequence[Scene]) -> NDArray[np.float64]:
    """Return half the covariance (bands, bands) of the differences of neighbouring samples."""
    bands, pairs = strips[0].bands, 0
    covariance = np.zeros((bands, bands))
    for spectra, valid in _runs(strips):
        both = valid[:, 1:] & valid[:, :-1]
        difference = (spectra[:, 1:] - spectra[:, :-1])[both]
        covariance += difference.T @ difference
        pairs += int(both.sum())
    return covariance / (2 * max(pairs, 1))  # the difference of two pixels holds the noise of both


def _unexplained(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (bands, bands), diagonal: the variance of each band that its regression on all others leaves.

    It is one over the diagonal of the inverse covariance.
    """
    bands = len(signal)
    ridge = _REGRESSION_RIDGE * max(float(np.trace(signal)) / bands, np.finfo(np.float64).tiny)
    return np.diag(1 / np.diag(np.linalg.inv(signal + ridge * np.eye(bands))))


def _runs(strips: Sequence[Scene]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Give (line, sample, band) spectra and (line, sample) validity, some lines at a time."""
    for strip in strips:
        for start in range(0, strip.lines, _LINES_AT_ONCE):
            lines = np.asarray(strip.cube[start : start + _LINES_AT_ONCE])
            valid = valid_pixels(lines, strip.nodata)
            yield np.where(valid[..., None], lines, 0).astype(np.float64), valid
