"""The parts of a scene that are explained at once, and the state with which they begin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hyperline.errors import InputError
from hyperline.scenes import Scene, valid_pixels
from hyperline.train.network import Network, check_block_lines, pad_to_multiple

# At 200 bands an explained pixel takes 15 KiB of activations and gradients: so many pixels, 2 GiB.
_MOST_PIXELS = 2**17


def require_bands(network: Network, scene: Scene) -> None:
    """Refuse a scene of another sensor.

    Raises:
        InputError: it has another number of bands.
    """
    if scene.bands != network.config.bands:
        raise InputError(
            f"{scene.name} has {scene.bands} bands, the network was trained on {network.config.bands}; "
            "select the same bands"
        )


def window_lines(scene: Scene, block_lines: int) -> int:
    """Return how many lines of a scene may be explained at once, whole blocks.

    Raises:
        InputError: not even one block may, or it cannot be halved three times.
    """
    check_block_lines(block_lines)
    blocks = _MOST_PIXELS // (block_lines * scene.samples)
    if not blocks:
        raise InputError(
            f"a block of {block_lines} lines of {scene.samples} samples is too large to explain: at most "
            f"{_MOST_PIXELS} pixels; give fewer --block-lines"
        )
    return blocks * block_lines


def read_lines(scene: Scene, lines: slice) -> tuple[Tensor, Tensor]:
    """Read lines as a network takes them: (T, W, bands) float32 and valid (T, W)."""
    raw = np.asarray(scene.cube[lines])
    return torch.from_numpy(raw.astype(np.float32)), torch.from_numpy(valid_pixels(raw, scene.nodata))


def windows(scene: Scene, block_lines: int, stop: int) -> Iterator[slice]:
    """Cut the lines before ``stop`` into windows, in order."""
    step = window_lines(scene, block_lines)
    for first in range(0, stop, step):
        yield slice(first, min(first + step, stop))


@torch.no_grad()
def state_before(network: Network, scene: Scene, line: int, block_lines: int) -> dict[str, Tensor] | None:
    """Stream a scene up to ``line``, where a block begins, and return the state there; None at the first line."""
    state: dict[str, Tensor] | None = None
    for window in windows(scene, block_lines, line):
        state = network(*pad_to_multiple(*read_lines(scene, window), block_lines), block_lines, state).state
    return state
