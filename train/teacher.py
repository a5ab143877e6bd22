"""What shallow classifiers say of every pixel of the training strips: a teacher for the pixels that nobody labelled.

Few labels leave a network much freedom, and what it makes of it depends on its draws. Shallow classifiers have less:
which of them suits a scene, its spectra alone or its surroundings too, a cross-validation on the training labels tells
well enough. Their opinions, weighted by it, are a part of what a network is asked for on unlabelled pixels, so that it
starts from the best of them and has its own reasons to differ (bench/tuning.md). This is distillation (Hinton et al.,
arXiv 1503.02531) from models that need no deployment: they look past the block, at the whole strip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.scenes import Scene
from hyperline.train.baselines import Baseline, fit_baseline
from hyperline.train.baselines.shallow import ShallowClassifier
from hyperline.train.held_out import held_out_accuracy

TEACHERS: tuple[Baseline, ...] = ("svm-spectra", "svm-mnf", "lda-mnf")
# A classifier that is so much more accurate on held-out labels has e times the say.
_ACCURACY_STEP = 1 / 30
# Turns the scores of support vectors, which lie about 1 apart, into probabilities.
_SHARPNESS = 2.0
# Features of larger strips do not fit the memory of a small machine.
_MOST_PIXELS = 2**20


def shallow_opinions(
    strips: Sequence[tuple[Scene, NDArray[np.uint8]]], classes: int, seed: int
) -> list[NDArray[np.float32] | None]:
    """Train shallow classifiers and mix what they say of every pixel.

    Args:
        strips: scenes, each with its training labels, (line, sample) class ids, 0 elsewhere.
        classes: number of them.
        seed: of their draws, where they have any.

    Returns:
        (line, sample, class) probabilities for each strip; None for one of more than a million pixels, and for all
        where the labels of the others are of one class.

    Raises:
        InputError: a scene is too small for its bands, or no valid pixel trains.
    """
    small = [(scene, labels) for scene, labels in strips if scene.lines * scene.samples <= _MOST_PIXELS]
    taught = {one for _, labels in small for one in np.unique(labels[labels > 0])}
    if len(taught) < 2:  # nothing to tell apart
        return [None for _ in strips]
    fitted = [fit_baseline(name, small, classes, None, seed).classifier for name in _able(small)]
    weights = np.array([_weight(one, small) for one in fitted])  # type: ignore[arg-type]
    weights /= weights.sum()
    opinions: list[NDArray[np.float32] | None] = []
    for scene, _ in strips:
        if scene.lines * scene.samples > _MOST_PIXELS:
            opinions.append(None)
            continue
        said = [_probabilities(one, scene, classes) for one in fitted]  # type: ignore[arg-type]
        opinions.append(np.tensordot(weights.astype(np.float32), np.stack(said), 1))
    return opinions


def _able(strips: Sequence[tuple[Scene, NDArray[np.uint8]]]) -> list[Baseline]:
    """Leave out what so few labels cannot train: a discriminant needs more labels than classes, in every fold too."""
    counts = np.bincount(np.concatenate([labels[labels > 0] for _, labels in strips]))
    shared = counts[counts > 1]
    enough = shared.sum() > 2 * len(shared)
    return [name for name in TEACHERS if enough or not name.startswith("lda")]


def _weight(fitted: ShallowClassifier, strips: Sequence[tuple[Scene, NDArray[np.uint8]]]) -> float:
    labelled = [(scene, labels) for scene, labels in strips if labels.any()]
    seen = np.concatenate([fitted.features(scene)[labels > 0] for scene, labels in labelled])
    classes = np.concatenate([labels[labels > 0] for _, labels in labelled])
    return math.exp(held_out_accuracy(fitted.model, seen, classes) / _ACCURACY_STEP)


def _probabilities(fitted: ShallowClassifier, scene: Scene, classes: int) -> NDArray[np.float32]:
    """Return (line, sample, class); of support vectors the softmax of their scores."""
    seen = fitted.features(scene)
    model: Any = fitted.model
    flat = seen.reshape(-1, seen.shape[-1])
    if hasattr(model, "predict_proba"):
        said = model.predict_proba(flat)
    else:
        scores = model.decision_function(flat)
        if scores.ndim == 1:  # of two classes: how much the second is ahead
            scores = np.stack([-scores, scores], axis=-1)
        odds = np.exp(_SHARPNESS * (scores - scores.max(-1, keepdims=True)))
        said = odds / odds.sum(-1, keepdims=True)
    probabilities = np.zeros((len(flat), classes), np.float32)
    probabilities[:, model.classes_ - 1] = said  # a class that no pixel trains has no column
    return probabilities.reshape(*seen.shape[:2], classes)
