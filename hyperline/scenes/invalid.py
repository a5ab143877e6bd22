"""Which pixels of a scene carry no usable measurement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperline.scenes.scene import Scene

_BLOCK_VALUES = 2**22  # values looked at in one go: 32 MiB of float64


@dataclass(frozen=True)
class InvalidPixels:
    """How many pixels of a scene cannot be used, and why.

    Attributes:
        not_finite: pixels that hold NaN or an infinity in any band, without the no-data pixels.
        first: (line, sample, band), counted from 0, of the first such value, or None.
        nodata: pixels whose bands all hold the declared no-data value.
    """

    not_finite: int
    first: tuple[int, int, int] | None
    nodata: int

    def __str__(self) -> str:
        """Say it in a sentence's worth of words."""
        parts = []
        if self.first is not None:
            line, sample, band = self.first
            parts.append(
                f"{self.not_finite} pixels hold NaN or infinite values "
                f"(first at line {line}, sample {sample}, band {band}, counted from 0)"
            )
        if self.nodata:
            parts.append(f"{self.nodata} pixels hold the no-data value")
        return "; ".join(parts)


def describe_invalid(scene: Scene) -> InvalidPixels | None:
    """Count the pixels that carry no usable measurement, or return None if every pixel does.

    Looks at a few lines at a time, so that a memory-mapped scene larger than memory stays there. The
    counts add up to the pixels that :func:`hyperline.scenes.valid_pixels` calls invalid.
    """
    if scene.cube.dtype.kind != "f" and scene.nodata is None:
        return None
    not_finite = nodata = 0
    first: tuple[int, int, int] | None = None
    step = max(1, _BLOCK_VALUES // (scene.samples * scene.bands))
    for start in range(0, scene.lines, step):
        block = np.asarray(scene.cube[start : start + step])
        empty = np.zeros(block.shape[:2], dtype=bool)
        if scene.nodata is not None:
            same = np.isnan(block) if np.isnan(scene.nodata) else block == scene.nodata
            empty = same.all(axis=-1)
        wrong = ~np.isfinite(block) & ~empty[..., None]
        if first is None and wrong.any():
            line, sample, band = (int(index) for index in np.argwhere(wrong)[0])
            first = (start + line, sample, band)
        not_finite += int(wrong.any(axis=-1).sum())
        nodata += int(empty.sum())
    if not_finite == nodata == 0:
        return None
    return InvalidPixels(not_finite=not_finite, first=first, nodata=nodata)
