"""Updates that old features do not feel.

A product with a weight W keeps its output on old inputs X where the change of W maps all of X to zero. Adam-NSCL (Wang
et al., arXiv 2103.07113, section 4) projects every update onto the null space of the uncentred covariance of the
layer's inputs; Mamba-CL (Cheng et al., arXiv 2411.15469, section 4) derives the same for the projections of a selective
scan: delta, B and C hold where the update of their weights is orthogonal to what the scan takes in. If every layer's
output holds, so do the inputs of the next one, and in the end the answers.

What is left has no null space and is frozen: a decay A and a skip D are multiplied element by element with a step size
that is above 0 and with every input, so that the condition of Mamba-CL, delta · dA = 0, has no solution but dA = 0 in
a scan of diagonal A; biases and the affine part of norms meet a constant.

Shape letters: G groups of a convolution, I inputs and O outputs of a group, P pixels or tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# The part of the old features' energy that float32 leaves in directions that hold none.
_ROUNDING = 1e-12
_PIXELS_AT_ONCE = 1 << 15


class FeatureCovariances(TorchFunctionMode):
    """While it is entered, sums up what a network's weights are multiplied with.

    It finds the products by the tensor of the weight, so that networks need not know. A parameter that is used in
    another way has no entry.

    Attributes:
        sums: by name of the weight, (G, I, I) float64: the sum over all pixels of the outer product of their inputs,
            uncentred. A linear layer is one group; a convolution's inputs are the values under its kernel.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.sums: dict[str, Tensor] = {}
        self._names = {id(parameter): name for name, parameter in network.named_parameters()}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if (inputs := _INPUTS.get(func)) is not None and (name := self._names.get(id(args[1]))) is not None:
            found = inputs(*args, **(kwargs or {}))
            for part in found.split(_PIXELS_AT_ONCE, dim=1):
                values = part.double()
                self.sums[name] = self.sums.get(name, 0) + values.mT @ values
        return func(*args, **(kwargs or {}))


def _linear_inputs(x: Tensor, _weight: Tensor, _bias: Tensor | None = None) -> Tensor:
    return x.detach().reshape(1, -1, x.shape[-1])


def _conv2d_inputs(
    x: Tensor,
    weight: Tensor,
    _bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Return the values under the kernel, (G, P, I)."""
    columns = F.unfold(x.detach(), weight.shape[2:], dilation, padding, stride)  # (batch, G I, places)
    inputs: Tensor = columns.unflatten(1, (groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    return inputs


def _conv1d_inputs(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1,),
    padding: Any = (0,),
    dilation: Any = (1,),
    groups: int = 1,
) -> Tensor:
    """Take a sequence as an image of one line."""
    image = x.unsqueeze(2), weight.unsqueeze(2), bias
    return _conv2d_inputs(*image, (1, *stride), (0, *padding), (1, *dilation), groups)


_INPUTS: Mapping[Any, Callable[..., Tensor]] = {
    F.linear: _linear_inputs,
    F.conv1d: _conv1d_inputs,
    F.conv2d: _conv2d_inputs,
}


def null_space(covariance: Tensor, share: float) -> Tensor:
    """Return the projector onto the directions that hold next to nothing of the old features.

    Adam-NSCL takes the singular values up to a multiple of the smallest and finds by the share of the total that they
    hold whether the space is null enough (section 4.4). Where features are exactly dependent the smallest is rounding;
    so the share itself is the threshold here.

    Args:
        covariance: (G, I, I) float64, symmetric.
        share: the largest part of the old features' energy that the space may hold, 0 to 1; 0 is the exact null space.

    Returns:
        (G, I, I) float32.
    """
    energies, directions = torch.linalg.eigh(covariance)  # ascending
    held = energies.clamp(min=0).cumsum(-1)
    free = held <= max(share, _ROUNDING) * held[..., -1:]
    basis = directions * free.unsqueeze(-2)
    projector: Tensor = (basis @ basis.mT).float()
    return projector


class ProjectedUpdates:
    """Hooks that keep the steps of an optimizer in the null space."""

    def __init__(
        self,
        network: nn.Module,
        projectors: Mapping[str, Tensor] | None,
        fresh: Mapping[str, int],
        boost: float = 1.0,
    ) -> None:
        """Freeze the parameters that have nothing to move in.

        Args:
            network: whose parameters are stepped.
            projectors: by name of the parameter, of `null_space`; parameters without one are frozen. None lets all
                move freely.
            fresh: by name of the parameter, its first row that is new: nothing old depends on it, and it moves freely.
            boost: factor on the steps of fresh rows, which start from nothing.
        """
        self._projectors = projectors
        self._fresh = fresh
        self._boost = boost
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(projectors is None or name in projectors or name in fresh)
        held = fresh if projectors is None else projectors.keys() | fresh.keys()
        self._held = {name: parameter for name, parameter in network.named_parameters() if name in held}
        self._before: dict[str, Tensor] = {}

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Let an optimizer's steps be projected, weight decay and moments included."""
        optimizer.register_step_pre_hook(self._remember)
        optimizer.register_step_post_hook(self._project)

    def _remember(self, *_: Any) -> None:
        self._before = {name: parameter.detach().clone() for name, parameter in self._held.items()}

    @torch.no_grad()
    def _project(self, *_: Any) -> None:
        for name, parameter in self._held.items():
            before = self._before[name]
            rows = self._fresh.get(name, len(parameter))
            change = parameter - before
            change[rows:] *= self._boost
            if self._projectors is not None:
                change[:rows] = _projected(change[:rows], self._projectors.get(name))
            parameter.copy_(before + change)


def _projected(change: Tensor, projector: Tensor | None) -> Tensor:
    """Project a change (G O, …) of a weight, whose other axes are the I inputs of a group."""
    if projector is None:
        return torch.zeros_like(change)
    groups, inputs = projector.shape[:2]
    return (change.reshape(groups, -1, inputs) @ projector).reshape(change.shape)
