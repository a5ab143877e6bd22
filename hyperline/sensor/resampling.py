"""The bands of one sensor as the bands of another: which take part, and with what weight.

Two units of a sensor differ by a nanometre or two; a bundle may know fewer bands than the sensor has. Both are one
matrix from the bands of a line to the bands of a model, made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes.wavelengths import WAVELENGTH_TOLERANCE_NM

Method = Literal["selection", "linear", "gaussian"]

# Band centres this close, as a share of the model's band spacing, are one band: interpolating between bands that are
# wider than their spacing would blur the spectrum by more than it moves it.
SAME_BAND = 0.1
# Coarser than this many of the model's spacings, a sensor does not show what the model looks at.
MAX_COARSENESS = 2.0
# Headers round their centres.
_ROUNDING = 1.01
# From so many bands of the sensor to one of the model on, they are averaged over the width of the model's.
_FINE = 0.5
_SIGMA_PER_FWHM = 1 / (2 * np.sqrt(2 * np.log(2)))
# Weights below this share of the greatest are none.
_LEAST = 1e-3


@dataclass(frozen=True, eq=False)
class BandResampling:
    """How the bands of a line become those of a model.

    Attributes:
        bands: of a line.
        ranges: (start, stop) of the bands of a line that take part, ascending, stop not included.
        weights: (band in use, model band) float32, every column's sum 1; None where the bands in use are the model's as
            they stand.
        method: ``selection`` of bands as they are; ``linear`` between the two nearest centres; ``gaussian``: their mean
            over the width of the model's band, where the sensor has many more.
        shift_nm: the furthest that a band of the model lies from the nearest of the sensor; None where wavelengths are
            unknown.
        model_nm: (model band,) centres, or None where unknown.
    """

    bands: int
    ranges: tuple[tuple[int, int], ...]
    weights: NDArray[np.float32] | None
    method: Method
    shift_nm: float | None = None
    model_nm: NDArray[np.float64] | None = None

    @property
    def used(self) -> NDArray[np.intp]:
        """The bands of a line that take part, ascending."""
        return np.concatenate([np.arange(start, stop) for start, stop in self.ranges])

    @property
    def model_bands(self) -> int:
        """Bands of the model."""
        return len(self.used) if self.weights is None else int(self.weights.shape[1])

    @property
    def matrix(self) -> NDArray[np.float32]:
        """(band of a line, model band) weights."""
        whole = np.zeros((self.bands, self.model_bands), np.float32)
        whole[self.used] = np.eye(self.model_bands) if self.weights is None else self.weights
        return whole

    def as_dict(self) -> dict[str, Any]:
        """Return what a run's record says of it."""
        return {
            "method": self.method,
            "bands": self.bands,
            "used": len(self.used),
            "model_bands": self.model_bands,
            "shift_nm": self.shift_nm,
        }

    def __str__(self) -> str:
        """Say it in one clause."""
        if self.method == "selection":
            return f"{self.model_bands} of {self.bands} bands are those of the model; the others are left out"
        how = "linearly" if self.method == "linear" else "by averages over the width of a band"
        return (
            f"its {self.bands} bands are resampled {how} to the {self.model_bands} of the model, whose centres lie up "
            f"to {self.shift_nm:.2f} nm beside its own"
        )


def select_bands(bands: int, ranges: Sequence[tuple[int, int]]) -> BandResampling:
    """Return the selection of some ranges of bands, for lines and models without wavelengths."""
    return BandResampling(bands, tuple(ranges), None, "selection")


