"""What a shifted sensor does to a map, taken as it stands and resampled; and what resampling costs a line.

    python bench/resampling.py BUNDLE SCENE

SCENE is the one that the bundle was trained on, or another of its sensor, with wavelengths. It is seen again by
sensors whose bands lie elsewhere: its spectra, through a cubic spline, rounded as they are stored. ``agree`` is
the share of all pixels with the label that they get from the scene itself. The last rows are what is lost because
the width of a sensor's bands is not used: averaged to bands of the model's width, bands that are wide already come out
wider than the model's, as if the scene had been blurred once more by their own width. The cost is that of a line of
1024 samples x 224 bands, uint16.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from hyperline.bundle import Bundle, read_bundle
from hyperline.radiometry import Radiometry
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip
from hyperline.scenes import Scene, read_scene
from hyperline.sensor import BandResampling, resample_bands

_SHIFTS_NM = (0.3, 0.7, 1.2, 1.8)
# Full widths at half maximum of a finer sensor's bands, in spacings of the model's.
_WIDTHS = (0.2, 0.4, 0.5, 1.0)
_REPEATS = 200


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("scene")
    asked = parser.parse_args()
    bundle, scene = read_bundle(asked.bundle), read_scene(asked.scene)
    if scene.wavelengths_nm is None:
        parser.error(f"{asked.scene} has no wavelengths")
    expected, centres = _labels(bundle, scene), scene.wavelengths_nm
    print("sensor                 bands   agree: as it stands   resampled")
    for shift in _SHIFTS_NM:
        seen = _seen(scene, centres + shift)
        blind = _share(expected, _labels(bundle, replace(seen, wavelengths_nm=None)))
        fitted = _share(expected, _labels(bundle, seen))
        print(f"shifted by {shift} nm      {seen.bands:5d}   {blind:20.2%} {fitted:11.2%}")
    step = float(np.median(np.diff(centres)))
    for factor in (1.3, 0.4):
        seen = _seen(scene, np.arange(centres[0], centres[-1] + step / 2, factor * step))
        share = _share(expected, _labels(bundle, seen))
        print(f"bands {factor} times as far {seen.bands:5d}   {'-':>20} {share:11.2%}")
    for width in _WIDTHS:
        share = _share(expected, _labels(bundle, _blurred(scene, width * step)))
        print(f"bands {width} spacings wide {scene.bands:5d}   {'-':>20} {share:11.2%}")
    model = 400 + 2.68 * np.arange(224)
    linear = resample_bands("sensor", np.append(model - 1.2, model[-1] + 1.5), "model", model)
    for name, resampling in (("as it stands", None), ("resampled", linear)):
        print(f"a line {name}: {_milliseconds(resampling):.2f} ms")


def _seen(scene: Scene, centres: NDArray[np.float64]) -> Scene:
    assert scene.wavelengths_nm is not None
    own = scene.wavelengths_nm
    cube = CubicSpline(own, scene.cube.astype(np.float64), axis=2)(np.clip(centres, own[0], own[-1]))
    return replace(scene, cube=cube.round().astype(scene.cube.dtype), wavelengths_nm=centres, labels=None)


def _blurred(scene: Scene, fwhm_nm: float) -> Scene:
    """Average spectra over a Gaussian of some width."""
    assert scene.wavelengths_nm is not None
    own, sigma = scene.wavelengths_nm, fwhm_nm / (2 * np.sqrt(2 * np.log(2)))
    offsets = np.linspace(-4, 4, 33)
    weights = np.exp(-(offsets**2) / 2)
    spectra = CubicSpline(own, scene.cube.astype(np.float64), axis=2)
    shifted = (spectra(np.clip(own + offset * sigma, own[0], own[-1])) for offset in offsets)
    cube = sum(weight * values for weight, values in zip(weights / weights.sum(), shifted, strict=True))
    return replace(scene, cube=np.asarray(cube).round().astype(scene.cube.dtype), labels=None)


def _labels(bundle: Bundle, scene: Scene) -> NDArray[np.uint8]:
    with tempfile.TemporaryDirectory() as folder:
        run_strip(bundle, SceneSource(replace(scene, labels=None)), Path(folder), threads=1, feed=False)
        return np.fromfile(Path(folder) / "classes.img", np.uint8)


def _share(expected: NDArray[np.uint8], found: NDArray[np.uint8]) -> float:
    return float((expected == found).mean())


def _milliseconds(resampling: BandResampling | None) -> float:
    bands = 224 if resampling is None else resampling.bands
    values = np.random.default_rng(0).integers(0, 4000, (1024, bands)).astype(np.uint16)
    radiometry = Radiometry(*values.shape, resampling=resampling)
    line, valid = np.empty((1024, 224), np.float32), np.empty(1024, bool)
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        radiometry.convert(values, line, valid)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


if __name__ == "__main__":
    main()
