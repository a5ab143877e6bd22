"""Pixels unlike anything that the model was trained on: a class of their own in the map, beyond the model's.

Source: Liu et al. (2020), Energy-based out-of-distribution detection, arXiv 2010.03759: the energy, -log Σ exp(logit),
is high where no class is claimed with any force. It needs no output that graphs do not have.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle.card import Card
from hyperline.classes import UNKNOWN
from hyperline.errors import InputError
from hyperline.runtime.engines import Outputs
from hyperline.scenes.labels import MAX_CLASSES


def card_of_map(card: Card) -> Card:
    """Return a card that names the unknown as the class after the model's."""
    return card.model_copy(update={"class_names": (*card.class_names, UNKNOWN)})


class UnknownPixels:
    """Marks the pixels of a block whose energy is above the threshold.

    Attributes:
        rate: of known pixels that may be called unknown.
        threshold: the energy above which a pixel is.
        label: of such a pixel: the number of the model's classes and one.
    """

    def __init__(self, card: Card, rate: float, padded_samples: int) -> None:
        """Fix the threshold and allocate everything.

        Args:
            card: of the model.
            rate: of known pixels that may be called unknown.
            padded_samples: samples of a block.

        Raises:
            InputError: the card does not say from which score on a pixel is unknown, or not at this rate, or the model
                leaves no number for one more class.
        """
        self.rate, self.threshold = rate, unknown_threshold(card, rate)
        self._classes = classes = len(card.class_names)
        self.label = classes + 1
        shape = (card.block_lines, padded_samples)
        self._first = np.arange(shape[0] * shape[1], dtype=np.intp).reshape(shape) * classes
        self._at = np.empty(shape, np.intp)
        self._score = np.empty(shape, np.float32)
        self._log = np.empty(shape, np.float32)
        self._unknown = np.empty(shape, bool)
        self._labels = np.empty(shape, np.uint8)

    def mark(self, outputs: Outputs) -> tuple[Outputs, int]:
        """Give the pixels of a block that are unknown their label.

        Args:
            outputs: of the engine; left as they are.

        Returns:
            The same with other labels, which hold until the next block, and how many pixels are unknown. Pixels
            that are not valid stay without a class.
        """
        labels = outputs.labels
        # log Σ exp(logits) = the label's logit less the logarithm of its softmax, which is the confidence.
        np.add(self._first, labels, out=self._at)
        np.subtract(self._at, labels > 0, out=self._at)
        np.take(outputs.logits.reshape(-1), self._at, out=self._score, mode="clip")
        with np.errstate(divide="ignore", invalid="ignore"):  # pixels without a class have no confidence
            np.log(outputs.confidence, out=self._log)
            np.subtract(self._log, self._score, out=self._score)
            np.greater(self._score, np.float32(self.threshold), out=self._unknown)
        np.logical_and(self._unknown, labels > 0, out=self._unknown)
        np.copyto(self._labels, labels)
        self._labels[self._unknown] = self.label
        return replace(outputs, labels=self._labels), int(np.count_nonzero(self._unknown))

    def known(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return labels in the model's classes, 0 for the unknown: to be judged, they were given none."""
        return np.where(labels == self.label, 0, labels).astype(np.uint8)


def unknown_threshold(card: Card, rate: float) -> float:
    """Return the energy above which so many known pixels are called unknown.

    Raises:
        InputError: see `UnknownPixels`.
    """
    table = card.confidence.unknown if card.confidence else None
    if table is None:
        raise InputError(
            f"{card.name} does not say from which score on a pixel is unknown; train and export it again with this "
            "release, or leave out --unknown"
        )
    if len(card.class_names) >= MAX_CLASSES:
        raise InputError(f"{card.name} has {len(card.class_names)} classes and leaves no number for the unknown")
    if UNKNOWN in (name.casefold() for name in card.class_names):
        raise InputError(f"{card.name} has a class {UNKNOWN!r} of its own, which --unknown would be taken for")
    if not table.rates[0] <= rate <= table.rates[-1]:
        raise InputError(
            f"{card.name} knows the score of {table.rates[0]:g} to {table.rates[-1]:g} of the known pixels, from the "
            f"{table.pixels} that it was not trained on; {rate:g} is outside"
        )
    return float(np.interp(rate, table.rates, table.scores))
