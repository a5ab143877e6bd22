"""What there is to know of a scene before anything is trained on it: its bands, its faults, and which bands to drop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes.scene import Scene, valid_pixels
from hyperline.sensor.resampling import band_ranges

Fault = Literal["empty", "saturated", "water vapour", "noise"]

# The atmosphere is opaque here: no light of the ground reaches the sensor.
WATER_VAPOUR_NM = ((1350.0, 1450.0), (1800.0, 1950.0))
# A step of the band centres above so many medians is a gap.
_GAP = 3.0
# Values piled up at the scene's maximum: fewer may be chance.
_FEWEST_SATURATED, _SATURATED_SHARE = 10, 0.01
# Above this share of a band's variance its noise is most of it.
_NOISE_SHARE = 0.5
# Fewer lines and an element may stand still by chance.
_FEWEST_LINES = 8
_VALUES_AT_ONCE = 2**22


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found in a scene.

    Attributes:
        lines: of the scene; likewise ``samples`` and ``bands``.
        minimum: (band,) lowest value of the valid pixels; likewise ``maximum``, ``mean`` and ``deviation``. NaN where
            there is none.
        saturated: (band,) share of the values that stand at the scene's maximum, where that many do.
        snr: (band,) mean over the standard deviation of the noise, or None where that is not known.
        invalid_pixels: that hold NaN, infinities or the no-data value.
        dead_samples: columns that show one and the same value in each band, line after line; None where there are too
            few lines to tell.
        dead_elements: (sample, band) pairs of which this holds, outside dead samples and empty bands; None likewise.
        dead_lines: that hold a single value, or no valid pixel.
        repeated_lines: that equal the line before to the bit.
        gaps: (left band, right band, distance in nm) where band centres are further apart than elsewhere.
        order: of the band centres: ``ascending``, ``descending``, ``mixed``, or None where unknown.
        faults: what is wrong with each band that is to be dropped, by its index.
    """

    lines: int
    samples: int
    bands: int
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    saturated: NDArray[np.float64]
    snr: NDArray[np.float64] | None
    invalid_pixels: int
    dead_samples: tuple[int, ...] | None
    dead_elements: int | None
    dead_lines: tuple[int, ...]
    repeated_lines: tuple[int, ...]
    gaps: tuple[tuple[int, int, float], ...]
    order: str | None
    faults: dict[int, Fault]

    @property
    def kept(self) -> tuple[tuple[int, int], ...]:
        """The (start, stop) of the bands that are not to be dropped."""
        return band_ranges(np.array([band for band in range(self.bands) if band not in self.faults], np.intp))


def inspect_scene(scene: Scene, noise: NDArray[np.float64] | None = None) -> Inspection:
    """Look at every value of a scene, some lines at a time.

    Args:
        scene: of any size; a memory-mapped cube stays on disk.
        noise: (band,) standard deviation of the noise, in stored values, or None.

    Raises:
        InputError: no pixel carries a measurement.
    """
    seen = _Statistics(scene)
    if not seen.count:
        raise InputError(f"{scene.name}: none of its {seen.invalid} pixels carries a measurement")
    mean = seen.total / seen.count
    deviation = np.sqrt(np.maximum(seen.squares / seen.count - mean**2, 0))
    empty = seen.minimum == seen.maximum
    top = seen.maximum.max()
    piled = (seen.maximum == top) & ~empty & (seen.at_maximum >= _FEWEST_SATURATED)
    saturated = np.where(piled, seen.at_maximum / seen.count, 0.0)
    still = None if scene.lines < _FEWEST_LINES else seen.lowest == seen.highest
    dead = None if still is None else still.all(axis=1)
    elements = None if still is None or dead is None else int(np.count_nonzero(still[~dead][:, ~empty]))
    snr = None if noise is None else np.abs(mean) / np.where(noise > 0, noise, np.inf)
    return Inspection(
        lines=scene.lines,
        samples=scene.samples,
        bands=scene.bands,
        minimum=seen.minimum,
        maximum=seen.maximum,
        mean=mean,
        deviation=deviation,
        saturated=saturated,
        snr=snr,
        invalid_pixels=seen.invalid,
        dead_samples=None if dead is None else tuple(np.flatnonzero(dead).tolist()),
        dead_elements=elements,
        dead_lines=tuple(seen.dead_lines),
        repeated_lines=tuple(seen.repeated_lines),
        gaps=_gaps(scene.wavelengths_nm),
        order=_order(scene.wavelengths_nm),
        faults=_faults(scene, empty, saturated, deviation, noise),
    )


