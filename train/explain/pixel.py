"""Why one pixel has its label: relevance of its bands, of its neighbours, of the lines before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes import Scene
from hyperline.train.explain.relevance import ExplainedStrip
from hyperline.train.explain.windows import read_lines, require_bands, state_before, window_lines
from hyperline.train.network import Network


@dataclass(frozen=True)
class PixelExplanation:
    """What the logit of a class in a pixel is made of.

    ``pixels.sum() + biases + carried`` is ``score``, and ``bands.sum()`` is ``pixels.sum()``, up to rounding.

    Attributes:
        line: of the pixel, counted from 0.
        sample: of the pixel, counted from 0.
        class_id: the class explained, 1 the first.
        label: the class that the network gives the pixel.
        probability: softmax of the class explained.
        score: its logit.
        block_lines: K.
        block: the lines of the pixel's block, those of the scene alone.
        first_line: the first line explained; what came before is in ``carried``.
        own: (band,) relevance of the pixel's own values.
        bands: (band,) summed over all pixels.
        pixels: (line, sample) summed over the bands, from ``first_line`` to the block's last.
        biases: relevance of the network's biases.
        carried: relevance of the state before ``first_line``.
    """

    line: int
    sample: int
    class_id: int
    label: int
    probability: float
    score: float
    block_lines: int
    block: slice
    first_line: int
    own: NDArray[np.float32]
    bands: NDArray[np.float32]
    pixels: NDArray[np.float32]
    biases: float
    carried: float

    def shares(self) -> dict[str, float]:
        """Return how much relevance, of either sign, lies where; the shares add up to 1.

        Returns:
            ``pixel`` itself, the rest of its ``line``, the rest of its ``block``, ``earlier`` lines that were
            explained, and the state ``carried`` from before those.
        """
        sizes = np.abs(self.pixels.astype(np.float64))
        own = self.line - self.first_line
        begins = self.block.start - self.first_line
        pixel, line = sizes[own, self.sample], sizes[own].sum()
        parts = {
            "pixel": pixel,
            "line": line - pixel,
            "block": sizes[begins:].sum() - line,
            "earlier": sizes[:begins].sum(),
            "carried": abs(self.carried),
        }
        total = sum(parts.values())
        return {name: float(part / total) if total else 0.0 for name, part in parts.items()}

    def as_dict(self, names: tuple[str, ...], wavelengths_nm: NDArray[np.float64] | None, top: int) -> dict[str, Any]:
        """Return what fits a page, for JSON: the ``top`` bands that spoke most for the class, and no arrays."""
        best = np.argsort(-self.bands, kind="stable")[:top]
        return {
            "line": self.line,
            "sample": self.sample,
            "class": names[self.class_id - 1],
            "label": names[self.label - 1],
            "probability": self.probability,
            "score": self.score,
            "relevance": float(self.pixels.sum(dtype=np.float64)),
            "bands_for": float(self.bands[self.bands > 0].sum(dtype=np.float64)),
            "bands_against": float(self.bands[self.bands < 0].sum(dtype=np.float64)),
            "biases": self.biases,
            "carried": self.carried,
            "shares": self.shares(),
            "top_bands": [
                {
                    "band": int(band),
                    "wavelength_nm": None if wavelengths_nm is None else float(wavelengths_nm[band]),
                    "relevance": float(self.bands[band]),
                    "own": float(self.own[band]),
                }
                for band in best
            ],
            "block_lines": self.block_lines,
            "block": [self.block.start, self.block.stop - 1],
            "first_line": self.first_line,
        }


def explain_pixel(
    network: Network, scene: Scene, line: int, sample: int, class_id: int | None, block_lines: int
) -> PixelExplanation:
    """Explain a class of a pixel.

    Args:
        network: trained.
        scene: with the network's bands.
        line: of the pixel, counted from 0.
        sample: of the pixel, counted from 0.
        class_id: 1 the first; None takes the label that the network gives the pixel.
        block_lines: K.

    Raises:
        InputError: the pixel lies outside the scene or carries no measurement, the scene has other bands, or the block
            is too large.
        HyperlineError: the network has a layer without a rule.
    """
    require_bands(network, scene)
    for what, place, size in (("line", line, scene.lines), ("sample", sample, scene.samples)):
        if not 0 <= place < size:
            raise InputError(f"{what} {place} lies outside {scene.name}: its {what}s are 0 to {size - 1}")
    begins = line // block_lines * block_lines
    ends = min(begins + block_lines, scene.lines)
    first = max(0, begins + block_lines - window_lines(scene, block_lines))
    lines, valid = read_lines(scene, slice(first, ends))
    if not valid[line - first, sample]:
        raise InputError(
            f"line {line}, sample {sample} of {scene.name} carries no measurement, so it has no label; "
            "choose another pixel"
        )
    strip = ExplainedStrip(network, lines, valid, block_lines, state_before(network, scene, first, block_lines))
    logits = strip.logits[line - first, sample]
    label = int(logits.argmax()) + 1
    class_id = class_id or label
    weights = torch.zeros_like(strip.logits)
    weights[line - first, sample, class_id - 1] = 1
    made = strip.relevance(weights)
    return PixelExplanation(
        line=line,
        sample=sample,
        class_id=class_id,
        label=label,
        probability=float(logits.softmax(-1)[class_id - 1]),
        score=made.score,
        block_lines=block_lines,
        block=slice(begins, ends),
        first_line=first,
        own=made.values[line - first, sample].numpy(),
        bands=made.values.sum((0, 1)).numpy(),
        pixels=made.values.sum(-1).numpy(),
        biases=made.biases,
        carried=made.carried,
    )
