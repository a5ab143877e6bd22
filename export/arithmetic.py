"""How much a step must compute: what the speed of an engine is measured against."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hyperline.train.models.mambamoe import MambaMoE
from hyperline.train.network import MULTIPLE


@dataclass(frozen=True)
class Arithmetic:
    """What one block of `MULTIPLE` samples takes; other widths take it in proportion.

    Attributes:
        multiply_adds: of all matrix products and convolutions.
        state_updates: of all selective scans, h = decay h + input.
    """

    multiply_adds: int
    state_updates: int


class _CountingOps:
    """Counts state updates in place of doing them; see `hyperline.train.ops.Ops`."""

    def __init__(self) -> None:
        self.state_updates = 0

    def selective_scan(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        delta_bias: Tensor,
        h0: Tensor,
        mask: Tensor,
        reverse: bool,
    ) -> tuple[Tensor, Tensor]:
        self.state_updates += u.numel() * A.shape[1]
        return torch.zeros_like(u), u.new_zeros(u.shape[0], *A.shape)

    def expert_gate(self, logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(logits), torch.ones_like(logits)


def step_arithmetic(network: MambaMoE, block_lines: int) -> Arithmetic:
    """Count what the network as it is defined takes for a block, however its export rearranges it.

    Left out are the heads that only training looks at. The first two layers are two products or one, whichever is
    less.
    """
    network = copy.deepcopy(network).eval()
    ops = _CountingOps()
    network.use_ops(ops)
    for scale in range(1, len(network.heads)):
        network.heads[scale] = nn.Identity()
    config = network.config
    pixels = block_lines * MULTIPLE
    stem = torch.zeros(block_lines, MULTIPLE, config.channels)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.classify(stem, torch.ones(block_lines, MULTIPLE, dtype=torch.bool), block_lines)
    first = min(config.bands * config.channels, config.components * (config.bands + config.channels))
    return Arithmetic(counter.get_total_flops() // 2 + pixels * first, ops.state_updates)
