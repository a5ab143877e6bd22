"""What the classes of a strip looked like: mean spectrum and scatter, of lines as the model saw them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle.card import Card
from hyperline.runtime.blocks import Block

SPECTRA = "spectra.json"
# Values looked at for each block on average: at a full frame of 1024 samples × 224 bands one line of every 28 blocks.
_VALUES_A_BLOCK = 1 << 13


class ClassSpectra:
    """Sums over the pixels of each class, of one line of every few blocks.

    Attributes:
        every: so many blocks give one line.
    """

    def __init__(self, card: Card, golden: Mapping[str, NDArray[Any]], padded_samples: int) -> None:
        """Allocate the sums.

        Args:
            card: of the model.
            golden: the bundle's golden block. Its mean spectrum is taken off before squares are summed, which would
                leave few digits of the scatter otherwise.
            padded_samples: samples of a block.
        """
        self._card = card
        shape = (len(card.class_names), card.bands)
        self._sums, self._squares = np.zeros(shape), np.zeros(shape)
        self._pixels = np.zeros(len(card.class_names), np.int64)
        self._origin = golden["lines"][golden["valid"]].mean(axis=0, dtype=np.float64).astype(np.float32)
        self.every = -(-padded_samples * card.bands // _VALUES_A_BLOCK)
        self._blocks = 0

    def see(self, block: Block, labels: NDArray[np.uint8]) -> None:
        """Take the next line of every few blocks.

        Args:
            block: as the engine took it.
            labels: (block_lines, samples) that it gave, 0 where not valid.
        """
        turn, rest = divmod(self._blocks, self.every)
        self._blocks += 1
        if rest:
            return
        row = turn % block.count
        line, classes = block.lines[row], labels[row]
        for number in np.unique(classes[classes > 0]):
            pixels = line[classes == number] - self._origin  # (pixel, band)
            self._pixels[number - 1] += len(pixels)
            self._sums[number - 1] += pixels.sum(axis=0)
            self._squares[number - 1] += np.einsum("pb,pb->b", pixels, pixels)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``spectra.json`` holds: every class that was seen, in the units of the model's lines."""
        card = self._card
        classes = []
        for index in np.flatnonzero(self._pixels):
            off = self._sums[index] / self._pixels[index]
            variance = self._squares[index] / self._pixels[index] - off**2
            classes.append(
                {
                    "id": int(index) + 1,
                    "name": card.class_names[index],
                    "pixels": int(self._pixels[index]),
                    "mean": (self._origin + off).tolist(),
                    "std": np.sqrt(np.maximum(variance, 0)).tolist(),
                }
            )
        return {
            "wavelengths_nm": None if card.wavelengths_nm is None else list(card.wavelengths_nm),
            "units": card.provenance.get("scene", {}).get("units"),
            "classes": classes,
        }
