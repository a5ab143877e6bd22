"""From files of dark and white lines, gains and bad elements to one checked correction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyperline import __version__
from hyperline.errors import InputError
from hyperline.scenes import Scene, read_frames
from hyperline.sensor.correction import (
    DARK_DRIFT,
    DARK_LINES,
    MAX_DARK,
    MAX_GAIN,
    Mend,
    OnSaturation,
    SensorCorrection,
    Units,
)

_VALUES_AT_A_TIME = 2**22
# Of a value rounded to whole counts; lines that all agree have this noise too.
_ROUNDING_NOISE = 12**-0.5


@dataclass(frozen=True)
class _File:
    path: str | Path
    scene: Scene


def make_correction(
    *,
    dark: str | Path | None = None,
    white: str | Path | None = None,
    gain: str | Path | None = None,
    bad: str | Path | None = None,
    panel: float = 1.0,
    unusable: Literal["refuse", "bad"] = "refuse",
    mend: Mend = "spectrum",
    saturation: float | None = None,
    on_saturation: OnSaturation = "invalid",
    dark_drift: float = DARK_DRIFT,
    bands: tuple[tuple[int, int], ...] = (),
    bin: int = 1,
    bin_samples: int = 1,
    size: tuple[int, int] | None = None,
) -> tuple[SensorCorrection, tuple[str, ...]]:
    """Read the files of a sensor and combine them.

    Several lines of a file are averaged by :func:`trimmed_mean`. With ``white`` the corrected lines are reflectance,
    gain = panel / (white - dark); with ``gain`` radiance, in whatever unit the table gives a count; else counts.

    Args:
        dark: lines seen with the shutter closed, in counts.
        white: lines of a white panel, in counts, exposed as the flight will be. Without ``dark`` they are taken as
            free of it, as the flight's lines must be then.
        gain: units per count of each element; not together with ``white``.
        bad: table that is not 0 where an element does not measure.
        panel: reflectance of the white panel.
        unusable: what to do with elements that have no usable dark or gain, above all where white does not exceed
            dark, or either is saturated: refuse, or take them as bad.
        mend: see :class:`SensorCorrection`, as for all that follows.
        saturation: counts.
        on_saturation: see there.
        dark_drift: see there; the noise that it is a multiple of is that of ``dark``, where it has 16 lines or more.
        bands: (start, stop) of the raw bands to use.
        bin: bands to one.
        bin_samples: samples to one.
        size: (samples, bands) of the sensor's raw lines, where known; without it the first file says.

    Returns:
        The correction, and notes on what had to be assumed.

    Raises:
        InputError: a file cannot be read, the files do not fit each other, or their values cannot correct a line.
    """
    if white is not None and gain is not None:
        raise InputError("white lines and a gain both say what a count is worth; give one of them")
    if not (np.isfinite(panel) and panel > 0):
        raise InputError(f"the panel's reflectance is {panel:g}; it must be positive, about 1 for a white panel")
    paths = {"dark": dark, "white": white, "gain": gain, "bad": bad}
    files = {name: _File(path, read_frames(path)) for name, path in paths.items() if path is not None}
    if size is None:
        if not files:
            raise InputError("nothing says what the sensor is; give dark, white, gain or bad elements")
        size = next(iter(files.values())).scene.cube.shape[1:]
    notes = [note for file in files.values() for note in file.scene.notes]
    lines = {name: _oriented(file, size, notes) for name, file in files.items()}
    for name in ("dark", "white"):
        if name in files and files[name].scene.scale != 1.0:
            raise InputError(
                f"{files[name].path} states a scale of {files[name].scene.scale:g}: its values are converted already; "
                "give raw counts"
            )
    tables = {name: trimmed_mean(cube) for name, cube in lines.items() if name != "bad"}
    units, factor = _factor(tables, panel)
    marked = (lines["bad"] != 0).any(axis=0) if "bad" in lines else np.zeros(size, bool)
    used = SensorCorrection(*size, ranges=bands, bin=bin).used
    faults = _faults(tables, factor, _clipped(lines, saturation), marked)
    found = np.zeros(size, bool)
    for mask in faults.values():
        found |= mask
    count = int(np.count_nonzero(found[:, used]))
    if count and unusable == "refuse":
        raise InputError(_describe(faults, tables, used))
    if count:
        notes.append(
            f"{count} of {found[:, used].size} elements in use have no usable dark or gain and are taken as bad"
        )
    centres = (file.scene.wavelengths_nm for file in files.values())
    correction = SensorCorrection(
        *size,
        units=units,
        dark=tables["dark"].astype(np.float32) if "dark" in tables else None,
        dark_noise=line_noise(lines["dark"]) if "dark" in lines and len(lines["dark"]) >= DARK_LINES else None,
        dark_drift=dark_drift,
        gain=None if factor is None else factor.astype(np.float32),
        bad=marked | found if "bad" in lines or count else None,
        mend=mend,
        saturation=saturation,
        on_saturation=on_saturation,
        ranges=bands,
        bin=bin,
        bin_samples=bin_samples,
        wavelengths_nm=next((nm for nm in centres if nm is not None and len(nm) == size[1]), None),
        provenance=_provenance(files) | ({"panel": panel} if "white" in files else {}),
    )
    return correction, tuple(dict.fromkeys(notes))


def trimmed_mean(lines: NDArray[Any]) -> NDArray[np.float64]:
    """Average (line, sample, band) over the lines, without the lowest and the highest tenth of each element.

    At least one of each is left out where there are three lines or more, so that a particle's hit or a dropped line
    leaves no trace; a median of counts would have steps of half a count.

    Returns:
        (sample, band) float64; NaN where an element is ever NaN.
    """
    count, samples, bands = lines.shape
    trim = max(1, count // 10) if count >= 3 else 0
    mean = np.empty((samples, bands))
    for columns, part in _parts(lines):
        if trim:
            inner = np.partition(part, (trim, count - 1 - trim), axis=0)[trim : count - trim]
            # NaN sorts last and would be trimmed away.
            mean[columns] = np.where(np.isnan(part).any(axis=0), np.nan, inner.mean(axis=0))
        else:
            mean[columns] = part.mean(axis=0)
    return mean


def line_noise(lines: NDArray[Any]) -> NDArray[np.float32]:
    """Return the standard deviation of (line, sample, band) over the lines, at least that of rounding to whole counts.

    Returns:
        (sample, band) float32; NaN where an element is ever NaN.
    """
    noise = np.empty(lines.shape[1:], np.float32)
    for columns, part in _parts(lines):
        noise[columns] = np.maximum(part.std(axis=0, ddof=1), _ROUNDING_NOISE)
    return noise


def _parts(lines: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Give samples in portions that fit memory, as float64."""
    count, samples, bands = lines.shape
    step = max(1, _VALUES_AT_A_TIME // (count * bands))
    for start in range(0, samples, step):
        columns = slice(start, start + step)
        yield columns, lines[:, columns].astype(np.float64)


def _factor(tables: dict[str, NDArray[Any]], panel: float) -> tuple[Units, NDArray[np.float64] | None]:
    if "gain" in tables:
        return "radiance", tables["gain"]
    if "white" in tables:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return "reflectance", panel / (tables["white"] - tables.get("dark", 0.0))
    return "counts", None


def _oriented(file: _File, size: tuple[int, int], notes: list[str]) -> NDArray[Any]:
    """Return lines of (sample, band); a table alone may come the other way round."""
    cube = file.scene.cube
    if cube.shape[1:] == size:
        return cube
    if cube.shape[0] == 1 and cube.shape[2:0:-1] == size:
        notes.append(f"{file.path} is {cube.shape[1]} × {cube.shape[2]}; taken as (band, sample)")
        return cube.transpose(0, 2, 1)
    raise InputError(
        f"{file.path} is for {cube.shape[1]} samples × {cube.shape[2]} bands, the sensor has {size[0]} × {size[1]}; "
        "give one made with the same binning and region of the detector"
    )


def _clipped(lines: dict[str, NDArray[Any]], saturation: float | None) -> dict[str, NDArray[np.bool_]]:
    """Find the elements that are saturated in over a tenth of the dark or the white lines."""
    if saturation is None:
        return {}
    return {name: (lines[name] >= saturation).mean(axis=0) > 0.1 for name in ("dark", "white") if name in lines}


def _faults(
    tables: dict[str, NDArray[np.float64]],
    factor: NDArray[np.float64] | None,
    clipped: dict[str, NDArray[np.bool_]],
    marked: NDArray[np.bool_],
) -> dict[str, NDArray[np.bool_]]:
    """Say of each element that cannot correct a line why, once; those that are marked bad need not."""
    masks = {}
    if "dark" in tables:
        masks["the dark is NaN or no number of counts"] = ~(np.abs(tables["dark"]) < MAX_DARK)
    for name, mask in clipped.items():
        masks[f"the {name} is saturated"] = mask
    if factor is not None:
        fault = "white is not above dark" if "white" in tables else "the gain is not above 0"
        masks[fault] = ~((factor > 0) & (factor < MAX_GAIN))
    known = marked
    for fault, mask in masks.items():
        masks[fault] = mask & ~known
        known = known | mask
    return masks


def _describe(
    faults: dict[str, NDArray[np.bool_]], tables: dict[str, NDArray[np.float64]], used: NDArray[np.intp]
) -> str:
    parts = []
    for fault, mask in faults.items():
        places = np.argwhere(mask[:, used])
        if len(places):
            sample, band = int(places[0][0]), int(used[places[0][1]])
            values = ", ".join(f"{name} {table[sample, band]:g}" for name, table in tables.items())
            parts.append(
                f"{fault} in {len(places)} of {len(mask) * len(used)} elements in use (first: sample {sample}, band "
                f"{band}, counted from 0: {values})"
            )
    return (
        f"{'; '.join(parts)}; leave their bands out with --bands, mark them with --bad, or take them as bad: "
        "--unusable bad"
    )


def _provenance(files: dict[str, _File]) -> dict[str, Any]:
    provenance: dict[str, Any] = {
        "hyperline": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    for name, file in files.items():
        digest = hashlib.sha256()
        for line in file.scene.cube:
            digest.update(np.ascontiguousarray(line, dtype=line.dtype.newbyteorder("<")).data)
        lines = file.scene.cube.shape[0]
        provenance[name] = {"file": Path(file.path).name, "sha256": digest.hexdigest(), "lines": lines}
    return provenance
