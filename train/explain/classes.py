"""Which bands each class is told by: the mean relevance of the bands over pixels of the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperline.errors import InputError
from hyperline.scenes import Scene, valid_pixels
from hyperline.train.explain.relevance import ExplainedStrip
from hyperline.train.explain.windows import read_lines, require_bands, windows
from hyperline.train.network import Network


@dataclass(frozen=True)
class ClassRelevance:
    """Mean relevance of the bands to the logit of a class, over pixels of that class.

    Attributes:
        bands: (class, band) float64, summed over all pixels explained; 0 for a class without pixels.
        scores: (class,) mean logit.
        pixels: (class,) how many pixels were looked at.
    """

    bands: NDArray[np.float64]
    scores: NDArray[np.float64]
    pixels: NDArray[np.int64]

    def as_dict(self, names: tuple[str, ...], wavelengths_nm: NDArray[np.float64] | None, top: int) -> dict[str, Any]:
        """Return the ``top`` bands of each class that has pixels, for JSON."""
        return {
            "classes": [
                {
                    "class": name,
                    "pixels": int(self.pixels[index]),
                    "score": float(self.scores[index]),
                    "top_bands": [
                        {
                            "band": int(band),
                            "wavelength_nm": None if wavelengths_nm is None else float(wavelengths_nm[band]),
                            "relevance": float(self.bands[index, band]),
                        }
                        for band in np.argsort(-self.bands[index], kind="stable")[:top]
                    ],
                }
                for index, name in enumerate(names)
                if self.pixels[index]
            ]
        }


def class_relevance(
    network: Network, scene: Scene, truth: NDArray[np.uint8], pixels: int, block_lines: int, seed: int = 0
) -> ClassRelevance:
    """Explain the true class of pixels drawn from every class.

    Under the rules relevance is linear in the score: all pixels of a class are explained at once, by their sum.

    Args:
        network: trained.
        scene: with the network's bands.
        truth: (line, sample) class ids of the pixels to draw from, 0 elsewhere.
        pixels: drawn from a class, or all where it has fewer.
        block_lines: K.
        seed: of the draw.

    Raises:
        InputError: the truth has no valid pixel, the scene has other bands, or the block is too large.
        HyperlineError: the network has a layer without a rule.
    """
    require_bands(network, scene)
    classes = network.config.classes
    chosen = _draw(np.where(valid_pixels(scene.cube, scene.nodata), truth, 0), pixels, classes, seed)
    counts = np.array([int((chosen == class_id).sum()) for class_id in range(1, classes + 1)])
    if not counts.any():
        raise InputError(f"{scene.name} has no labelled pixel with a measurement to explain; give other labels")
    bands, scores = np.zeros((classes, scene.bands)), np.zeros(classes)
    state: dict[str, Tensor] | None = None
    for window in windows(scene, block_lines, scene.lines):
        strip = ExplainedStrip(network, *read_lines(scene, window), block_lines, state)
        state = strip.state
        for index in np.flatnonzero([(chosen[window] == class_id).any() for class_id in range(1, classes + 1)]):
            weights = torch.zeros_like(strip.logits)
            weights[..., index] = torch.from_numpy(chosen[window] == index + 1)
            made = strip.relevance(weights)
            bands[index] += made.values.sum((0, 1), dtype=torch.float64).numpy()
            scores[index] += made.score
    share = np.maximum(counts, 1)
    return ClassRelevance(bands / share[:, None], scores / share, counts)


def _draw(truth: NDArray[np.uint8], pixels: int, classes: int, seed: int) -> NDArray[np.uint8]:
    """Keep at most ``pixels`` of every class in a map of class ids."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros_like(truth)
    for class_id in range(1, classes + 1):
        places = np.argwhere(truth == class_id)
        chosen[tuple(rng.permutation(places)[:pixels].T)] = class_id
    return chosen
