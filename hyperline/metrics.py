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
