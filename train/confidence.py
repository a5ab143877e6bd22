"""Confidence that means what it says: a temperature, fitted on labels that the network was not trained on.

Source: Guo et al. (2017), On calibration of modern neural networks, arXiv 1706.04599, section 4.2: the logits are
divided by one number. No label changes by it.

The network that flies is trained on every label. The temperature is that of an auxiliary network, trained the same way
on four fifths of them, on the last fifth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hyperline.errors import InputError
from hyperline.scenes import Strips
from hyperline.train.network import MULTIPLE, Network, NetworkConfig
from hyperline.train.trainer import OnEpoch, TrainConfig, predict_logits, start, train

# One label of so many is held out, of every class that has at least _FEWEST.
HELD_OUT_OF = 5
_FEWEST = 3
# Of the epochs: bench/confidence.py has what half and all of them give.
AUXILIARY_SHARE = 0.5
_TEMPERATURES = np.geomspace(0.1, 10, 1001)
# Standard deviation of the logarithm of the temperature before a label was seen.
_EXPECTED = 0.5
# Of known pixels that may be called unknown.
UNKNOWN_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def hold_out(train: NDArray[np.uint8], seed: int, fold: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Divide training pixels into those that an auxiliary network sees, and those held out from it.

    Args:
        train: class ids of the training pixels, 0 elsewhere; of any shape.
        seed: of the draw.
        fold: 0 to 4; folds of one seed hold out different pixels of a class, as far as it has as many.

    Returns:
        Two maps like ``train``. Of every class with three labels or more, a fifth and at least one is held out; a class
        with fewer stays whole.
    """
    rng = np.random.default_rng([seed, 0x7E3])
    held = np.zeros_like(train)
    for number in np.unique(train[train > 0]):
        pixels = rng.permutation(np.flatnonzero(train == number))
        if len(pixels) >= _FEWEST:
            count = max(1, round(len(pixels) / HELD_OUT_OF))
            held.flat[np.roll(pixels, -fold * count)[:count]] = number
    return np.where(held > 0, 0, train).astype(train.dtype), held


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Find the number that logits are to be divided by, for the labels to be most likely.

    Held-out labels are few, and often all of them are right: alone they would ask for a certainty without end. The
    logarithm of the temperature is therefore expected to be normal about 0, and labels have to say otherwise.

    Args:
        logits: (pixels, classes).
        labels: (pixels,) class ids from 1.

    Returns:
        The temperature, within 0.1 … 10, to half a per cent.

    Raises:
        InputError: there is no pixel.
    """
    if not len(labels):
        raise InputError("there is no held-out label to fit a temperature on")
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    of_label = np.take_along_axis(scores, labels[:, None].astype(np.int64) - 1, axis=1).sum()
    surprise = [
        np.log(np.exp(scores / one).sum(axis=1)).sum() - of_label / one + (np.log(one) / _EXPECTED) ** 2 / 2
        for one in _TEMPERATURES
    ]
    return float(_TEMPERATURES[np.argmin(surprise)])


def answer_layer(network: Network) -> nn.Module:
    """Find the last linear layer of the finest head: the one in proportion to which the answer's logits are.

    It is known by its deed, whatever the network: with its weight and bias halved, so are the logits, to the bit.

    Args:
        network: in evaluation mode; left as it is.

    Raises:
        InputError: the logits are in proportion to no single layer of the network.
    """
    generator = torch.Generator().manual_seed(0)
    lines = torch.randn(MULTIPLE, MULTIPLE, network.config.bands, generator=generator)
    lines = lines + network.mnf_mean
    valid = torch.ones(MULTIPLE, MULTIPLE, dtype=torch.bool)
    with torch.no_grad():
        whole = network(lines, valid, MULTIPLE).logits[0]
        for module in reversed(list(network.modules())):
            weight = getattr(module, "weight", None)
            if not isinstance(weight, nn.Parameter) or weight.shape[0] != network.config.classes:
                continue
            _scale(module, 0.5)
            half = network(lines, valid, MULTIPLE).logits[0]
            _scale(module, 2.0)
            if torch.equal(half, whole / 2):
                return module
    raise InputError(
        f"the logits of {type(network).__name__} are in proportion to no layer of it, and no temperature can be given "
        "to it; train without --temperature"
    )


def divide_logits(network: Network, temperature: float) -> None:
    """Divide the logits of the finest head, by dividing the weights of its last layer; labels stay what they are.

    Args:
        network: in evaluation mode; changed in place.
        temperature: above 0.

    Raises:
        InputError: see `answer_layer`.
    """
    _scale(answer_layer(network), 1 / temperature)


@torch.no_grad()
def _scale(layer: nn.Module, factor: float) -> None:
    for parameter in layer.parameters(recurse=False):
        parameter.mul_(factor)


@dataclass(frozen=True)
class HeldOut:
    """What an auxiliary training gives.

    Attributes:
        temperature: that makes the held-out labels most likely.
        pixels: held out; 0 where no class has labels to spare, and the temperature is 1.
        epochs: of the auxiliary training.
    """

    temperature: float
    pixels: int
    epochs: int


def held_out_temperature(
    strips: Strips, model: NetworkConfig, config: TrainConfig, block_lines: int, on_epoch: OnEpoch | None
) -> HeldOut:
    """Train an auxiliary network on four fifths of the labels, and fit the temperature on the rest.

    Args:
        strips: cubes, each with its training labels, which are divided.
        model: of the network that flies.
        config: it is trained with; the auxiliary one has `AUXILIARY_SHARE` of the epochs.
        block_lines: K, in which the held-out pixels are streamed.
        on_epoch: told each epoch done and its curves.
    """
    # Over all strips: each by itself may have too few labels of a class to hold one out.
    ends = np.cumsum([labels.size for _, labels in strips])[:-1]
    seen, held_out = hold_out(np.concatenate([labels.ravel() for _, labels in strips]), config.seed)
    divided = [
        (left.reshape(labels.shape), held.reshape(labels.shape))
        for (_, labels), left, held in zip(strips, np.split(seen, ends), np.split(held_out, ends), strict=True)
    ]
    if not held_out.any():
        return HeldOut(1.0, 0, 0)
    shorter = replace(config, epochs=auxiliary_epochs(config.epochs))
    taught = [(scene, labels) for (scene, _), (labels, _) in zip(strips, divided, strict=True)]
    network = train(start(taught, model, shorter), taught, shorter, on_epoch=on_epoch)
    answers, truths = [], []
    for (scene, _), (_, held) in zip(strips, divided, strict=True):
        if held.any():
            logits = predict_logits(network, scene, block_lines)
            valid = (held > 0) & ~np.isnan(logits[..., 0])
            answers.append(logits[valid])
            truths.append(held[valid])
    truth = np.concatenate(truths)
    if not truth.size:
        return HeldOut(1.0, 0, shorter.epochs)
    return HeldOut(fit_temperature(np.concatenate(answers), truth), truth.size, shorter.epochs)


def energy(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return -log Σ exp(logit), high where the network claims no class with any force.

    Source: Liu et al. (2020), Energy-based out-of-distribution detection, arXiv 2010.03759. What it tells apart, and
    what else was tried: docs/results/unknown.md.

    Args:
        logits: (..., classes).
    """
    scores = logits.astype(np.float64)
    highest = scores.max(-1)
    return np.asarray(-highest - np.log(np.exp(scores - highest[..., None]).sum(-1)))


