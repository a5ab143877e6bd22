"""Radiometry: stored values of a line -> units of the training scene, and which pixels hold a measurement."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Radiometry:
    """Convert lines of one strip into the units of the training scene.

    A pixel is invalid where a band is NaN or infinite (also where its value overflows float32), or where
    every band equals ``nodata``. Invalid pixels are zeroed, so that nothing non-finite reaches the model's
    state.

    Cost a line, in passes over its samples × bands values: one cast; one product where the scales differ;
    one test and one reduction each for floating-point lines and for a declared ``nodata``. All of them write
    into arrays made here.

    Attributes:
        samples: cross-track samples of a line.
        bands: spectral bands of a line.
    """

    def __init__(
        self,
        samples: int,
        bands: int,
        *,
        scale: float = 1.0,
        model_scale: float = 1.0,
        nodata: float | None = None,
    ) -> None:
        """Prepare for lines of (samples, bands).

        Args:
            samples: cross-track samples.
            bands: spectral bands.
            scale: the source's stored values times this are physical units.
            model_scale: the same for the scene the model was trained on.
            nodata: the source's declared no-data value, in stored values.
        """
        self.samples = samples
        self.bands = bands
        ratio = scale / model_scale
        # Files state scales as decimal text: 1/10000 and 1e-4 are the same scale.
        self._ratio = None if np.isclose(ratio, 1.0, rtol=1e-6, atol=0.0) else np.float32(ratio)
        self._nodata = nodata
        self._test = np.empty((samples, bands), bool)  # scratch of the element-wise tests
        self._some = np.empty(samples, bool)

    def convert(self, values: NDArray[Any], line: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Convert one line in place.

        Args:
            values: (sample, band) stored values, any real dtype.
            line: (sample, band) float32, overwritten.
            valid: (sample,) bool, overwritten.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
            np.copyto(line, values, casting="unsafe")
            if self._ratio is not None:
                np.multiply(line, self._ratio, out=line)
        if values.dtype.kind == "f":
            np.isfinite(line, out=self._test)
            np.all(self._test, axis=-1, out=valid)
        else:
            valid[:] = True
        if self._nodata is not None:
            np.not_equal(values, self._nodata, out=self._test)
            np.any(self._test, axis=-1, out=self._some)
            np.logical_and(valid, self._some, out=valid)
        if not valid.all():
            line[~valid] = 0.0
