"""How much a step must compute: what the speed of an engine is measured against."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Graph, Interpreter
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from hyperline.export.step_ops import SymbolicOps
from hyperline.train.models.mambamoe import MambaMoE
from hyperline.train.network import MULTIPLE, Network


@dataclass(frozen=True)
class Arithmetic:
    """What one block of `MULTIPLE` samples takes; other widths take it in proportion.

    Attributes:
        multiply_adds: of all matrix products and convolutions.
        state_updates: of all selective scans, h = decay h + input.
    """

    multiply_adds: int
    state_updates: int


def step_arithmetic(network: Network, block_lines: int) -> Arithmetic:
    """Count what the network as it is defined takes for a block, however its export rearranges it.

    Left out is what neither the finest answer nor a next state needs, such as heads that only training looks at. The
    first two layers of MambaMoE are two products or one, whichever is less, as its export makes them.
    """
    network = copy.deepcopy(network).eval()
    network.use_ops(SymbolicOps())
    state = network.initial_state(MULTIPLE)

    def answer(lines: Tensor, valid: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        prediction = network(lines, valid, block_lines, dict(zip(state, states, strict=True)))
        return prediction.logits[0], *prediction.state.values()

    lines = torch.zeros(block_lines, MULTIPLE, network.config.bands)
    block = (lines, torch.ones(lines.shape[:2], dtype=torch.bool), *state.values())
    with torch.no_grad():
        traced = make_fx(answer)(*block)
    traced.graph.eliminate_dead_code()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        Interpreter(traced).run(*block)
    multiply_adds = counter.get_total_flops() // 2
    if isinstance(network, MambaMoE):
        config = network.config
        two = config.components * (config.bands + config.channels)
        multiply_adds -= block_lines * MULTIPLE * max(0, two - config.bands * config.channels)
    return Arithmetic(multiply_adds, _state_updates(traced.graph))


def _state_updates(graph: Graph) -> int:
    """Sum steps times channels times states over the scans of a traced graph."""
    updates = 0
    for node in graph.nodes:
        if node.target is torch.ops.onnx_symbolic._symbolic_multi_out.default and "SelectiveScan" in node.args[1]:
            u, _, A, *_ = (one.meta["val"] for one in node.args[0])
            updates += u.numel() * A.shape[1]
    return updates
