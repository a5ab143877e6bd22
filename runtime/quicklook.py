"""Three bands of what is flown over, as a picture that grows with the maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle.card import Card
from hyperline.runtime.blocks import Block

_PERCENTILES = (2, 98)


class Quicklook:
    """Red, green and blue bytes of a block's pixels.

    The stretch is that of the bundle's golden block, and so is known before the first line: a strip that is resumed
    gets the same bytes. All memory is allocated before.
    """

    def __init__(self, card: Card, golden: Mapping[str, NDArray[Any]], padded_samples: int) -> None:
        """Fix the stretch.

        Args:
            card: of the model, whose ``composite_bands`` are shown.
            golden: the bundle's golden block; its 2nd percentile of a band is black, its 98th as bright as can be.
            padded_samples: samples of a block.
        """
        self._bands = card.composite_bands
        seen = golden["lines"][golden["valid"]][:, list(self._bands)].astype(np.float64)  # (pixel, colour)
        black, white = np.percentile(seen, _PERCENTILES, axis=0)
        gain = 255 / np.where(white > black, white - black, 1.0)
        self._gain, self._offset = gain.astype(np.float32), (0.5 - black * gain).astype(np.float32)
        shape = (card.block_lines, padded_samples)
        self._plane = np.empty(shape, np.float32)
        self._colours = np.zeros((*shape, 3), np.uint8)

    def of(self, block: Block) -> NDArray[np.uint8]:
        """Return the colours of a block, (block_lines, samples, 3), 0 where not valid; they hold until the next."""
        plane = self._plane
        for colour, band in enumerate(self._bands):
            np.multiply(block.lines[..., band], self._gain[colour], out=plane)
            np.add(plane, self._offset[colour], out=plane)
            np.clip(plane, 0, 255, out=plane)
            np.multiply(plane, block.valid, out=plane)
            np.copyto(self._colours[..., colour], plane, casting="unsafe")
        return self._colours
