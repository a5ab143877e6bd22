"""Radiometry: stored values of a line -> units of the training scene, and which pixels hold a measurement."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes.scene import Scene
from hyperline.sensor.binning import SampleBins, bin_labels
from hyperline.sensor.correction import MAX_GAIN, SensorCorrection
from hyperline.sensor.darks import Closing
from hyperline.sensor.mending import Mending
from hyperline.sensor.resampling import BandResampling

_LOG = logging.getLogger(__name__)

# Files in band order (ENVI BIL, BSQ) are transposed on the way in; this many bands at a time stay in the first cache.
_BANDS_AT_A_TIME = 24
# Marks the pixels of a corrected scene without a measurement; no measured pixel has this in all its bands.
NODATA = -9999.0


class Radiometry:
    """Convert lines of one strip into the units of the training scene.

    In this order: cast; find saturated elements; subtract the dark; multiply by the gain; mend bad elements; bin
    bands; bin samples. A pixel is invalid where a band is then NaN or infinite (also where its value overflows
    float32), where every stored band equals ``nodata``, where no element measures, and, if the correction says so,
    where an element in use is saturated. Of samples that are binned, those that are invalid are left out of the mean,
    but for saturated ones, which make it invalid as a saturated band would. Invalid pixels are zeroed, so that nothing
    non-finite reaches the model's state. Last, bands are resampled to the model's; without a correction, bands that the
    resampling leaves out are not looked at.

    Cost a line, in passes over its samples × bands values: one cast; one each for a dark and for a gain (whatever
    scales there are is part of it), or for differing scales alone; one test and one reduction each for a saturation
    level, floating-point lines and a declared ``nodata``; one to bin bands, one to bin samples. Bad elements cost by
    their number. A resampling that interpolates is a product of the line with a matrix of bands. All of
    them write into arrays made here; nothing is allocated by the line.

    Attributes:
        samples: cross-track samples of a converted line.
        raw_samples: cross-track samples of a line as it is stored.
        bands: spectral bands of a converted line.
        raw_bands: spectral bands of a line as it is stored.
        saturated_pixels: pixels with a saturated element so far, whether they were made invalid or not.
        dark_updates: how many times a dark measured in flight has replaced the one before.
        dark_refusals: how many times one was not believed, and the one before stayed.
    """

    def __init__(
        self,
        samples: int,
        bands: int,
        *,
        scale: float = 1.0,
        model_scale: float = 1.0,
        nodata: float | None = None,
        correction: SensorCorrection | None = None,
        resampling: BandResampling | None = None,
    ) -> None:
        """Prepare for lines of (samples, bands).

        Args:
            samples: cross-track samples as stored.
            bands: spectral bands as stored.
            scale: the source's stored values times this are physical units.
            model_scale: the same for the scene the model was trained on.
            nodata: the source's declared no-data value, in stored values.
            correction: of the sensor, for raw lines; None where the lines are converted already.
            resampling: of the bands, corrected ones where there is a correction; None where they are the model's.

        Raises:
            InputError: the correction is for lines of another size, or for counts and ``scale`` is not 1.
        """
        weights = None if resampling is None else resampling.weights
        if correction is None:
            ranges: tuple[tuple[int, int], ...] = ((0, bands),) if resampling is None else resampling.ranges
            used = np.arange(bands) if resampling is None else resampling.used
            self._bin = bin_samples = 1
        else:
            correction.require_fit("the source", samples, bands, scale, None)
            used, self._bin, bin_samples = correction.used, correction.bin, correction.bin_samples
            ranges = correction.ranges or ((0, bands),)
            weights = None if resampling is None else resampling.matrix
        self.samples, self.raw_samples = samples // bin_samples, samples
        self.raw_bands = bands
        own = len(used) // self._bin
        self._weights = weights
        self._own = None if weights is None else np.empty((self.samples, own), np.float32)
        self.bands = own if weights is None else int(weights.shape[1])
        self.saturated_pixels = self.dark_updates = self.dark_refusals = 0
        self._nodata = nodata
        self._flagged = np.empty((samples, own), bool)  # scratch of the element-wise tests
        self._stored = np.empty((samples, bands), bool) if nodata is not None else None
        self._some = np.empty(samples, bool)
        # Where each range of stored bands goes.
        ends = np.cumsum([stop - start for start, stop in ranges])
        self._ranges = [
            (slice(start, stop), slice(int(end) - stop + start, int(end)))
            for (start, stop), end in zip(ranges, ends, strict=True)
        ]
        self._work = np.empty((samples, len(used)), np.float32) if self._bin > 1 else None
        self._wide = SampleBins(samples, own, bin_samples) if bin_samples > 1 else None

        ratio = scale / model_scale
        # Files state scales as decimal text: 1/10000 and 1e-4 are the same scale.
        ratio = 1.0 if np.isclose(ratio, 1.0, rtol=1e-6, atol=0.0) else ratio
        factor = ratio / (self._bin * bin_samples)  # a mean is a sum of parts
        self._gain: NDArray[np.float32] | np.float32 | None = None if factor == 1.0 else np.float32(factor)
        self._dark: NDArray[np.float32] | None = None
        self._level: np.float32 | None = None
        self._mending: Mending | None = None
        self._dead: NDArray[np.bool_] | None = None
        if correction is not None:
            self._prepare(correction, used, factor)

    def _prepare(self, correction: SensorCorrection, used: NDArray[np.intp], factor: float) -> None:
        """Cut the tables to the bands in use; what a bad element holds becomes harmless."""
        bad: NDArray[np.bool_] | None = None
        if correction.bad is not None and correction.bad[:, used].any():
            bad = np.take(correction.bad, used, axis=1)  # [:, used] would lie in memory band by band
            self._mending = Mending(bad, used, correction.mend)
            self._dead = self._mending.dead if self._mending.dead.any() else None
        self._bad, self._good = bad, None if bad is None else ~bad
        if correction.gain is not None:
            gain = np.take(correction.gain, used, axis=1) * np.float64(factor)
            if bad is not None:
                gain[bad] = 1.0
            if not gain.max() < MAX_GAIN:
                raise InputError(
                    f"the gain and the scale of the training scene make {gain.max():g} units a count, the most is "
                    f"{MAX_GAIN:g}; check the units of the gain"
                )
            self._gain = gain.astype(np.float32)
        if correction.dark is not None:
            self._dark = np.take(correction.dark, used, axis=1).astype(np.float32)
            if bad is not None:
                self._dark[bad] = 0.0
            noise = correction.dark_noise
            self._closing = Closing(
                self._dark,
                None if noise is None else np.take(noise, used, axis=1),
                self._good,
                correction.saturation,
                correction.dark_drift,
            )
        if correction.saturation is not None:
            self._level = np.float32(correction.saturation)
            self._over = np.empty((self.raw_samples, len(used)), bool)
            self._over_any = np.empty(self.raw_samples, bool)
            self._saturated = np.empty(self.samples, bool) if self._wide else self._over_any
            self._saturated_is_invalid = correction.on_saturation == "invalid"

    def convert(self, values: NDArray[Any], line: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Convert one line in place.

        Args:
            values: (raw sample, raw band) stored values, any real dtype.
            line: (sample, band) float32, C-contiguous, overwritten.
            valid: (sample,) bool, overwritten.
        """
        if self._own is None:
            self._convert(values, line, valid)
        else:
            self._convert(values, self._own, valid)
            assert self._weights is not None
            np.matmul(self._own, self._weights, out=line)

    def _convert(self, values: NDArray[Any], line: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Convert one line to the bands that it has before they are resampled."""
        if self._wide is None:
            self._correct(values, line, valid)
        else:
            self._correct(values, self._wide.line, self._wide.valid)
            with np.errstate(over="ignore"):  # the mean of fewer samples may, where that of all did not
                self._wide.mean(line, valid)
            if values.dtype.kind == "f":
                np.logical_and(valid, np.isfinite(line).all(axis=-1), out=valid)
            if self._level is not None:
                if self._nodata is not None:  # which may stand above the level, and says nothing of its neighbours
                    np.logical_and(self._over_any, self._some, out=self._over_any)
                self._wide.any(self._over_any, self._saturated)
        if self._level is not None:
            self.saturated_pixels += int(np.count_nonzero(self._saturated))
            if self._saturated_is_invalid:
                np.greater(valid, self._saturated, out=valid)  # valid and not saturated
        if not valid.all():
            line[~valid] = 0.0

    def _correct(self, values: NDArray[Any], line: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Convert one line at its full width; samples that are not valid hold anything."""
        work = line if self._work is None else self._work
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
            self._cast(values, work)
            if self._level is not None:
                self._find_saturated(work, self._level)
            if self._dark is not None:
                if self._closing.count:
                    self._end_closing()
                np.subtract(work, self._dark, out=work)
            if self._gain is not None:
                np.multiply(work, self._gain, out=work)
            if self._mending is not None:
                self._mending.mend(work)
            if self._bin > 1:
                np.add(work[:, 0 :: self._bin], work[:, 1 :: self._bin], out=line)
                for band in range(2, self._bin):
                    np.add(line, work[:, band :: self._bin], out=line)
        if values.dtype.kind == "f":
            np.isfinite(line, out=self._flagged)
            np.all(self._flagged, axis=-1, out=valid)
        else:
            valid[:] = True
        if self._nodata is not None:
            np.not_equal(values, self._nodata, out=self._stored)
            np.any(self._stored, axis=-1, out=self._some)
            np.logical_and(valid, self._some, out=valid)
        if self._dead is not None:
            np.greater(valid, self._dead, out=valid)  # valid and not dead

    @property
    def follows_dark(self) -> bool:
        """Whether there is a dark that dark lines can replace."""
        return self._dark is not None

    def update_dark(self, lines: NDArray[Any]) -> None:
        """Take in lines that the source saw with its shutter closed.

        A closing ends with the next line that is converted. The mean of its lines then replaces the dark, so that this
        follows the temperature of the detector, if :meth:`~hyperline.sensor.darks.Closing.end` finds nothing against
        it; otherwise the dark stays, which is counted and logged. Call it between calls of ``convert``, from the same
        thread: a line is converted with one dark, never with two. A line that holds NaN or infinities is left out.

        Args:
            lines: (sample, raw band) or (line, sample, raw band) stored values, any real dtype.

        Raises:
            InputError: lines of another size, or the correction has no dark to replace.
        """
        if self._dark is None:
            raise InputError("the radiometry has no dark that dark lines could replace; make it with --dark")
        lines = lines[None] if lines.ndim == 2 else lines
        if lines.shape[1:] != (self.raw_samples, self.raw_bands):
            raise InputError(
                f"dark lines of {' × '.join(map(str, lines.shape[1:]))} values; the radiometry is for "
                f"{self.raw_samples} samples × {self.raw_bands} bands"
            )
        for values in lines:
            with np.errstate(over="ignore", invalid="ignore"):  # looked for below
                self._cast(values, self._closing.line)
                if self._bad is not None:
                    np.copyto(self._closing.line, 0.0, where=self._bad)
                if values.dtype.kind == "f" and not np.isfinite(self._closing.line.sum()):
                    continue
            self._closing.add()

    def _end_closing(self) -> None:
        assert self._dark is not None
        fault = self._closing.end()
        if fault is not None:
            self.dark_refusals += 1
            _LOG.warning("a dark measured in flight is not used, the one before stays: %s", fault)
            return
        self._dark, self._closing.mean = self._closing.mean, self._dark
        self.dark_updates += 1

    def _cast(self, values: NDArray[Any], work: NDArray[np.float32]) -> None:
        """Copy the bands in use as float32."""
        by_band = abs(values.strides[0]) < abs(values.strides[1])
        for stored, used in self._ranges:
            source, target = values[:, stored], work[:, used]
            bands = target.shape[1]
            step = _BANDS_AT_A_TIME if by_band else bands
            for band in range(0, bands, step):
                np.copyto(target[:, band : band + step], source[:, band : band + step], casting="unsafe")

    def _find_saturated(self, work: NDArray[np.float32], level: np.float32) -> None:
        """Look for saturated elements in counts; a bad element may stand at any value."""
        np.greater_equal(work, level, out=self._over)
        if self._good is not None:
            np.logical_and(self._over, self._good, out=self._over)
        np.any(self._over, axis=-1, out=self._over_any)


def correct_scene(scene: Scene, correction: SensorCorrection) -> Scene:
    """Correct a scene line by line, in memory.

    Returns:
        The scene with a float32 cube in ``correction.units``, its bands selected, its bands and samples binned, its
        labels by :func:`bin_labels`. Pixels that the flight would not classify hold ``NODATA`` in every band.

    Raises:
        InputError: the scene does not hold raw lines of this sensor, or none of its pixels carries a measurement.
    """
    correction.require_fit(scene.name, scene.samples, scene.bands, scene.scale, scene.wavelengths_nm)
    radiometry = Radiometry(scene.samples, scene.bands, nodata=scene.nodata, correction=correction)
    cube = np.empty((scene.lines, radiometry.samples, radiometry.bands), np.float32)
    valid = np.empty(radiometry.samples, bool)
    usable = 0
    for values, line in zip(scene.cube, cube, strict=True):
        radiometry.convert(values, line, valid)
        line[~valid] = NODATA
        usable += int(np.count_nonzero(valid))
    invalid = scene.lines * radiometry.samples - usable
    if not usable:
        raise InputError(
            f"{scene.name}: none of its {invalid} pixels carries a measurement, {radiometry.saturated_pixels} are "
            "saturated; check the saturation level and the bad-element map"
        )
    notes = scene.notes
    if radiometry.saturated_pixels:
        notes += (f"{radiometry.saturated_pixels} pixels are saturated",)
    if invalid:
        notes += (f"{invalid} pixels carry no measurement",)
    return replace(
        scene,
        cube=cube,
        labels=None if scene.labels is None else bin_labels(scene.labels, correction.bin_samples),
        wavelengths_nm=correction.model_wavelengths_nm(scene.wavelengths_nm),
        nodata=NODATA if invalid else None,
        units=correction.units,
        notes=notes,
    )


def fit_scene(scene: Scene, resampling: BandResampling | None) -> Scene:
    """Give a scene the bands of a model.

    Args:
        scene: in whatever units.
        resampling: of its bands, or None where they are the model's.

    Returns:
        The scene in the same units and with the same dtype where bands are left out alone; else with a float32 cube, in
        memory, whose pixels without a measurement hold ``NODATA`` in every band.
    """
    if resampling is None:
        return scene
    used = resampling.used
    wavelengths = scene.wavelengths_nm
    if resampling.weights is None:
        one = len(resampling.ranges) == 1  # which stays mapped
        cube = scene.cube[..., slice(*resampling.ranges[0])] if one else np.take(scene.cube, used, axis=2)
        return replace(scene, cube=cube, wavelengths_nm=None if wavelengths is None else wavelengths[used])
    radiometry = Radiometry(scene.samples, scene.bands, nodata=scene.nodata, resampling=resampling)
    cube = np.empty((scene.lines, scene.samples, radiometry.bands), np.float32)
    valid = np.empty(scene.samples, bool)
    for values, line in zip(scene.cube, cube, strict=True):
        radiometry.convert(values, line, valid)
        line[~valid] = NODATA
    return replace(
        scene,
        cube=cube,
        wavelengths_nm=resampling.model_nm,
        nodata=NODATA,
    )
