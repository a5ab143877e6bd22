"""Some real lines of a strip: what the export checks itself on, and what the golden block is cut from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes import Scene, valid_pixels
from hyperline.train.network import MULTIPLE

# Enough to see every part of the network at work; a full-width strip would only take longer.
_SAMPLES = 128


@dataclass(frozen=True)
class Excerpt:
    """Real lines, ready for the network.

    Attributes:
        lines: (line, sample, band) float32, finite; zeros where a pixel is not valid. The samples are a
            multiple of 8.
        valid: (line, sample) bool; False for padding.
    """

    lines: NDArray[np.float32]
    valid: NDArray[np.bool_]

    def narrower(self) -> Excerpt:
        """Return the left half of the samples, rounded up to a multiple of 8."""
        samples = self.valid.shape[1]
        half = -(-samples // (2 * MULTIPLE)) * MULTIPLE
        return Excerpt(self.lines[:, :half], self.valid[:, :half])


def cut_excerpt(scene: Scene, lines: int) -> Excerpt:
    """Cut consecutive lines out of a scene, from the first that holds a measurement.

    Args:
        scene: any scene; at most its first 128 samples are used.
        lines: how many to give; a shorter scene is played again from its start.

    Raises:
        InputError: no pixel of these samples holds a measurement.
    """
    columns = slice(0, _SAMPLES)
    for first in range(scene.lines):
        if valid_pixels(np.asarray(scene.cube[first, columns]), scene.nodata).any():
            rows = (first + np.arange(lines)) % scene.lines
            raw = np.asarray(scene.cube[rows, columns])
            return _excerpt(raw, valid_pixels(raw, scene.nodata))
    raise InputError(f"{scene.name} has no valid pixel in its first {_SAMPLES} samples; choose another scene")


def read_excerpt(path: Path, lines: int) -> Excerpt:
    """Read the excerpt that a training left in its run folder, an .npz of ``lines`` and ``valid``.

    Args:
        path: the file.
        lines: how many to give; a shorter excerpt is played again from its start.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            raw, valid = arrays["lines"], arrays["valid"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} cannot be read: {error}; give real lines with --lines SCENE") from error
    if raw.ndim != 3 or valid.shape != raw.shape[:2] or valid.dtype != np.bool_ or not valid.any():
        raise InputError(f"{path} does not hold lines with their validity; give real lines with --lines SCENE")
    rows = np.arange(lines) % raw.shape[0]
    return _excerpt(raw[rows, :_SAMPLES], valid[rows, :_SAMPLES])


def _excerpt(raw: NDArray[Any], valid: NDArray[np.bool_]) -> Excerpt:
    """Zero what is not valid and pad the samples to a multiple of 8."""
    right = -valid.shape[1] % MULTIPLE
    lines = np.where(valid[..., None], raw, 0).astype(np.float32)
    return Excerpt(np.pad(lines, ((0, 0), (0, right), (0, 0))), np.pad(valid, ((0, 0), (0, right))))