class _Statistics:
    """Sums and extremes of a scene, after one pass over it."""

    def __init__(self, scene: Scene) -> None:
        bands, shape = scene.bands, (scene.samples, scene.bands)
        self.count = self.invalid = 0
        self.total, self.squares = np.zeros(bands), np.zeros(bands)
        self.minimum, self.maximum = np.full(bands, np.inf), np.full(bands, -np.inf)
        self.at_maximum = np.zeros(bands, np.int64)
        # Of each element, along the track.
        self.lowest, self.highest = np.full(shape, np.inf), np.full(shape, -np.inf)
        self.dead_lines: list[int] = []
        self.repeated_lines: list[int] = []
        before: NDArray[Any] | None = None
        step = max(1, _VALUES_AT_ONCE // (scene.samples * bands))
        for start in range(0, scene.lines, step):
            stored = np.asarray(scene.cube[start : start + step])
            valid = valid_pixels(stored, scene.nodata)
            self._look_at_lines(start, stored, valid, before)
            before = stored[-1]
            self._add(stored.astype(np.float64), valid)

    def _look_at_lines(
        self, start: int, stored: NDArray[Any], valid: NDArray[np.bool_], before: NDArray[Any] | None
    ) -> None:
        for index, line in enumerate(stored):
            measured = line[valid[index]]
            if not measured.size or measured.min() == measured.max():
                self.dead_lines.append(start + index)
            elif before is not None and np.array_equal(line, before):
                self.repeated_lines.append(start + index)
            before = line

    def _add(self, values: NDArray[np.float64], valid: NDArray[np.bool_]) -> None:
        """Take in (line, sample, band) values."""
        self.invalid += int(np.count_nonzero(~valid))
        spectra = values[valid]
        if not len(spectra):
            return
        self.count += len(spectra)
        self.total += spectra.sum(axis=0)
        self.squares += np.einsum("pb,pb->b", spectra, spectra)
        np.minimum(self.minimum, spectra.min(axis=0), out=self.minimum)
        highest = spectra.max(axis=0)
        self.at_maximum[highest > self.maximum] = 0
        np.maximum(self.maximum, highest, out=self.maximum)
        self.at_maximum += np.count_nonzero(spectra == self.maximum, axis=0)
        everywhere = valid[..., None]
        np.minimum(self.lowest, np.where(everywhere, values, np.inf).min(axis=0), out=self.lowest)
        np.maximum(self.highest, np.where(everywhere, values, -np.inf).max(axis=0), out=self.highest)


def _order(wavelengths_nm: NDArray[np.float64] | None) -> str | None:
    if wavelengths_nm is None:
        return None
    steps = np.diff(wavelengths_nm)
    return "ascending" if (steps > 0).all() else "descending" if (steps < 0).all() else "mixed"


def _gaps(wavelengths_nm: NDArray[np.float64] | None) -> tuple[tuple[int, int, float], ...]:
    if wavelengths_nm is None or len(wavelengths_nm) < 3:
        return ()
    steps = np.abs(np.diff(wavelengths_nm))
    wide = np.flatnonzero(steps > _GAP * np.median(steps))
    return tuple((int(band), int(band) + 1, float(steps[band])) for band in wide)


def _faults(
    scene: Scene,
    empty: NDArray[np.bool_],
    saturated: NDArray[np.float64],
    deviation: NDArray[np.float64],
    noise: NDArray[np.float64] | None,
) -> dict[int, Fault]:
    water = np.zeros(scene.bands, bool)
    if scene.wavelengths_nm is not None:
        for low, high in WATER_VAPOUR_NM:
            water |= (scene.wavelengths_nm >= low) & (scene.wavelengths_nm <= high)
    noisy = np.zeros(scene.bands, bool) if noise is None else noise**2 > _NOISE_SHARE * deviation**2
    reasons: tuple[tuple[Fault, NDArray[np.bool_]], ...] = (
        ("empty", empty),
        ("saturated", saturated > _SATURATED_SHARE),
        ("water vapour", water),
        ("noise", noisy),
    )
    found: dict[int, Fault] = {}
    for reason, bands in reasons:
        for band in np.flatnonzero(bands).tolist():
            found.setdefault(band, reason)
    return dict(sorted(found.items()))
