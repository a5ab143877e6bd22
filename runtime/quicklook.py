"""Three bands of what is flown over, as a picture that grows with the maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle.card import Card
from hyperline.plugins.native import Stretch, installed_library
from hyperline.runtime.blocks import Block

# Of the golden block, and the bytes that they become. One block has not seen all that a strip will show: there is room
# for values as far beyond either as a third of what lies between.
_PERCENTILES = (2, 98)
_BYTES = (52, 204)


class Quicklook:
    """Red, green and blue bytes of a block's pixels.

    The stretch is that of the bundle's golden block, and so is known before the first line: a strip that is resumed
    gets the same bytes. All memory is allocated before.
    """

    def __init__(self, card: Card, golden: Mapping[str, NDArray[Any]], padded_samples: int) -> None:
        """Fix the stretch.

        Args:
            card: of the model, whose ``composite_bands`` are shown.
            golden: the bundle's golden block; its 2nd percentile of a band becomes 52, its 98th 204.
            padded_samples: samples of a block.
        """
        bands = card.composite_bands
        seen = golden["lines"][golden["valid"]][:, list(bands)].astype(np.float64)  # (pixel, colour)
        dark, bright = np.percentile(seen, _PERCENTILES, axis=0)
        gain = (_BYTES[1] - _BYTES[0]) / np.where(bright > dark, bright - dark, 1.0)
        offset = _BYTES[0] + 0.5 - dark * gain
        self._stretch = Stretch(bands, tuple(gain.tolist()), tuple(offset.tolist()))
        self._library = installed_library()
        shape = (card.block_lines, padded_samples)
        self._plane = np.empty(shape, np.float32)
        self._colours = np.zeros((*shape, 3), np.uint8)

    def of(self, block: Block) -> NDArray[np.uint8]:
        """Return the colours of a block, (block_lines, samples, 3), until the next: 1 to 255, 0 where not valid."""
        if self._library is not None:
            self._library.colours(block.lines, block.valid, self._stretch, self._colours)
        else:
            self._stretch_each(block)
        return self._colours

    def _stretch_each(self, block: Block) -> None:
        plane, stretch = self._plane, self._stretch
        for colour, band in enumerate(stretch.bands):
            np.multiply(block.lines[..., band], np.float32(stretch.gain[colour]), out=plane)
            np.add(plane, np.float32(stretch.offset[colour]), out=plane)
            np.clip(plane, 1, 255, out=plane)
            np.multiply(plane, block.valid, out=plane)
            np.copyto(self._colours[..., colour], plane, casting="unsafe")
