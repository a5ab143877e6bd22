"""A correction as one file, an .npz: docs/radiometry.md names its arrays."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hyperline.disk import replace_file
from hyperline.errors import InputError
from hyperline.scenes.arrays import load
from hyperline.scenes.files import reading
from hyperline.sensor.correction import DARK_DRIFT, Mend, OnSaturation, SensorCorrection, Units

FORMAT = 2
# Of a line, as on the wire (docs/framing.md): a file must not make a reader allocate what no sensor has.
MAX_SAMPLES, MAX_BANDS, MAX_ELEMENTS = 65536, 4096, 1 << 24
_SETTINGS = ("units", "mend", "on_saturation", "saturation", "dark_drift", "bin", "bin_samples", "samples", "bands")
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
    with reading(path, "a radiometry file (.npz)"):
        tables = load(path, ("settings", *_TABLES))
        if isinstance(tables, np.ndarray) or "settings" not in tables:
            raise InputError(f"{path} is no radiometry file; make one with: hyperline radiometry make")
        settings = json.loads(str(tables.pop("settings")))
        version = settings.get("format") if isinstance(settings, dict) else None
        if version not in range(1, FORMAT + 1):
            raise InputError(
                f"{path} has format {ascii(version)[:60]}, this version reads 1 to {FORMAT}; make it again with: "
                "hyperline radiometry make"
            )
        held = _Settings.read(settings, path)
        if held.samples * held.bands > MAX_ELEMENTS:
            raise InputError(f"{path} is for {held.samples} × {held.bands} elements; a detector has at most 2^24")
        for name, table in tables.items():
            if table.dtype != _TABLES[name]:
                raise InputError(f"{path}: {name} holds {table.dtype}; it must hold {np.dtype(_TABLES[name])}")
        try:
            return SensorCorrection(
                held.samples,
                held.bands,
                units=held.units,
                dark=tables.get("dark"),
                dark_noise=tables.get("dark_noise"),
                dark_drift=held.dark_drift,
                gain=tables.get("gain"),
                bad=tables.get("bad"),
                mend=held.mend,
                saturation=held.saturation,
                on_saturation=held.on_saturation,
                ranges=tuple((start, stop) for start, stop in held.ranges),
                bin=held.bin,
                bin_samples=held.bin_samples,
                wavelengths_nm=tables.get("wavelengths_nm"),
                provenance=held.provenance,
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


class _Settings(BaseModel):
    """What a file says beside its tables; what the values mean is the correction's to check.

    What came with a later format has a default, which is what a file without it means.
    """

    model_config = ConfigDict(strict=True)

    units: Units
    mend: Mend
    on_saturation: OnSaturation
    saturation: float | None
    dark_drift: float = DARK_DRIFT
    bin: int = Field(ge=1, le=MAX_BANDS)
    bin_samples: int = Field(default=1, ge=1, le=MAX_SAMPLES)
    samples: int = Field(ge=1, le=MAX_SAMPLES)
    bands: int = Field(ge=1, le=MAX_BANDS)
    ranges: list[Annotated[list[int], Field(min_length=2, max_length=2)]]
    provenance: dict[str, Any]

    @classmethod
    def read(cls, values: Any, path: Path) -> _Settings:
        """Check the settings of a file.

        Raises:
            InputError: names the setting.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = ascii(".".join(map(str, first["loc"])))[1:-1][:100]
            raise InputError(f"{path}: its setting {name}: {first['msg'][:200]}; make it again") from error
