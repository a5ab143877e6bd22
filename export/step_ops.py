"""What the step is made of besides standard operators: each a node in the graph, and PyTorch to compare with.

The functions of domain ``hyperline.fused`` take one pass over memory where they run natively.

Shape letters: K lines in a block, W samples, C channels, P = K W pixels; of a scan S sequences, L steps, I channels, N
states of a channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline.plugins import DOMAIN, FUSED_DOMAIN, FUSED_VERSION, OPS_VERSION
from hyperline.train.ops import Ops
from hyperline.train.ugcl import uncertainty


class StepOps(Protocol):
    """How these enter the step."""

    def norm(
        self,
        x: Tensor,
        norm: nn.LayerNorm,
        *,
        addend: Tensor | None = None,
        keep: Tensor | None = None,
        gate: Tensor | None = None,
        silu: bool = False,
    ) -> Tensor:
        """Normalise; see `TorchStepOps.norm`."""

    def projected_scan(
        self,
        u: Tensor,
        projected: Tensor,
        parameters: tuple[Tensor, Tensor, Tensor],
        h0: Tensor,
        mask: Tensor,
        reverse: bool,
    ) -> tuple[Tensor, Tensor]:
        """Scan; see `TorchStepOps.projected_scan`."""

    def expert_gate(self, logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Pick k experts a row; see `hyperline.train.ops.TorchOps.expert_gate`."""

    def centred_linear(self, x: Tensor, mean: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Multiply what differs from a mean; see `TorchStepOps.centred_linear`."""

    def pool(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Average 2x2 cells; see `TorchStepOps.pool`."""

    def decide(self, logits: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pick the class; see `TorchStepOps.decide`."""


class TorchStepOps:
    """In PyTorch, the two operators as ``ops`` has them."""

    def __init__(self, ops: Ops) -> None:
        self.ops = ops

    def projected_scan(
        self,
        u: Tensor,
        projected: Tensor,
        parameters: tuple[Tensor, Tensor, Tensor],
        h0: Tensor,
        mask: Tensor,
        reverse: bool,
    ) -> tuple[Tensor, Tensor]:
        """Run a selective scan; see `hyperline.train.ops.TorchOps.selective_scan`.

        Args:
            u: (S, L, I).
            projected: (S, L, I + 2 N), delta, B and C side by side.
            parameters: A (I, N), D (I,) and the bias of delta (I,).
            h0: (S or 1, I, N).
            mask: (S or 1, L or 1).
            reverse: from the last step to the first.

        Returns:
            y (S, L, I) and h (S, I, N).
        """
        A, D, delta_bias = parameters
        delta, B, C = projected.split([A.shape[0], A.shape[1], A.shape[1]], dim=-1)
        return self.ops.selective_scan(u, delta, A, B, C, D, delta_bias, h0, mask, reverse)

    def expert_gate(self, logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Pick k experts a row."""
        return self.ops.expert_gate(logits, k)

    def norm(
        self,
        x: Tensor,
        norm: nn.LayerNorm,
        *,
        addend: Tensor | None = None,
        keep: Tensor | None = None,
        gate: Tensor | None = None,
        silu: bool = False,
    ) -> Tensor:
        """Normalise x, with what stands around the norm.

        Args:
            x: (..., C).
            norm: over C.
            addend: like x, added before.
            keep: (..., 1); negative results become 0, and rows where it is 0 wholly so, whatever stood there.
            gate: as many numbers as x; the result takes its shape and is multiplied by its SiLU. Goes with ``addend``.
            silu: apply SiLU.
        """
        y: Tensor = norm(x if addend is None else x + addend)
        if keep is not None:
            y = torch.where(keep > 0, F.relu(y), 0.0)
        if gate is not None:
            y = y.reshape(gate.shape) * F.silu(gate)
        return F.silu(y) if silu else y

    def centred_linear(self, x: Tensor, mean: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return (x - mean) weight + bias; x (..., I), mean (I,), weight (I, O), bias (O,)."""
        return (x - mean) @ weight + bias

    def pool(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Average the valid pixels of every 2x2 cell.

        Args:
            x: (P, C), zero where not valid.
            mask: (K, W), 1 where valid.

        Returns:
            (P / 4, C), zero where no pixel of the cell is valid, and the mask of the cells (K / 2, W / 2).
        """
        half, channels = mask.shape[0] // 2, x.shape[1]
        count = mask.unflatten(0, (half, 2)).sum(1).unflatten(1, (-1, 2)).sum(2)
        cells = x.reshape(half, 2, -1).sum(1).reshape(-1, 2, channels).sum(1)
        return cells / count.clamp(min=1.0).reshape(-1, 1), (count > 0).to(x.dtype)

    def decide(self, logits: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pick the class of the greatest logit.

        Args:
            logits: (K, W, classes).
            valid: (K, W) bool.

        Returns:
            (K, W) labels uint8, their softmax, and the `uncertainty` of it; all 0 where not valid.
        """
        index, probability = logits.argmax(dim=-1), torch.softmax(logits, dim=-1).amax(dim=-1)
        label = torch.where(valid, index + 1, 0).to(torch.uint8)
        return label, torch.where(valid, probability, 0.0), torch.where(valid, uncertainty(logits), 0.0)


class SymbolicOps:
    """The two operators as nodes of the exported graph; see `hyperline.train.ops.Ops` for what they do."""

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
        """Emit ``SelectiveScan``."""
        h = h0.new_empty(u.shape[0], *A.shape)
        inputs = [u, delta, A, B, C, D, delta_bias, h0, mask]
        y, h = _emit("SelectiveScan", inputs, [u, h], {"reverse": int(reverse)}, DOMAIN, OPS_VERSION)
        return y, h

    def expert_gate(self, logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Emit ``ExpertGate``."""
        weights, active = _emit("ExpertGate", [logits], [logits, logits], {"k": k}, DOMAIN, OPS_VERSION)
        return weights, active


class SymbolicStepOps(SymbolicOps):
    """As nodes of the exported graph; see `TorchStepOps` for what they do."""

    def projected_scan(
        self,
        u: Tensor,
        projected: Tensor,
        parameters: tuple[Tensor, Tensor, Tensor],
        h0: Tensor,
        mask: Tensor,
        reverse: bool,
    ) -> tuple[Tensor, Tensor]:
        """Emit ``ProjectedScan``."""
        h = h0.new_empty(u.shape[0], *parameters[0].shape)
        inputs = [u, projected, *parameters, h0, mask]
        y, h = _emit("ProjectedScan", inputs, [u, h], {"reverse": int(reverse)})
        return y, h

    def norm(
        self,
        x: Tensor,
        norm: nn.LayerNorm,
        *,
        addend: Tensor | None = None,
        keep: Tensor | None = None,
        gate: Tensor | None = None,
        silu: bool = False,
    ) -> Tensor:
        """Emit ``Norm``, ``NormRelu``, ``NormSilu`` or ``SumNormGated``."""
        inputs = [x, norm.weight, norm.bias]
        name = "NormSilu" if silu else "Norm"
        if keep is not None:
            name, inputs = "NormRelu", [*inputs, keep]
        if addend is not None and gate is not None:
            name, inputs = "SumNormGated", [*inputs, addend, gate]
        (y,) = _emit(name, inputs, [x if gate is None else gate], {"epsilon": norm.eps})
        return y

    def centred_linear(self, x: Tensor, mean: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Emit ``CentredLinear``."""
        (y,) = _emit("CentredLinear", [x, mean, weight, bias], [x.new_empty(*x.shape[:-1], weight.shape[1])])
        return y

    def pool(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Emit ``Pool``."""
        lines, samples = mask.shape
        cells = x.new_empty(lines // 2 * (samples // 2), x.shape[1])
        y, coarse = _emit("Pool", [x, mask], [cells, mask.new_empty(lines // 2, samples // 2)])
        return y, coarse

    def decide(self, logits: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Emit ``Decide``."""
        number = logits[..., 0]
        labels, confidence, uncertain = _emit("Decide", [logits, valid], [valid.to(torch.uint8), number, number])
        return labels, confidence, uncertain


def _emit(
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    attributes: Mapping[str, int | float] | None = None,
    domain: str = FUSED_DOMAIN,
    version: int = FUSED_VERSION,
) -> tuple[Tensor, ...]:
    """Emit a node whose results are like ``outputs``."""
    return tuple(
        torch.onnx.ops.symbolic_multi_out(
            f"{domain}::{name}",
            inputs,
            dict(attributes or {}),
            dtypes=[output.dtype for output in outputs],
            shapes=[output.shape for output in outputs],
            version=version,
        )
    )
