"""Quantisation-aware fine-tuning: weights of INT8 layers move until the rounded step says what the float32 one says.

No labels are asked for: the float32 step is the teacher, and any lines of the sensor will do. Rounding has no useful
gradient, so gradients pass it as if it were not there, but for values that saturate (the straight-through estimator;
Jacob et al., arXiv 1712.05877, section 3).

Shape letters: K lines in a block, W samples, I inputs and O outputs of a layer.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hyperline.bundle.card import Card
from hyperline.calibration.int8 import LARGEST
from hyperline.calibration.layers import Layer
from hyperline.calibration.lines import Lines
from hyperline.calibration.stream import blocks
from hyperline.errors import InputError
from hyperline.export.step import StreamingStep
from hyperline.train.models.mambamoe import MambaMoE
from hyperline.train.native_ops import fastest_ops

# Of so many blocks the last one judges and does not teach.
_HELD_BACK = 4
# Factor on the learning rate after an epoch that made the step worse than it was at the start: the rate that mends
# saturated values in ten epochs overshoots where only roundings are left to choose.
_CAUTION = 0.3
# Strips narrower than the line give more updates an epoch; the wider, the more of a line the router sees, as on board.
_STRIP_SAMPLES = 48

OnEpoch = Callable[[int, float], None]
Block = tuple[Tensor, Tensor]  # lines (K, W, bands) and valid (K, W)


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning made.

    Attributes:
        tensors: float32 weights and biases of the layers, by initializer of the float32 graph and in its shapes.
        losses: mean square of the difference between the rounded step's logits and the float32 step's on the lines held
            back, before the first epoch and after each.
        epoch: after which the weights were these, that of the least loss; 0 if none was better than the start.
    """

    tensors: dict[str, NDArray[np.float32]]
    losses: tuple[float, ...]
    epoch: int


