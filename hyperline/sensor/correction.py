"""The correction of a sensor: what its detector adds, multiplies, saturates at, and which elements it has lost.

An *element* is one (sample, band) of the detector. Tables are (sample, band) of the raw line, whatever bands are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes.wavelengths import WAVELENGTH_TOLERANCE_NM

Units = Literal["reflectance", "radiance", "counts"]
Mend = Literal["spectrum", "line"]
OnSaturation = Literal["invalid", "count"]

# 32-bit counts less this, times that, stay finite in float32: lines of integers need no test for overflow.
MAX_DARK = 1e10
MAX_GAIN = 1e28
# A dark of fewer lines would bring more noise into every line than it takes drift out.
DARK_LINES = 16
# Multiples of its noise that a detector's dark may drift before nobody believes that it is one.
DARK_DRIFT = 20.0


@dataclass(frozen=True, eq=False)
class SensorCorrection:
    """How raw lines of one sensor become lines in ``units``: (count - dark) x gain, mended, selected, binned.

    Attributes:
        samples: cross-track samples of a raw line.
        bands: bands of a raw line.
        units: of corrected lines.
        dark: (sample, band) float32 counts without light, or None for 0.
        dark_noise: (sample, band) float32 counts, the standard deviation of one line of the dark, or None where not
            known.
        dark_drift: multiples of that by which a dark measured in flight may differ from this one.
        gain: (sample, band) float32 units per count, or None for 1.
        bad: (sample, band) bool, True for elements that do not measure, or None. What the other tables hold
            there does not matter.
        mend: fill a bad element from its neighbours along the spectrum or along the line.
        saturation: an element at or above this many counts is saturated; None where not known.
        on_saturation: a pixel with a saturated element becomes invalid, or is only counted.
        ranges: (start, stop) of the raw bands that are used, stop not included, ascending; empty for all.
        bin: the mean of this many neighbouring bands of a range becomes one band.
        bin_samples: the mean of this many neighbouring samples becomes one sample.
        wavelengths_nm: (band,) centres of the raw bands, or None.
        provenance: where it comes from, as JSON has it.

    Raises:
        InputError: the parts contradict each other, or an element in use has no usable dark or gain; the message
            holds how many and the first.
    """

    samples: int
    bands: int
    units: Units = "counts"
    dark: NDArray[np.float32] | None = None
    dark_noise: NDArray[np.float32] | None = None
    dark_drift: float = DARK_DRIFT
    gain: NDArray[np.float32] | None = None
    bad: NDArray[np.bool_] | None = None
    mend: Mend = "spectrum"
    saturation: float | None = None
    on_saturation: OnSaturation = "invalid"
    ranges: tuple[tuple[int, int], ...] = ()
    bin: int = 1
    bin_samples: int = 1
    wavelengths_nm: NDArray[np.float64] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("units", self.units, Units),
            ("mend", self.mend, Mend),
            ("on_saturation", self.on_saturation, OnSaturation),
        ):
            if value not in get_args(choices):
                raise InputError(f"{name} is {value!r}; it must be one of {', '.join(get_args(choices))}")
        if min(self.samples, self.bands) < 1:
            raise InputError(f"the sensor has {self.samples} samples × {self.bands} bands; it needs at least one each")
        tables = {
            "dark": self.dark,
            "noise of the dark": self.dark_noise,
            "gain": self.gain,
            "bad-element map": self.bad,
        }
        for name, table in tables.items():
            if table is not None and table.shape != (self.samples, self.bands):
                raise InputError(
                    f"the {name} is {' × '.join(map(str, table.shape))}, the sensor {self.samples} samples × "
                    f"{self.bands} bands; give one made with the same binning and region of the detector"
                )
        if self.wavelengths_nm is not None and self.wavelengths_nm.shape != (self.bands,):
            raise InputError(f"{self.wavelengths_nm.size} wavelengths for {self.bands} bands; there must be one a band")
        if self.saturation is not None and not (np.isfinite(self.saturation) and self.saturation > 0):
            raise InputError(f"the saturation level is {self.saturation:g}; it must be a positive number of counts")
        if not (np.isfinite(self.dark_drift) and self.dark_drift > 0):
            raise InputError(f"the dark may drift by {self.dark_drift:g} times its noise; this must be positive")
        if self.dark_noise is not None and self.dark is None:
            raise InputError("the noise of a dark is given without the dark; give both, or neither")
        self._check_ranges()
        self._check_elements()

    @property
    def used(self) -> NDArray[np.intp]:
        """The raw bands in use, ascending."""
        return np.concatenate([np.arange(start, stop) for start, stop in self.ranges or ((0, self.bands),)])

    @property
    def model_samples(self) -> int:
        """Samples of a corrected line."""
        return self.samples // self.bin_samples

    @property
    def model_bands(self) -> int:
        """Bands of a corrected line."""
        return len(self.used) // self.bin

    def model_wavelengths_nm(self, source: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Return the (band,) centres of corrected lines, from the source's raw ones or from our own, or None."""
        raw = self.wavelengths_nm if source is None else source
        return None if raw is None else raw[self.used].reshape(-1, self.bin).mean(axis=1)

    def require_fit(
        self, name: str, samples: int, bands: int, scale: float, wavelengths_nm: NDArray[np.float64] | None
    ) -> None:
        """Refuse lines that are not raw lines of this sensor.

        Args:
            name: of the source, for the message.
            samples: of its lines.
            bands: of its lines.
            scale: the source's stored values times this are physical units; raw counts have 1.
            wavelengths_nm: (band,) centres of its bands, or None.

        Raises:
            InputError: another size, other bands, or values that are no longer counts.
        """
        if (samples, bands) != (self.samples, self.bands):
            raise InputError(
                f"{name} has lines of {samples} samples × {bands} bands, the radiometry is for {self.samples} × "
                f"{self.bands}; give raw lines of that sensor, with its binning, or make the radiometry for this one"
            )
        if scale != 1.0:
            raise InputError(
                f"{name} states a scale of {scale:g}: its values are converted already, and the radiometry takes raw "
                "counts; leave the radiometry out, or give the raw lines"
            )
        if wavelengths_nm is None or self.wavelengths_nm is None:
            return
        off = np.abs(wavelengths_nm - self.wavelengths_nm)
        if not (off <= WAVELENGTH_TOLERANCE_NM).all():
            band = int(np.argmax(off))
            raise InputError(
                f"{name}: band {band} (counted from 0) lies at {wavelengths_nm[band]:.2f} nm, in the radiometry at "
                f"{self.wavelengths_nm[band]:.2f} nm; make the radiometry for this sensor"
            )

    def _check_ranges(self) -> None:
        for name, count in (("bin", self.bin), ("bin_samples", self.bin_samples)):
            if count < 1:
                raise InputError(f"{name} is {count}; it must be at least 1")
        if self.samples % self.bin_samples:
            fits = max(count for count in range(1, self.bin_samples) if self.samples % count == 0)
            raise InputError(
                f"{self.samples} samples are no multiple of the bin of {self.bin_samples}; take a bin of {fits}"
            )
        end = 0
        for start, stop in self.ranges or ((0, self.bands),):
            if not end <= start < stop <= self.bands:
                raise InputError(
                    f"bands {start}:{stop}: ranges must be START:STOP within 0:{self.bands}, ascending, no band twice"
                )
            if rest := (stop - start) % self.bin:
                raise InputError(
                    f"bands {start}:{stop} are {stop - start}, no multiple of the bin of {self.bin}; "
                    f"take {start}:{stop - rest}"
                )
            end = stop

    def _check_elements(self) -> None:
        used = self.used
        good = np.ones((self.samples, len(used)), bool) if self.bad is None else ~self.bad[:, used]
        if not good.any():
            raise InputError(
                f"all {good.size} elements in use are marked bad; check that the map marks bad ones, not good"
            )
        lost = np.flatnonzero(~good.any(axis=0))
        if self.mend == "line" and lost.size:
            raise InputError(
                f"{lost.size} bands in use have no good element (first band {used[lost[0]]}, counted from 0), which "
                "cannot be mended along the line; leave them out with --bands, or mend along the spectrum"
            )
        if self.dark is not None:
            dark = self.dark[:, used]
            self._require((np.abs(dark) < MAX_DARK) | ~good, f"the dark is NaN or over {MAX_DARK:g}")
        if self.dark_noise is not None:
            noise = self.dark_noise[:, used]
            self._require(
                (noise > 0) & (noise < MAX_DARK) | ~good, f"the dark's noise is not between 0 and {MAX_DARK:g}"
            )
        if self.gain is not None:
            gain = self.gain[:, used]
            self._require((gain > 0) & (gain < MAX_GAIN) | ~good, f"the gain is not between 0 and {MAX_GAIN:g}")

    def _require(self, usable: NDArray[np.bool_], fault: str) -> None:
        count = np.count_nonzero(~usable)
        if count:
            sample, place = np.argwhere(~usable)[0]
            raise InputError(
                f"{fault} in {count} of {usable.size} elements in use (first: sample {sample}, band "
                f"{self.used[place]}, counted from 0); mark them bad, or leave their bands out with --bands"
            )
