"""How much every value of a strip added to a score."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperline.errors import HyperlineError
from hyperline.train.explain.rules import Rules
from hyperline.train.native_ops import fastest_ops
from hyperline.train.network import Network, pad_to_multiple

# Float32 leaves a millionth; a layer without a rule leaves whole logits.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Relevance:
    """What a score is made of: ``values.sum() + biases + carried`` is ``score``, up to rounding.

    Attributes:
        values: (T, W, bands) float32, of each value's difference from the mean spectrum of the training strip; exactly
            0 in pixels that are not valid and, for a pixel's score, past its block.
        biases: of all biases in the network, which no input owns.
        carried: of the state from before the strip.
        score: what was explained.
    """

    values: Tensor
    biases: float
    carried: float
    score: float


class ExplainedStrip:
    """A strip that went through a network by the rules of train/explain/rules.py; it may be asked many times.

    It keeps the activations of the whole strip in memory, as a step of training does.

    Attributes:
        logits: (T, W, classes), the network's own up to rounding.
        state: carried tensors after the last block.
    """

    def __init__(
        self,
        network: Network,
        lines: Tensor,
        valid: Tensor,
        block_lines: int,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Send the strip through a copy of the network.

        Args:
            network: any; it is left as it is.
            lines: (T, W, bands) float32.
            valid: (T, W) bool.
            block_lines: K; 0 makes the whole strip one block.
            state: what a call on the lines before returned; None starts a strip.
        """
        self._rules = Rules(fastest_ops())
        explained = copy.deepcopy(network).eval().requires_grad_(False)
        explained.use_ops(self._rules)
        padded, padded_valid = pad_to_multiple(lines, valid, block_lines)
        self._mean = network.mnf_mean
        self._lines = padded.requires_grad_()
        self._state = {name: tensor.detach().clone().requires_grad_() for name, tensor in (state or {}).items()}
        with torch.enable_grad(), self._rules:
            prediction = explained(self._lines, padded_valid, block_lines or len(padded), self._state or None)
        self._scores = prediction.logits[0][: lines.shape[0], : lines.shape[1]]
        self.logits = self._scores.detach()
        self.state = {name: tensor.detach() for name, tensor in prediction.state.items()}
        self._name = type(network).__name__

    def relevance(self, weights: Tensor) -> Relevance:
        """Explain the score that is the sum of all logits times ``weights``.

        Args:
            weights: (T, W, classes); a single 1 asks for the logit of a class in a pixel.

        Raises:
            HyperlineError: the relevance is not all of the score: the network has a layer that no rule makes linear.
        """
        score = (self._scores * weights).sum()
        carried = [*self._state.values(), *self._rules.carried]
        leaves = [self._lines, *self._rules.biases, *carried]
        found = torch.autograd.grad(score, leaves, retain_graph=True, allow_unused=True)
        gradients = [torch.zeros_like(leaf) if one is None else one for leaf, one in zip(leaves, found, strict=True)]
        height, width = self.logits.shape[:2]
        values = (gradients[0] * (self._lines.detach() - self._mean))[:height, :width]
        parts = [
            (gradient * leaf.detach()).sum(dtype=torch.float64).item()
            for gradient, leaf in zip(gradients[1:], leaves[1:], strict=True)
        ]
        biases = len(self._rules.biases)
        made = Relevance(values, sum(parts[:biases]), sum(parts[biases:]), score.item())
        _require_all(made, self._name)
        return made


def _require_all(made: Relevance, network: str) -> None:
    shares = made.values.sum(dtype=torch.float64).item(), made.biases, made.carried
    if not abs(sum(shares) - made.score) <= _TOLERANCE * max(abs(made.score), *map(abs, shares)):
        raise HyperlineError(
            f"the relevance found adds up to {sum(shares):.6g}, the score of {network} is {made.score:.6g}: "
            "a layer of this network has no rule in train/explain/rules.py, and cannot be explained"
        )