def fine_tune(
    network: MambaMoE,
    model: onnx.ModelProto,
    card: Card,
    layers: Sequence[Layer],
    ranges: Mapping[str, float],
    lines: Lines,
    *,
    epochs: int = 10,
    learning_rate: float = 1e-4,
    seed: int = 0,
    threads: int = 1,
    on_epoch: OnEpoch | None = None,
) -> FineTuned:
    """Fit the layers that are to run in INT8 to being rounded; everything else stays as it is.

    The same arguments give the same result to the bit.

    Args:
        network: the trained network that the bundle was exported from; it is left as it is.
        model: the bundle's float32 graph.
        card: of the bundle.
        layers: those that run in INT8, of `find_layers` of this graph.
        ranges: by layer name, the magnitude at which its input saturates.
        lines: calibration lines, two blocks at least; their labels are not looked at.
        epochs: passes over the lines.
        learning_rate: of Adam at the start; falls to 0 as a cosine, and faster after an epoch that was too bold.
        seed: of the cuts across track and their order.
        threads: of torch.
        on_epoch: told each epoch done, and its loss on the lines held back.

    Raises:
        InputError: the network is not the bundle's, or there are fewer than two blocks of lines.
    """
    strip = [(torch.from_numpy(values), torch.from_numpy(valid)) for values, valid in blocks(lines, card.block_lines)]
    if len(strip) < 2:
        raise InputError(
            f"{lines.name}: fine-tuning needs {2 * card.block_lines} lines, a block to learn from and one to judge by; "
            f"it got {len(lines.valid)}. Give more lines, or export with fewer lines a block"
        )
    torch.set_num_threads(threads)
    teacher = StreamingStep(copy.deepcopy(network), card.block_lines, fastest_ops()).eval().requires_grad_(False)
    student = copy.deepcopy(teacher)
    tensors = _tensors(student, model, layers)
    rounding = Rounding({tensors[layer.weight_name]: ranges[layer.name] for layer in layers})
    trained = {name: tensors[name].requires_grad_() for name in _own_tensors(model, layers)}

    held_back = max(1, len(strip) // _HELD_BACK)
    judged = torch.cat([valid for _, valid in strip[-held_back:]])
    targets = _answers(teacher, card, strip)[-len(judged) :]

    def judge() -> float:
        with rounding:
            return _difference(_answers(student, card, strip)[-len(judged) :], targets, judged).item()

    losses = [judge()]
    best, best_epoch = _copies(trained), 0
    optimizer = torch.optim.Adam(trained.values())
    for epoch in range(1, epochs + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
        rng = np.random.default_rng([seed, epoch])
        _teach((teacher, student), card, strip[:-held_back], rounding, optimizer, rng)
        losses.append(judge())
        if losses[epoch] < losses[best_epoch]:
            best, best_epoch = _copies(trained), epoch
        elif not losses[epoch] <= losses[0]:  # worse, or no number at all
            _restore(trained, best)
            learning_rate *= _CAUTION
            optimizer = torch.optim.Adam(trained.values())
        if on_epoch:
            on_epoch(epoch, losses[epoch])
    return FineTuned(best, tuple(losses), best_epoch)


class Rounding(TorchFunctionMode):
    """While it is entered, products with certain weights are those of the INT8 layers: both factors rounded.

    It finds them by the tensor of the weight, so that the step itself need not know.
    """

    def __init__(self, ranges: Mapping[Tensor, float]) -> None:
        """Take note.

        Args:
            ranges: by weight, the magnitude at which what it multiplies saturates.
        """
        super().__init__()
        self.scales = {
            weight: torch.tensor(largest / LARGEST if largest > 0 else 1.0) for weight, largest in ranges.items()
        }

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        place = _PRODUCTS.get(func)
        if place is not None and (scale := self.scales.get(args[place.weight])) is not None:
            rounded = list(args)
            rounded[place.input] = round_to_int8(args[place.input], scale)
            rounded[place.weight] = round_weight(args[place.weight], place.output_axis)
            args = tuple(rounded)
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Place:
    """Where a product's arguments are, and the axis of the outputs in its weight."""

    input: int
    weight: int
    output_axis: int


_PRODUCTS: dict[Any, _Place] = {
    torch.addmm: _Place(input=1, weight=2, output_axis=1),
    F.linear: _Place(input=0, weight=1, output_axis=0),
    F.conv2d: _Place(input=0, weight=1, output_axis=0),
}


def round_to_int8(x: Tensor, scale: Tensor) -> Tensor:
    """Round x to multiples -128 to 127 of a scale that broadcasts, with straight-through gradients."""
    rounded: Tensor = _Round.apply(x, scale)  # type: ignore[no-untyped-call]
    return rounded


def round_weight(weight: Tensor, output_axis: int) -> Tensor:
    """Round a weight as `hyperline.calibration.int8.quantize_weight` does, with straight-through gradients."""
    others = [axis for axis in range(weight.ndim) if axis != output_axis]
    return round_to_int8(weight, _scale(weight.detach().abs().amax(others, keepdim=True)))


def _scale(largest: Tensor) -> Tensor:
    return torch.where(largest > 0, largest / LARGEST, 1.0)


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ratio = x / scale
        rounded = ratio.round().clamp_(-128, 127)
        ctx.save_for_backward((rounded - ratio).abs_() <= 0.5)
        return rounded.mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (told_apart,) = ctx.saved_tensors
        return gradient * told_apart, None


def _tensors(step: StreamingStep, model: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, Tensor]:
    """Return a step's tensors by initializer; those of the layers take the graph's values, which must be the same.

    Raises:
        InputError: they do not.
    """
    tensors = {name.removeprefix("network."): t for name, t in (*step.named_parameters(), *step.named_buffers())}
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name in _own_tensors(model, layers):
        ours, theirs = tensors.get(name), values[name]
        # folding multiplies in float64 and rounds: another machine may differ in the last place
        if ours is None or ours.shape != theirs.shape or not np.allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-7):
            raise InputError(
                f"{name} is not the same in the run and in the bundle: name the run folder that the bundle was "
                "exported from, or export it again"
            )
        ours.copy_(torch.from_numpy(theirs.copy()))
    return tensors


def _own_tensors(model: onnx.ModelProto, layers: Sequence[Layer]) -> list[str]:
    """Return the initializers that belong to one layer alone; the exporter merges those of equal values."""
    readers = Counter(name for node in model.graph.node for name in node.input)
    known = {tensor.name for tensor in model.graph.initializer}
    names = dict.fromkeys(name for layer in layers for name in (layer.weight_name, layer.bias))
    return [name for name in names if name in known and readers[name] == 1]


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


@torch.no_grad()
def _restore(tensors: Mapping[str, Tensor], values: Mapping[str, NDArray[np.float32]]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(torch.from_numpy(values[name]))


class _Stream:
    """A step and the state that it carries along a strip."""

    def __init__(self, step: StreamingStep, card: Card, samples: int) -> None:
        self.step = step
        self.state = [torch.zeros(one.shape_for(samples, card.sample_multiple)) for one in card.states]

    def answer(self, block: Block) -> Tensor:
        """Take in a block and return its logits (K, W, classes)."""
        logits: Tensor
        _, _, logits, _, _, *following = self.step(*block, *self.state)
        self.state = [tensor.detach() for tensor in following]
        return logits


@torch.no_grad()
def _answers(step: StreamingStep, card: Card, strip: Sequence[Block]) -> Tensor:
    """Stream whole lines, as on board; returns logits (line, W, classes)."""
    stream = _Stream(step, card, strip[0][1].shape[1])
    return torch.cat([stream.answer(block) for block in strip])


def _teach(
    steps: tuple[StreamingStep, StreamingStep],
    card: Card,
    strip: Sequence[Block],
    rounding: Rounding,
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
) -> None:
    """Let a student follow its teacher along a strip, cut across track into narrower ones that run side by side.

    Each update looks at one block of one of them; both steps carry their own state, and no gradient goes back past it.
    """
    cuts = _cuts(strip[0][1].shape[1], card.sample_multiple, rng)
    streams = [tuple(_Stream(step, card, cut.stop - cut.start) for step in steps) for cut in cuts]
    for values, valid in strip:
        for index in rng.permutation(len(cuts)):
            block = values[:, cuts[index]], valid[:, cuts[index]]
            teacher, student = streams[index]
            with torch.no_grad():
                target = teacher.answer(block)
            with rounding:
                answer = student.answer(block)
            optimizer.zero_grad()
            _difference(answer, target, block[1]).backward()
            optimizer.step()


def _cuts(samples: int, multiple: int, rng: np.random.Generator) -> list[slice]:
    """Cut a line into strips at a random offset, so that no pixel is always at an edge."""
    half = _STRIP_SAMPLES // 2 // multiple * multiple
    inner = range(half + int(rng.integers(_STRIP_SAMPLES // multiple)) * multiple, samples - half + 1, _STRIP_SAMPLES)
    edges = [0, *inner, samples]
    return [slice(left, right) for left, right in itertools.pairwise(edges)]


def _difference(answer: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return the mean square of the difference of two steps' logits (..., W, classes) in the valid pixels (..., W).

    Not of their probabilities: those say nothing where the teacher is sure, which is nearly everywhere, and the
    few pixels left teach too little.
    """
    squares = (answer - target).square().mean(-1)
    return (squares * valid).sum() / valid.sum().clamp(min=1)
