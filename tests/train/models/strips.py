"""Made-up strips, and ways to classify them: at once, block by block, and after training."""

from __future__ import annotations

import numpy as np
import torch

from hyperline.scenes import Scene
from hyperline.splits import random_split
from hyperline.train.network import Network, NetworkConfig
from hyperline.train.trainer import TrainConfig, predict, start, train

BANDS = 6


def made_up_strip(lines: int, samples: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Lines of noise, nine pixels in ten valid."""
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(lines, samples, generator=generator) < 0.9
    return torch.randn(lines, samples, BANDS, generator=generator), valid


@torch.no_grad()
def at_once(
    network: Network, lines: torch.Tensor, valid: torch.Tensor, block_lines: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The finest logits of one call, and the state after it."""
    prediction = network(lines, valid, block_lines)
    return prediction.logits[0], prediction.state


@torch.no_grad()
def block_by_block(
    network: Network, lines: torch.Tensor, valid: torch.Tensor, block_lines: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The same of a call a block, with carried state."""
    state = network.initial_state(lines.shape[1])
    parts = []
    for first in range(0, len(lines), block_lines):
        block = slice(first, first + block_lines)
        prediction = network(lines[block], valid[block], block_lines, state)
        assert list(prediction.state) == [spec.name for spec in network.state_specs()]
        assert all(prediction.state[name].shape == state[name].shape for name in state)
        state = prediction.state
        parts.append(prediction.logits[0])
    return torch.cat(parts), state


def accuracy_after_training(config: NetworkConfig, scene: Scene, epochs: int) -> float:
    """Share of the test pixels of a scene that are right, streamed in blocks of 8 lines."""
    split = random_split(scene.labels, labels_per_class=20, seed=0)
    settings = TrainConfig(epochs=epochs, learning_rate=5e-3, consistency=0.0, threads=1)
    strips = [(scene, split.train)]
    network = train(start(strips, config, settings), strips, settings)
    labels = predict(network, scene, 8)
    test = split.test > 0
    return float(np.mean(labels[test] == split.test[test]))
