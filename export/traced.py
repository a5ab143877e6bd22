"""Any network as the streaming step: its own forward pass for one block of lines, traced as it stands.

Shape letters: K lines in a block, W samples.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline.export.step_ops import StepOps, SymbolicOps, SymbolicStepOps, TorchStepOps
from hyperline.train.network import Network
from hyperline.train.ops import Ops


class TracedStep(nn.Module):
    """A trained network as the step that a runtime calls for each block; see `StreamingStep.forward`."""

    def __init__(self, network: Network, block_lines: int, ops: Ops | None = None) -> None:
        """Wrap a network.

        Args:
            network: it is changed: its operators become ``ops``, and its linear layers `_RowLinear`.
            block_lines: K.
            ops: computes the operators; None makes them nodes of the graph.
        """
        super().__init__()
        self.ops: StepOps = SymbolicStepOps() if ops is None else TorchStepOps(ops)
        network.use_ops(SymbolicOps() if ops is None else ops)
        _lay_rows(network)
        self.network = network
        self.block_lines = block_lines
        self.state_names = tuple(spec.name for spec in network.state_specs())

    def forward(self, lines: Tensor, valid: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Classify one block.

        Args:
            lines: (K, W, bands) float32; what stands in a pixel that is not valid is never looked at.
            valid: (K, W) bool.
            states: one tensor a carried state, in the order of the network's `state_specs`.

        Returns:
            labels (K, W) uint8, confidence (K, W), logits (K, W, classes) and uncertainty (K, W); experts (scales,
            experts) where the network has routers; and the next states.
        """
        lines = torch.where(valid.unsqueeze(-1), lines, 0.0)
        prediction = self.network(lines, valid, self.block_lines, dict(zip(self.state_names, states, strict=True)))
        logits = prediction.logits[0]
        labels, confidence, uncertainty = self.ops.decide(logits, valid)
        gates = [
            torch.softmax(routing, -1) * active
            for routing, active in zip(prediction.routing, prediction.active, strict=True)
        ]
        experts = [torch.cat(gates)] if gates else []
        following = [prediction.state[name] for name in self.state_names]
        return labels, confidence, logits, uncertainty, *experts, *following


class _RowLinear(nn.Linear):
    """A linear layer on rows: one product with its bias inside, which runtimes know how to quantise."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features)
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        rows = F.linear(x.flatten(0, -2), self.weight, self.bias)
        return rows.reshape(*x.shape[:-1], -1)


def _lay_rows(network: nn.Module) -> None:
    """Let every linear layer below that has a bias compute on rows, in place; others are no Gemm on rows either."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer.bias is not None:
                setattr(parent, name, _RowLinear(layer))
