"""From one scale to the next: half the lines and samples, and back. Cells never cross the end of a block.

Shape letters: R blocks in strip order, K lines in a block, W samples, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pool(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Average the valid pixels of every 2x2 cell.

    Args:
        x: (R, K, W, C).
        mask: (R, K, W), 1 where valid.

    Returns:
        (R, K / 2, W / 2, C), zero where no pixel of the cell is valid, and the mask of the cells.
    """
    weight = mask.unsqueeze(-1)
    cells = (x * weight).unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum((2, 4))
    count = weight.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum((2, 4))
    return cells / count.clamp(min=1.0), (count.squeeze(-1) > 0).to(x.dtype)


def double(x: Tensor) -> Tensor:
    """Repeat every pixel of (R, K, W, C) twice along track and across track."""
    return x.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)


def double_smoothly(x: Tensor) -> Tensor:
    """Interpolate (R, K, W, C) linearly to twice the lines and samples; a block's edges go on as they are."""
    for axis in (1, 2):
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
        before = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], dim=axis)
        after = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), last], dim=axis)
        # a new pixel's centre is a quarter of a pixel from the old one's
        pair = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim=axis + 1)
        x = pair.flatten(axis, axis + 1)
    return x
