"""Block assembly: lines in, blocks of a fixed number of lines out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.radiometry import Radiometry


@dataclass(frozen=True)
class Block:
    """Consecutive lines of a strip, as the model takes them.

    Attributes:
        lines: (block_lines, samples padded to the model's multiple, bands) float32, C-contiguous, zero where
            not valid.
        valid: (block_lines, samples padded) bool; False in the padding, in lost lines, and behind the end of
            the strip.
        count: rows that belong to the strip; less than block_lines only in its last block.
    """

    lines: NDArray[np.float32]
    valid: NDArray[np.bool_]
    count: int


class BlockAssembler:
    """Fill one preallocated block, again and again.

    A block that ``push``, ``skip`` or ``flush`` returned is overwritten by the next call: whoever needs it
    longer copies it. Cost a line: what ``Radiometry`` costs, written straight into the block.

    Attributes:
        padded_samples: samples of a block.
        invalid_pixels: pixels without a measurement in the pushed lines.
    """

    def __init__(self, block_lines: int, radiometry: Radiometry, multiple: int) -> None:
        """Allocate the block.

        Args:
            block_lines: lines of a block (K).
            radiometry: converts each line, and says how many samples and bands it has.
            multiple: the model takes a number of samples that is a multiple of this.
        """
        samples = radiometry.samples
        self.padded_samples = -(-samples // multiple) * multiple
        self._lines = np.zeros((block_lines, self.padded_samples, radiometry.bands), np.float32)
        self._valid = np.zeros((block_lines, self.padded_samples), bool)
        # Views made once; the padding beside them stays zero and invalid.
        self._rows = [(self._lines[row, :samples], self._valid[row, :samples]) for row in range(block_lines)]
        self._radiometry = radiometry
        self._count = 0
        self.invalid_pixels = 0

    @property
    def pending(self) -> int:
        """Rows taken in that no block has carried out yet."""
        return self._count

    def push(self, values: NDArray[Any], intact: Callable[[], bool] | None = None) -> tuple[Block | None, bool]:
        """Take one (sample, band) line.

        Args:
            values: of the line.
            intact: asked once the values were read, when they are close to the processor: whether they were right.
                Where they were not, their place is left as `skip` leaves it. None: they are.

        Returns:
            The block, when this line completes it, and whether the line was right.
        """
        line, valid = self._rows[self._count]
        saturated = self._radiometry.saturated_pixels
        self._radiometry.convert(values, line, valid)
        if intact is not None and not intact():
            self._radiometry.saturated_pixels = saturated
            return self.skip(), False
        self.invalid_pixels += valid.size - int(np.count_nonzero(valid))
        return self._advance(), True

    def skip(self) -> Block | None:
        """Leave the place of a line that cannot be used: none of its pixels is valid, the state is held."""
        self._clear(self._count)
        return self._advance()

    def flush(self) -> Block | None:
        """Return the strip's last, partial block, invalid behind the end; None if nothing is pending."""
        if self._count == 0:
            return None
        for row in range(self._count, len(self._rows)):
            self._clear(row)
        return self._take()

    def _clear(self, row: int) -> None:
        line, valid = self._rows[row]
        line[:] = 0.0
        valid[:] = False

    def _advance(self) -> Block | None:
        self._count += 1
        return self._take() if self._count == len(self._rows) else None

    def _take(self) -> Block:
        block = Block(self._lines, self._valid, self._count)
        self._count = 0
        return block
