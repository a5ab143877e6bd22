"""The rules by which relevance passes a layer: gradient times input, of a forward pass that was made linear.

Source: Jafari et al., MambaLRP, arXiv 2406.07592. Where a layer is no linear map of its input, the part that is not
is held constant, so that what is left of the network is linear in its input and gradient times input hands on all of
the score, layer by layer:

    selective scan            step size, B and C are held, and with the step size exp(delta A)
    SiLU, GELU, tanh          f(x) = x · f(x)/x, the ratio held
    gate, product of signals  each factor gets half
    LayerNorm                 the deviation is held (Ali et al., arXiv 2202.07304)
    softmax, sigmoid          held: what they weigh gets everything (Ali et al.; Arras et al., arXiv 1706.07206)
    linear layers, poolings   as they are: LRP-0

A bias is an input of its own and keeps its share; so does what a carried state brings from before the strip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hyperline.train.ops import Ops

_ACTIVATIONS = {F.silu, F.gelu, torch.tanh, Tensor.tanh}
_WEIGHTS = {F.softmax, torch.softmax, Tensor.softmax, torch.sigmoid, Tensor.sigmoid}
_PRODUCTS = {torch.mul, Tensor.mul, torch.matmul, Tensor.matmul}
_QUOTIENTS = {torch.div, Tensor.div}
# The shape in which a layer's bias is added to its output; it is the third argument of each.
_BIASED = {F.linear: (-1,), F.conv1d: (-1, 1), F.conv2d: (-1, 1, 1)}
# How many of the first arguments are summands; one that is a parameter, such as a position, is a bias.
_SUMS = {torch.add: 2, Tensor.add: 2, torch.addcmul: 1, Tensor.addcmul: 1}


class Rules(TorchFunctionMode):
    """While it is entered, functions of torch follow the rules; its two operators are for `Network.use_ops`.

    The values computed are those of the plain functions, up to rounding. Only what depends on tensors that require
    gradients is explained: parameters must not.

    Attributes:
        biases: what layers added, one tensor a layer, in the order of the forward pass.
        carried: what the scans' initial states added to their outputs.
    """

    def __init__(self, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.biases: list[Tensor] = []
        self.carried: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _ACTIVATIONS:
            return _activation(func, args[0], kwargs)
        if func in _WEIGHTS:
            return func(*args, **kwargs).detach()
        if func in _PRODUCTS and all(isinstance(factor, Tensor) and factor.requires_grad for factor in args):
            first, second = args
            return (func(first, second.detach()) + func(first.detach(), second)) / 2
        if func in _QUOTIENTS and isinstance(args[1], Tensor):
            return func(args[0], args[1].detach(), **kwargs)
        if func is F.layer_norm:
            return self._layer_norm(*args, **kwargs)
        if func in _BIASED and len(args) > 2 and args[2] is not None:
            return _with_constant(func(*args, **kwargs), args[2].view(_BIASED[func]), self.biases)
        made = func(*args, **kwargs)
        for summand in args[: _SUMS.get(func, 0)]:
            if isinstance(summand, nn.Parameter) and made.requires_grad:
                made = _with_constant(made, summand, self.biases)
        return made

    def _layer_norm(
        self, x: Tensor, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        axes = tuple(range(-len(shape), 0))
        centred = x - x.mean(axes, keepdim=True)
        y = centred * torch.rsqrt(centred.detach().square().mean(axes, keepdim=True) + eps)
        if weight is not None:
            y = y * weight
        return y if bias is None else _with_constant(y + bias, bias, self.biases)

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
        """Run a selective scan that is linear in u and h0; see `hyperline.train.ops.TorchOps.selective_scan`."""
        delta, B, C, h0 = delta.detach(), B.detach(), C.detach(), h0.detach()
        y, h = self.ops.selective_scan(u, delta, A, B, C, D, delta_bias, h0, mask, reverse)
        if h0.any():
            no_past = torch.zeros_like(h0)
            own, _ = self.ops.selective_scan(u.detach(), delta, A, B, C, D, delta_bias, no_past, mask, reverse)
            y = _with_constant(y, y - own, self.carried)
        return y, h

    def expert_gate(self, logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Pick k experts a row; their weights are held, as those of any softmax."""
        weights, active = self.ops.expert_gate(logits.detach(), k)
        return weights, active


def _activation(func: Callable[..., Tensor], x: Tensor, kwargs: dict[str, Any]) -> Tensor:
    held = x.detach()
    ratio = func(held, **{**kwargs, **({"inplace": False} if "inplace" in kwargs else {})}) / held
    return x * torch.where(held == 0, 0.0, ratio)


def _with_constant(y: Tensor, constant: Tensor, kept: list[Tensor]) -> Tensor:
    """Return y, to which ``constant`` was added, so that the gradient of a score reaches the constant, in ``kept``."""
    leaf = constant.detach().clone().requires_grad_()
    kept.append(leaf)
    return y + (leaf - leaf.detach())
