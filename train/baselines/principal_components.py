"""Principal components, the first layer of the published patch classifiers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError


@dataclass(frozen=True)
class PrincipalComponents:
    """A linear map to components of variance 1, largest first.

    Attributes:
        mean: (feature,).
        projection: (feature, component).
        variance: (component,) before whitening.
    """

    mean: NDArray[np.float64]
    projection: NDArray[np.float64]
    variance: NDArray[np.float64]

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (..., feature) to (..., component)."""
        mapped: NDArray[np.float64] = (features - self.mean) @ self.projection
        return mapped


def fit_principal_components(features: NDArray[np.float64], count: int, share: float = 1.0) -> PrincipalComponents:
    """Fit to (pixel, feature).

    Args:
        features: at least two pixels.
        count: components to keep; fewer are kept where there are fewer that vary.
        share: no more than hold this share of the variance.

    Raises:
        InputError: nothing varies.
    """
    mean = features.mean(0)
    variance, axes = np.linalg.eigh(np.cov(features - mean, rowvar=False).reshape(features.shape[1], -1))
    variance, axes = variance[::-1], axes[:, ::-1]
    varying = int((variance > 1e-12 * variance[0]).sum()) if variance[0] > 0 else 0
    if not varying:
        raise InputError("all spectra of the scene are the same; there is nothing to classify")
    enough = int(np.searchsorted(variance.cumsum() / variance.sum(), share)) + 1
    kept = min(count, varying, enough)
    axes, variance = axes[:, :kept], variance[:kept]
    # eigenvectors come with any sign; fix it, so that one scene always gives one map
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(kept)])
    return PrincipalComponents(mean, axes / np.sqrt(variance), variance)
