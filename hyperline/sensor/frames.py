"""From files of dark and white lines, gains and bad elements to one checked correction."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyperline import __version__
from hyperline.errors import InputError
from hyperline.scenes import Scene, read_frames
from hyperline.sensor.correction import MAX_GAIN, Mend, OnSaturation, SensorCorrection, Units

_VALUES_AT_A_TIME = 2**22


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
    bands: tuple[tuple[int, int], ...] = (),
    bin: int = 1,
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
            dark: refuse, or take them as bad.
        mend: see :class:`SensorCorrection`, as for all that follows.
        saturation: counts.
        on_saturation: see there.
        bands: (start, stop) of the raw bands to use.
        bin: bands to one.
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
    files = {"dark": dark, "white": white, "gain": gain, "bad": bad}
    read = {name: read_frames(path) for name, path in files.items() if path is not None}
    if size is None:
        if not read:
            raise InputError("nothing says what the sensor is; give dark, white, gain or bad elements")
        size = next(iter(read.values())).cube.shape[1:]
    notes = [note for scene in read.values() for note in scene.notes]
    tables: dict[str, NDArray[Any]] = {}
    provenance: dict[str, Any] = {
        "hyperline": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    for name, scene in read.items():
        cube = _oriented(scene.cube, size, files[name], notes)
        if name in ("dark", "white") and scene.scale != 1.0:
            raise InputError(
                f"{files[name]} states a scale of {scene.scale:g}: its values are converted already; give raw counts"
            )
        tables[name] = (cube != 0).any(axis=0) if name == "bad" else trimmed_mean(cube)
        provenance[name] = {
            "file": Path(files[name] or "").name,
            "sha256": _digest(scene),
            "lines": cube.shape[0],
        }
    mask = tables.get("bad")
    marked = np.zeros(size, bool) if mask is None else mask
    used = SensorCorrection(*size, ranges=bands, bin=bin).used
    units, factor = _factor(tables, panel)
    found = np.zeros(size, bool)
    if "dark" in tables:
        found |= ~np.isfinite(tables["dark"])
    if factor is not None:
        found |= ~((factor > 0) & (factor < MAX_GAIN))
    found &= ~marked
    count = int(np.count_nonzero(found[:, used]))
    if count:
        if unusable == "refuse":
            raise InputError(_describe(found, used, tables, count))
        notes.append(
            f"{count} of {found[:, used].size} elements in use have no usable dark or gain and are taken as bad"
        )
        mask = marked | found
    if "white" in tables:
        provenance["panel"] = panel
    correction = SensorCorrection(
        *size,
        units=units,
        dark=tables["dark"].astype(np.float32) if "dark" in tables else None,
        gain=None if factor is None else factor.astype(np.float32),
        bad=mask,
        mend=mend,
        saturation=saturation,
        on_saturation=on_saturation,
        ranges=bands,
        bin=bin,
        wavelengths_nm=next(
            (
                s.wavelengths_nm
                for s in read.values()
                if s.wavelengths_nm is not None and len(s.wavelengths_nm) == size[1]
            ),
            None,
        ),
        provenance=provenance,
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
    step = max(1, _VALUES_AT_A_TIME // (count * bands))
    for start in range(0, samples, step):
        part = lines[:, start : start + step].astype(np.float64)
        if trim:
            inner = np.partition(part, (trim, count - 1 - trim), axis=0)[trim : count - trim]
            # NaN sorts last and would be trimmed away.
            mean[start : start + step] = np.where(np.isnan(part).any(axis=0), np.nan, inner.mean(axis=0))
        else:
            mean[start : start + step] = part.mean(axis=0)
    return mean


def _factor(tables: dict[str, NDArray[Any]], panel: float) -> tuple[Units, NDArray[np.float64] | None]:
    if "gain" in tables:
        return "radiance", tables["gain"]
    if "white" in tables:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return "reflectance", panel / (tables["white"] - tables.get("dark", 0.0))
    return "counts", None


def _oriented(cube: NDArray[Any], size: tuple[int, int], path: str | Path | None, notes: list[str]) -> NDArray[Any]:
    """Return lines of (sample, band); a table alone may come the other way round."""
    if cube.shape[1:] == size:
        return cube
    if cube.shape[0] == 1 and cube.shape[2:0:-1] == size:
        notes.append(f"{path} is {cube.shape[1]} × {cube.shape[2]}; taken as (band, sample)")
        return cube.transpose(0, 2, 1)
    raise InputError(
        f"{path} is for {cube.shape[1]} samples × {cube.shape[2]} bands, the sensor has {size[0]} × {size[1]}; "
        "give one made with the same binning and region of the detector"
    )


def _describe(found: NDArray[np.bool_], used: NDArray[np.intp], tables: dict[str, NDArray[Any]], count: int) -> str:
    sample, place = np.argwhere(found[:, used])[0]
    band = used[place]
    where = f"{count} of {len(found) * len(used)} elements in use (first: sample {sample}, band {band}, counted from 0"
    if "dark" in tables and not np.isfinite(tables["dark"][sample, band]):
        fault = f"the dark is NaN or infinite in {where})"
    elif "white" in tables:
        white, dark = tables["white"][sample, band], tables["dark"][sample, band] if "dark" in tables else 0.0
        fault = f"white is not above dark in {where}: white {white:g}, dark {dark:g})"
    else:
        fault = f"the gain is not above 0 in {where}: {tables['gain'][sample, band]:g})"
    return f"{fault}; leave their bands out with --bands, mark them with --bad, or take them as bad: --unusable bad"


def _digest(scene: Scene) -> str:
    digest = hashlib.sha256()
    for line in scene.cube:
        digest.update(np.ascontiguousarray(line, dtype=line.dtype.newbyteorder("<")).data)
    return digest.hexdigest()