def unknown_scores(logits: NDArray[np.floating]) -> dict[str, Any] | None:
    """Tell above which energy a given share of known pixels lies.

    Args:
        logits: (pixels, classes) of labelled pixels that the network was not trained on; what their labels are is not
            looked at.

    Returns:
        ``score``, ``rates`` rising, ``scores``, the threshold of each, and ``pixels``; None where there are too few
        pixels for two rates.
    """
    pixels = len(logits)
    rates = [rate for rate in UNKNOWN_RATES if rate * pixels >= 1]
    if len(rates) < 2:
        return None
    # no more than the rate lies above
    scores = np.quantile(energy(logits), 1 - np.array(rates), method="higher")
    return {"score": "energy", "rates": rates, "scores": scores.tolist(), "pixels": pixels}


def auxiliary_epochs(epochs: int) -> int:
    """Return the epochs of the auxiliary training beside one of ``epochs``."""
    return max(1, round(epochs * AUXILIARY_SHARE))


def labels_and_confidence(logits: NDArray[np.floating]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return what a step says of logits: the class, and the softmax of it; both 0 where the logits are no numbers.

    Args:
        logits: (..., classes), of `predict_logits`.
    """
    valid = ~np.isnan(logits[..., 0])
    scores = np.where(valid[..., None], logits, 0).astype(np.float64)
    labels = np.where(valid, scores.argmax(-1) + 1, 0).astype(np.uint8)
    odds = np.exp(scores - scores.max(-1, keepdims=True)).sum(-1)
    return labels, np.where(valid, 1 / odds, 0.0)
