"""What a scene is, whatever file it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scene:
    """A hyperspectral cube with what is known about it.

    Attributes:
        name: short name for reports, such as ``"indian-pines"`` or the file's stem.
        cube: (line, sample, band), the file's own dtype; may be memory-mapped and read-only.
        labels: (line, sample) uint8 class ids, 0 = unlabelled, or None where no truth is known.
        class_names: name of class 1, 2, …; empty where unknown.
        wavelengths_nm: (band,) band centres in nanometres, or None.
        nodata: a pixel whose bands all hold this value carries no measurement; None where not declared.
        scale: multiply stored values by this to get the scene's physical units (ENVI's
            ``reflectance scale factor`` 10000 gives 1e-4).
        units: of the values times ``scale`` (``reflectance``, ``radiance``, ``counts``), or None where unknown.
        notes: what a reader had to assume, one sentence each, for the user to see.
    """

    name: str
    cube: NDArray[Any]
    labels: NDArray[np.uint8] | None = None
    class_names: tuple[str, ...] = ()
    wavelengths_nm: NDArray[np.float64] | None = None
    nodata: float | None = None
    scale: float = 1.0
    units: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def lines(self) -> int:
        """Number of along-track lines."""
        return int(self.cube.shape[0])

    @property
    def samples(self) -> int:
        """Number of cross-track samples."""
        return int(self.cube.shape[1])

    @property
    def bands(self) -> int:
        """Number of spectral bands."""
        return int(self.cube.shape[2])


# What trains: scenes, each with (line, sample) class ids, 0 where a pixel does not train.
Strips = Sequence[tuple[Scene, NDArray[np.uint8]]]


def valid_pixels(lines: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Say which pixels carry a measurement.

    Args:
        lines: (line, sample, band) or (sample, band), any real dtype.
        nodata: the declared no-data value, or None.

    Returns:
        Boolean array without the band axis: False where any band is NaN or infinite, or where every band
        equals ``nodata``.
    """
    if lines.dtype.kind == "f":
        # A sum of finite float32 counts can only overflow on data that is no radiance; check element-wise.
        valid: NDArray[np.bool_] = np.isfinite(lines).all(axis=-1)
    else:
        valid = np.ones(lines.shape[:-1], dtype=bool)
    if nodata is not None:
        valid &= (lines != nodata).any(axis=-1)
    return valid


def scene_hash(scene: Scene) -> str:
    """Return the SHA-256 of a scene's shape, dtype and values; read line by line."""
    digest = hashlib.sha256(f"{scene.cube.shape} {scene.cube.dtype.newbyteorder('<').str}".encode())
    for line in scene.cube:
        digest.update(np.ascontiguousarray(line, dtype=line.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def measured_labels(scene: Scene, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Leave out the labels of pixels without a measurement.

    Args:
        scene: only its labelled pixels are read.
        labels: (line, sample) class ids, 0 elsewhere.

    Returns:
        A map like ``labels``.
    """
    known = labels > 0
    measured = labels.copy()
    measured[known] = np.where(valid_pixels(scene.cube[known], scene.nodata), labels[known], 0)
    return measured
