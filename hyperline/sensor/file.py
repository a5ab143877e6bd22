"""A correction as one file, an .npz: docs/radiometry.md names its arrays."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.disk import replace_file
from hyperline.errors import InputError
from hyperline.scenes.files import reading
from hyperline.sensor.correction import DARK_DRIFT, SensorCorrection

FORMAT = 2
_SETTINGS = ("units", "mend", "on_saturation", "saturation", "dark_drift", "bin", "bin_samples", "samples", "bands")
# Of settings that came with a later format, what a file without them means.
_BEFORE = {"bin_samples": 1, "dark_drift": DARK_DRIFT}
_TABLES = {
    "dark": np.float32,
    "dark_noise": np.float32,
    "gain": np.float32,
    "bad": np.bool_,
    "wavelengths_nm": np.float64,
}


def write_correction(path: Path, correction: SensorCorrection) -> None:
    """Write a correction; the old file or the new one is there at any time.

    Raises:
        InputError: the path is no .npz, or its folder does not exist.
        HyperlineError: the disk is full or gone.
    """
    if path.suffix.lower() != ".npz":
        raise InputError(f"{path}: a radiometry file is an .npz; name it so")
    settings = {name: getattr(correction, name) for name in _SETTINGS} | {
        "format": FORMAT,
        "ranges": [list(map(int, pair)) for pair in correction.ranges],
        "provenance": dict(correction.provenance),
    }
    arrays: dict[str, NDArray[Any]] = {
        name: getattr(correction, name) for name in _TABLES if getattr(correction, name) is not None
    }
    file = io.BytesIO()
    np.savez_compressed(file, settings=np.array(json.dumps(settings)), **arrays)  # type: ignore[arg-type]
    replace_file(path, file.getvalue())


def read_correction(path: Path) -> SensorCorrection:
    """Read and check a correction.

    Raises:
        InputError: no such file, no radiometry file of this version, or its content contradicts itself.
    """
    with reading(path, "a radiometry file (.npz)"), np.load(path, allow_pickle=False) as archive:
        if "settings" not in archive:
            raise InputError(f"{path} is no radiometry file; make one with: hyperline radiometry make")
        settings = json.loads(str(archive["settings"]))
        if settings.get("format") not in range(1, FORMAT + 1):
            raise InputError(
                f"{path} has format {settings.get('format')}, this version reads 1 to {FORMAT}; make it again with: "
                "hyperline radiometry make"
            )
        tables = {name: archive[name] for name in _TABLES if name in archive}
        for name, table in tables.items():
            if table.dtype != _TABLES[name]:
                raise InputError(f"{path}: {name} holds {table.dtype}; it must hold {np.dtype(_TABLES[name])}")
        known = _BEFORE | settings
        try:
            return SensorCorrection(
                **{name: known[name] for name in _SETTINGS},
                ranges=tuple((int(start), int(stop)) for start, stop in settings["ranges"]),
                provenance=settings["provenance"],
                **tables,
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
