"""The two operators for training on the CPU through the native library, several times as fast as torch's own loop."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hyperline.errors import HyperlineError
from hyperline.plugins.native import NativeLibrary, ScanInputs, scan_inputs
from hyperline.train.ops import Ops, TorchOps

_LOG = logging.getLogger(__name__)


class NativeOps(TorchOps):
    """The operators in native code, with gradients; the threads are torch's own.

    What the library does not compute, other number types and other devices, goes to `TorchOps`.
    """

    def __init__(self, library: NativeLibrary) -> None:
        self.library = library

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
        tensors = (u, delta, A, B, C, D, delta_bias, h0, mask)
        if any(tensor.dtype != torch.float32 or tensor.device.type != "cpu" for tensor in tensors):
            return super().selective_scan(*tensors, reverse)
        y, h = _Scan.apply(self.library, *tensors, reverse)  # type: ignore[no-untyped-call]
        return y, h


class _Scan(torch.autograd.Function):
    """The scan; what the forward pass read is all that the backward pass needs."""

    @staticmethod
    def forward(ctx: Any, library: NativeLibrary, *inputs: Any) -> tuple[Tensor, Tensor]:
        *tensors, reverse = inputs
        ctx.save_for_backward(*tensors)
        ctx.library, ctx.reverse = library, reverse
        y, h = (
            torch.from_numpy(array)
            for array in library.selective_scan(_inputs(tensors, reverse), torch.get_num_threads())
        )
        ctx.mark_non_differentiable(h)
        return y, h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, _grad_h: Tensor) -> tuple[Tensor | None, ...]:
        inputs = _inputs(ctx.saved_tensors, ctx.reverse)
        by = ctx.library.selective_scan_backward(inputs, grad_y.numpy(), torch.get_num_threads())
        gradients = (torch.from_numpy(g) for g in (by.u, by.delta, by.A, by.B, by.C, by.D, by.delta_bias))
        return None, *gradients, None, None, None


def _inputs(tensors: list[Tensor] | tuple[Tensor, ...], reverse: bool) -> ScanInputs:
    u, delta, A, B, C, D, delta_bias, h0, mask = (tensor.detach().numpy() for tensor in tensors)
    return scan_inputs(u, delta, A, B, C, D, delta_bias, h0, mask, reverse)


def fastest_ops() -> Ops:
    """Return the native operators where the library is installed, and torch's elsewhere; the log says which."""
    try:
        library = NativeLibrary()
    except HyperlineError as error:
        _LOG.info("scans run in torch, several times slower: %s", error)
        return TorchOps()
    _LOG.info("scans run in native code (%s)", library.instruction_set)
    return NativeOps(library)
