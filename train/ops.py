"""The two operators in PyTorch: what the network is trained with, and the twin of the native kernels.

Shape letters, here and in train/network.py: S sequences, L steps of a sequence, D channels, N state size,
R rows of gate logits (one a block), E experts.

The recurrence is Mamba's selective scan (Gu and Dao, arXiv 2312.00752, section 3.2) with the
discretisation of its code: exp(delta A) for the state, delta B for the input.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

# A chunk of sequences is scanned at once; its states (and their decays) should stay in the last-level cache.
_CHUNK_BYTES = 8 << 20


class Ops(Protocol):
    """What the network asks of an implementation of the two operators."""

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
        """Run a selective scan; see `TorchOps.selective_scan`."""

    def expert_gate(self, logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Pick k experts a row; see `TorchOps.expert_gate`."""


class TorchOps:
    """The operators in PyTorch, with gradients."""

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
        """Run the recurrence h_t = exp(d_t A) h_{t-1} + d_t u_t B_t, y_t = C_t h_t + D u_t.

        The step size is d = softplus(delta + delta_bias) * mask: where the mask is 0 the state is held.

        Args:
            u: (S, L, D) input.
            delta: (S, L, D) step size before bias and softplus.
            A: (D, N) decay rates, negative.
            B: (S, L, N) input weights.
            C: (S, L, N) output weights.
            D: (D,) weight of the input in the output.
            delta_bias: (D,).
            h0: (S or 1, D, N) initial state; no gradient flows into it.
            mask: (S or 1, L or 1), 0 or 1.
            reverse: run from the last step to the first; outputs stay at their places.

        Returns:
            y (S, L, D), and the state after the last step taken (S, D, N), without gradient.
        """
        step = F.softplus(delta + delta_bias) * mask.unsqueeze(-1)
        y, h = _Scan.apply(u, step, A, B, C, h0, reverse)  # type: ignore[no-untyped-call]
        return y + D * u, h

    def expert_gate(self, logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Softmax over the experts, kept for the k largest and zero elsewhere; a tie goes to the lower index.

        Args:
            logits: (R, E).
            k: experts kept in a row.

        Returns:
            weights (R, E), not renormalised, and active (R, E), 1 where an expert is kept.
        """
        weights = F.softmax(logits, dim=-1)
        chosen = logits.detach().sort(dim=-1, descending=True, stable=True).indices[:, :k]
        active = torch.zeros_like(weights).scatter(1, chosen, 1.0)
        return weights * active, active


class _Scan(torch.autograd.Function):
    """The recurrence alone, y_t = C_t h_t, with a backward pass that recomputes the states.

    Autograd over a step loop writes a gradient of full size for every step; recomputing the states chunk by
    chunk keeps them in cache and the tape free of them.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        u: Tensor,
        step: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        h0: Tensor,
        reverse: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(u, step, A, B, C, h0)
        ctx.reverse = reverse  # type: ignore[attr-defined]
        y = torch.empty_like(u, memory_format=torch.contiguous_format)
        last = u.new_empty(u.shape[0], *A.shape)
        for part in _chunks(u.shape, A.shape[1]):
            _, h = _states(u[part], step[part], A, B[part], _rows(h0, part), reverse)
            y[part] = torch.matmul(h, C[part].transpose(0, 1).unsqueeze(-1)).squeeze(-1).transpose(0, 1)
            last[part] = h[0 if reverse else -1]
        ctx.mark_non_differentiable(last)
        return y, last

    @staticmethod
    def backward(ctx, grad_y: Tensor, _grad_last: Tensor):  # type: ignore[no-untyped-def]
        u, step, A, B, C, h0 = ctx.saved_tensors
        reverse: bool = ctx.reverse
        grads = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in (u, step, B, C)]
        grad_u, grad_step, grad_B, grad_C = grads
        grad_A = torch.zeros_like(A)
        length = u.shape[1]
        backwards = range(length) if reverse else range(length - 1, -1, -1)
        for part in _chunks(u.shape, A.shape[1]):
            decay, h = _states(u[part], step[part], A, B[part], _rows(h0, part), reverse)
            # step-major, as the states are: (L, s, D) and (L, s, N)
            u_t, step_t, B_t, C_t, gy_t = (t[part].transpose(0, 1) for t in (u, step, B, C, grad_y))
            grad_C[part] = torch.matmul(gy_t.unsqueeze(-2), h).squeeze(-2).transpose(0, 1)
            grad_h = gy_t.unsqueeze(-1) * C_t.unsqueeze(-2)  # (L, s, D, N)
            later = None
            for t in backwards:
                if later is not None:
                    grad_h[t].addcmul_(decay[later], grad_h[later])
                later = t
            from_input = torch.matmul(grad_h, B_t.unsqueeze(-1)).squeeze(-1)  # (L, s, D)
            grad_u[part] = (from_input * step_t).transpose(0, 1)
            grad_B[part] = torch.matmul((step_t * u_t).unsqueeze(-2), grad_h).squeeze(-2).transpose(0, 1)
            # h becomes the state before each step, then the gradient of delta A
            start = _rows(h0, part).expand_as(h[0])
            before = torch.cat([h[1:], start[None]] if reverse else [start[None], h[:-1]])
            grad_rate = grad_h.mul_(decay).mul_(before)
            grad_A += torch.einsum("lsdn,lsd->dn", grad_rate, step_t)
            grad_rate *= A
            grad_step[part] = (grad_rate.sum(-1) + from_input * u_t).transpose(0, 1)
        return grad_u, grad_step, grad_A, grad_B, grad_C, None, None


def _chunks(shape: torch.Size, state: int) -> list[slice]:
    """Cut the sequences of u (S, L, D) so that a chunk's decays and states fit the cache."""
    sequences, length, channels = shape
    size = max(1, _CHUNK_BYTES // (8 * length * channels * state))
    return [slice(at, at + size) for at in range(0, sequences, size)]


def _rows(h0: Tensor, part: slice) -> Tensor:
    return h0 if h0.shape[0] == 1 else h0[part]


def _states(u: Tensor, step: Tensor, A: Tensor, B: Tensor, h0: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """Return decays exp(d A) and states after each step, both (L, s, D, N)."""
    step_major = step.transpose(0, 1)  # (L, s, D)
    decay = torch.exp(step_major.unsqueeze(-1) * A)
    h = (step * u).transpose(0, 1).unsqueeze(-1) * B.transpose(0, 1).unsqueeze(-2)
    previous = h0
    length = h.shape[0]
    for t in range(length - 1, -1, -1) if reverse else range(length):
        h[t].addcmul_(decay[t], previous)
        previous = h[t]
    return decay, h
