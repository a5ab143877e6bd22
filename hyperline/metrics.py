"""Accuracy of a class map against the truth: OA, AA, Cohen's κ, per class, confusion.

Source: Congalton (1991), A review of assessing the accuracy of classifications of remotely sensed data,
Remote Sensing of Environment 37(1), 35–46.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError


def confusion_matrix(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count the labelled pixels by true and predicted class.

    Args:
        truth: class ids 1 … ``classes`` of any integer dtype and shape; 0 = unlabelled, not counted.
        predicted: class ids of the same shape; 0 = no class given.
        classes: number of classes.

    Returns:
        (classes, classes + 1) int64. Row r is true class r + 1, column c is predicted class c + 1; the last
        column holds the pixels that were given no class, which are therefore wrong. The diagonal holds the
        right ones, ``[:, :classes]`` is the usual square matrix.

    Raises:
        InputError: the maps differ in shape, or hold ids outside 0 … ``classes``.
    """
    if truth.shape != predicted.shape:
        raise InputError(f"the truth has shape {truth.shape}, the prediction {predicted.shape}; they must match")
    labelled = truth != 0
    rows, columns = truth[labelled].astype(np.int64), predicted[labelled].astype(np.int64)
    for what, ids in (("truth", rows), ("prediction", columns)):
        if ids.size and not (ids.min() >= 0 and ids.max() <= classes):
            raise InputError(f"the {what} holds class ids {ids.min()} to {ids.max()}; there are {classes} classes")
    columns = np.where(columns == 0, classes, columns - 1)
    width = classes + 1
    return np.bincount((rows - 1) * width + columns, minlength=classes * width).reshape(classes, width)


@dataclass(frozen=True)
class Metrics:
    """Accuracy as fractions.

    Attributes:
        oa: overall accuracy, the fraction of labelled pixels given their true class.
        aa: average accuracy, the mean of ``per_class`` over the classes that the truth holds.
        kappa: Cohen's κ, agreement beyond chance; 1.0 where truth and prediction are one same class
            throughout, for which the formula is 0/0.
        per_class: fraction right of class 1, 2, …; None for a class absent from the truth.
        pixels: number of labelled pixels.
        confusion: rows of :func:`confusion_matrix`.
    """

    oa: float
    aa: float
    kappa: float
    per_class: tuple[float | None, ...]
    pixels: int
    confusion: tuple[tuple[int, ...], ...]

    @classmethod
    def from_maps(cls, truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> Metrics:
        """Compare two maps of class ids; arguments and errors as for :func:`confusion_matrix`.

        Raises:
            InputError: also where the truth has no labelled pixel.
        """
        return cls.from_confusion(confusion_matrix(truth, predicted, classes))

    @classmethod
    def from_confusion(cls, confusion: NDArray[np.int64]) -> Metrics:
        """Score a confusion matrix, such as the sum over the blocks of a strip.

        Args:
            confusion: (classes, classes + 1), as :func:`confusion_matrix` gives it.

        Raises:
            InputError: it holds no pixel.
        """
        of_class = confusion.sum(axis=1)
        pixels = int(of_class.sum())
        if pixels == 0:
            raise InputError("the truth has no labelled pixel; accuracy needs at least one")
        right = np.diagonal(confusion)
        per_class = tuple(int(hit) / int(all_) if all_ else None for hit, all_ in zip(right, of_class, strict=True))
        present = [accuracy for accuracy in per_class if accuracy is not None]
        observed = int(right.sum()) / pixels
        # Whole numbers throughout: the chance of agreement is exactly 1 only where it should be.
        chance = int(of_class @ confusion[:, :-1].sum(axis=0)) / pixels**2
        return cls(
            oa=observed,
            aa=sum(present) / len(present),
            kappa=1.0 if chance == 1.0 else (observed - chance) / (1.0 - chance),
            per_class=per_class,
            pixels=pixels,
            confusion=tuple(tuple(row) for row in confusion.tolist()),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, ready for JSON."""
        return asdict(self)


# Guo et al. (2017), section 5.
CONFIDENCE_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """How often labels of a given confidence are right, in bins of equal width over 0 … 1.

    Source: Guo et al. (2017), On calibration of modern neural networks, arXiv 1706.04599, section 2.

    Attributes:
        pixels: labelled pixels of each bin.
        confidence: their mean confidence; 0 in an empty bin.
        accuracy: the fraction of them that is right; 0 in an empty bin.
    """

    pixels: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]

    @classmethod
    def from_maps(cls, truth: NDArray[Any], predicted: NDArray[Any], confidence: NDArray[np.floating]) -> Reliability:
        """Compare a class map and its confidence with the truth.

        Args:
            truth: class ids of any integer dtype and shape; 0 = unlabelled, not counted.
            predicted: class ids of the same shape. Pixels that were given no class, 0, are left out.
            confidence: probability of the predicted class, of the same shape.

        Raises:
            InputError: the maps differ in shape, no labelled pixel was given a class, or a confidence of one is not
                between 0 and 1.
        """
        if not truth.shape == predicted.shape == confidence.shape:
            raise InputError(
                f"the truth has shape {truth.shape}, the prediction {predicted.shape} and its confidence "
                f"{confidence.shape}; they must match"
            )
        judged = (truth != 0) & (predicted != 0)
        sure = confidence[judged].astype(np.float64)
        if not sure.size:
            raise InputError("no labelled pixel was given a class; a confidence is judged on at least one")
        # a softmax in float32 may be above 1 by a rounding
        if not ((sure >= 0) & (sure <= 1 + 1e-5)).all():
            raise InputError("a confidence is not between 0 and 1; it must be the probability of the class")
        right = truth[judged] == predicted[judged]
        bins = np.minimum((sure * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)
        pixels, confident, correct = (
            np.bincount(bins, weights, CONFIDENCE_BINS) for weights in (np.ones(sure.size), sure, right)
        )
        filled = np.maximum(pixels, 1)
        return cls(
            tuple(pixels.astype(int).tolist()),
            tuple((confident / filled).tolist()),
            tuple((correct / filled).tolist()),
        )

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of a bin's accuracy from its confidence, by its pixels."""
        pixels = np.array(self.pixels)
        return float(pixels @ np.abs(np.subtract(self.accuracy, self.confidence)) / pixels.sum())


def roc_curve(known: NDArray[np.floating], unknown: NDArray[np.floating]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Trace what a threshold on a score tells apart, from the highest threshold to the lowest.

    Args:
        known: (pixels,) scores of what should stay below the threshold.
        unknown: (pixels,) scores of what should be above it.

    Returns:
        The fractions of ``known`` and of ``unknown`` that are at or above each threshold, from 0 to 1 both. The area
        under the second over the first is the chance that an unknown pixel scores above a known one, a tie counting
        half (Fawcett 2006, An introduction to ROC analysis).

    Raises:
        InputError: one of them is empty, or a score is no number.
    """
    if not known.size or not unknown.size:
        raise InputError("a score tells nothing apart without a pixel of either kind")
    scores = np.concatenate([known, unknown]).astype(np.float64)
    if np.isnan(scores).any():
        raise InputError("a score is no number")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)  # of each run of equal scores
    above = np.cumsum(order >= known.size)[last]
    false, true = (last + 1 - above) / known.size, above / unknown.size
    return np.append(0.0, false), np.append(0.0, true)


def auroc(known: NDArray[np.floating], unknown: NDArray[np.floating]) -> float:
    """Return the area under `roc_curve`: 1 where the score tells all apart, 0.5 where it tells nothing."""
    false, true = roc_curve(known, unknown)
    return float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))
