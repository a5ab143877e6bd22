"""The lines of a strip that a calibration looks at: read, checked against the model, ready for the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle.card import Card
from hyperline.classes import class_fault
from hyperline.errors import InputError
from hyperline.match import match_bands, require_match, require_units
from hyperline.radiometry import Radiometry, fit_scene
from hyperline.scenes import Scene
from hyperline.splits import held_out

# Ranges come from the first half of the lines, and 4 blocks of 8 lines are the least that shows a state at work.
MIN_LINES = 64
# A pixel whose bands sit at the largest value of their type, or of the strip, is not a measurement of radiance.
_SATURATED_BANDS = 0.1


@dataclass(frozen=True)
class Lines:
    """A strip, ready for the graph.

    Attributes:
        values: (line, padded sample, band) float32 in the units of the training scene; zeros where not valid.
        valid: (line, padded sample) bool.
        samples: without the padding.
        truth: (line, sample) uint8 class ids, 0 where there is none to judge by.
        name: of the scene.
        warnings: what a user should know of them, one sentence each.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    samples: int
    truth: NDArray[np.uint8]
    name: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _SceneSpectra:
    """What `require_match` asks of a scene."""

    name: str
    bands: int
    wavelengths_nm: NDArray[np.float64] | None
    truth_classes: int


def read_lines(scene: Scene, card: Card) -> Lines:
    """Prepare the lines of a scene for the model of a bundle.

    Args:
        scene: a strip of the sensor that the model was trained for, the longer the better.
        card: of the bundle.

    Raises:
        InputError: other bands, wavelengths, units or classes than the model's, fewer than 64 lines, or next to
            nothing in them but dark, saturated or invalid pixels; the message holds the number that matters.
    """
    require_units(scene, scene.units, card.provenance)
    scene = fit_scene(scene, match_bands(scene, card.name, card.bands, card.wavelengths_nm, card.selection))
    if fault := class_fault(scene, card.class_names):
        raise InputError(f"{fault}; give labels in the model's numbering, or none")
    truth, _ = held_out(scene, card.provenance)
    highest = int(truth.max()) if truth is not None else 0
    require_match(_SceneSpectra(scene.name, scene.bands, scene.wavelengths_nm, highest), card)
    if scene.lines < MIN_LINES:
        raise InputError(
            f"{scene.name} has {scene.lines} lines; calibration needs at least {MIN_LINES}: half of them set the "
            "ranges, the other half judges the result"
        )
    padding = -scene.samples % card.sample_multiple
    values = np.zeros((scene.lines, scene.samples + padding, scene.bands), np.float32)
    valid = np.zeros(values.shape[:2], bool)
    radiometry = Radiometry(scene.samples, scene.bands, scale=scene.scale, model_scale=card.scale, nodata=scene.nodata)
    inside = slice(0, scene.samples)
    for line in range(scene.lines):
        radiometry.convert(scene.cube[line], values[line, inside], valid[line, inside])
    return Lines(
        values,
        valid,
        scene.samples,
        np.zeros((scene.lines, scene.samples), np.uint8) if truth is None else truth,
        scene.name,
        tuple(_judge(scene, valid[:, inside])),
    )


def _judge(scene: Scene, valid: NDArray[np.bool_]) -> list[str]:
    """Refuse lines whose pixels say nothing, and name what is amiss with fewer of them."""
    integers = scene.cube.dtype.kind in "iu"
    full = np.iinfo(scene.cube.dtype).max if integers else np.inf
    dark = saturated = 0
    for line, usable in zip(scene.cube, valid, strict=True):
        pixels = np.asarray(line)[usable]
        dark += int((pixels == pixels[:, :1]).all(axis=1).sum())
        saturated += int(((pixels >= full).mean(axis=1) > _SATURATED_BANDS).sum())
    pixels_in_all, usable_pixels = valid.size, int(valid.sum())
    warnings = []
    for what, count, of in (
        ("invalid (NaN, infinite or no data)", pixels_in_all - usable_pixels, pixels_in_all),
        ("dark: all bands of one value", dark, usable_pixels),
        (f"saturated: over {_SATURATED_BANDS:.0%} of the bands at {full:g}", saturated, usable_pixels),
    ):
        share = count / max(of, 1)
        if share > 0.5 or usable_pixels == 0:
            raise InputError(
                f"{scene.name}: {share:.0%} of the pixels are {what}; ranges taken from them would fit no flight. "
                "Give lines as the sensor sees the ground"
            )
        if share > 0.01:
            warnings.append(f"{share:.1%} of the pixels are {what}")
    return warnings