def resample_bands(
    name: str, sensor_nm: NDArray[np.float64], model: str, model_nm: NDArray[np.float64]
) -> BandResampling | None:
    """Find what makes the bands of a model of those of a sensor.

    A band of the model whose centre lies within a tenth of the band spacing, and 2 nm, of one of the sensor is that
    band. Another is interpolated between the two that lie around it. Where the sensor has two bands or more for each of
    the model, it is their mean with Gaussian weights whose full width at half maximum is the model's band spacing.

    Args:
        name: of whatever has the lines, for the message.
        sensor_nm: (band,) centres of a line's bands, in any order.
        model: its name, for the message.
        model_nm: (band,) centres of the model's bands, in any order.

    Returns:
        None where the lines show the model's bands as they stand.

    Raises:
        InputError: a band of the model lies outside the sensor's range by more than half a band spacing, or between
            bands of the sensor that are more than two of the model's spacings apart; or a wavelength is no number.
    """
    if not np.isfinite(sensor_nm).all():
        raise InputError(f"{name}: the wavelength of band {int(np.argmin(np.isfinite(sensor_nm)))} is no number")
    if same_bands(sensor_nm, model_nm):
        return None
    spacing = _spacing(model_nm, sensor_nm)
    usual = float(np.median(spacing))  # a band whose neighbours are left out is no wider for that
    same = np.minimum(SAME_BAND * spacing, WAVELENGTH_TOLERANCE_NM)
    distance = np.abs(sensor_nm - model_nm[:, None])  # (model band, sensor band)
    order = np.argsort(sensor_nm, kind="stable")
    centres = sensor_nm[order]
    _refuse_outside(name, centres, model, model_nm, spacing)
    nearest = distance.argmin(axis=1)
    off = distance.min(axis=1)
    weights = np.zeros((len(sensor_nm), len(model_nm)))
    method: Method = "selection"
    for band, centre in enumerate(model_nm):
        right = int(np.searchsorted(centres, centre))
        inside = 0 < right < len(centres)
        step = centres[right] - centres[right - 1] if inside else np.inf
        width = min(spacing[band], usual)
        if step <= _FINE * width:
            sigma = _SIGMA_PER_FWHM * width
            near = np.exp(-0.5 * (distance[band] / sigma) ** 2)
            weights[:, band] = np.where(near > _LEAST * near.max(), near, 0)
            method = "gaussian"
        elif off[band] <= same[band] or not inside:
            # Beyond the sensor's last band, but by less than half a band: that band, too.
            weights[nearest[band], band] = 1.0
        elif step <= MAX_COARSENESS * _ROUNDING * spacing[band]:
            share = (centre - centres[right - 1]) / step
            weights[order[right - 1], band], weights[order[right], band] = 1 - share, share
            method = "linear" if method == "selection" else method
        else:
            raise InputError(
                f"{name} has no band between {centres[right - 1]:.2f} and {centres[right]:.2f} nm, where the model "
                f"{model} looks at {centre:.2f} nm with bands {spacing[band]:.2f} nm apart; train a model for this "
                "sensor"
            )
    weights /= weights.sum(axis=0)
    used = np.flatnonzero(weights.any(axis=1))
    ranges = band_ranges(used)
    if method == "selection" and not np.array_equal(used, nearest):
        method = "linear"  # a band twice, or in another order
    exact = method == "selection"
    return BandResampling(
        len(sensor_nm), ranges, None if exact else weights[used].astype(np.float32), method, float(off.max()), model_nm
    )


def same_bands(sensor_nm: NDArray[np.float64], model_nm: NDArray[np.float64]) -> bool:
    """Say whether bands are those of a model as they stand, one by one.

    Args:
        sensor_nm: (band,) centres.
        model_nm: (band,) centres of the model's bands.
    """
    if len(sensor_nm) != len(model_nm):
        return False
    same = np.minimum(SAME_BAND * _spacing(model_nm, sensor_nm), WAVELENGTH_TOLERANCE_NM)
    return bool((np.abs(sensor_nm - model_nm) <= same).all())


def _spacing(model_nm: NDArray[np.float64], sensor_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of each band of the model from its nearest neighbour; of a single one, the sensor's."""
    if len(model_nm) < 2:
        return _spacing(sensor_nm, np.array([0.0, 1.0]))[:1] if len(sensor_nm) > 1 else np.ones(1)
    between = np.abs(model_nm - model_nm[:, None])
    between[between == 0] = np.inf  # itself, and the same centre on another detector
    nearest: NDArray[np.float64] = between.min(axis=1)
    return nearest


def _refuse_outside(
    name: str, centres: NDArray[np.float64], model: str, model_nm: NDArray[np.float64], spacing: NDArray[np.float64]
) -> None:
    beyond = np.maximum(centres[0] - model_nm, model_nm - centres[-1]) - _ROUNDING * spacing / 2
    if (beyond > 0).any():
        band = int(np.argmax(beyond))
        raise InputError(
            f"{name} reaches from {centres[0]:.2f} to {centres[-1]:.2f} nm; band {band} (counted from 0) of the model "
            f"{model} lies at {model_nm[band]:.2f} nm, and {np.count_nonzero(beyond > 0)} of its {len(model_nm)} bands "
            "would have to be extrapolated. Give a sensor of the model's range, or train a model for this one"
        )


def band_ranges(used: NDArray[np.intp]) -> tuple[tuple[int, int], ...]:
    """Return ascending band indices as (start, stop), stop not included."""
    if not len(used):
        return ()
    parts = np.split(used, np.flatnonzero(np.diff(used) > 1) + 1)
    return tuple((int(part[0]), int(part[-1]) + 1) for part in parts)
