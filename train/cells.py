"""Square cells of a block: where a network's tokens are patches of pixels, or are chosen from among their neighbours.

Sides divide `MULTIPLE`, so that no cell crosses the end of a block. Shapes are reshapes and transposes alone: they
export with any number of samples.

Shape letters: R blocks in strip order, K lines in a block, W samples, P and Q cells along and across track in a block.
"""

from __future__ import annotations

from torch import Tensor


def to_cells(x: Tensor, side: int) -> Tensor:
    """Cut (R, K, W, ...) into cells of ``side`` x ``side`` pixels: (R, P, Q, side * side, ...), line by line."""
    x = x.unflatten(2, (-1, side)).unflatten(1, (-1, side))  # (R, P, side, Q, side, ...)
    return x.transpose(2, 3).flatten(3, 4)


def from_cells(x: Tensor, side: int) -> Tensor:
    """Undo `to_cells`: (R, P, Q, side * side, ...) back to (R, K, W, ...)."""
    x = x.unflatten(3, (side, side)).transpose(2, 3)  # (R, P, side, Q, side, ...)
    return x.flatten(3, 4).flatten(1, 2)
