"""How well a classifier tells labels that it was not trained on, from the training labels alone.

Labels drawn as polygons come in patches, and a pixel says little that the one beside it has not said: held out one by
one, anything that sees a pixel's surroundings tells all of them. So patches are held out whole.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hyperline.scenes import Strips

FOLDS = 3
_REPEATS = 5
# So few patches are left out one by one: a fold less they would not train a classifier that all of them do.
_FEW_PATCHES = 60
# Of a class; more of them take time and choose no better.
_MOST_LABELS = 50


def label_patches(strips: Strips) -> NDArray[np.intp]:
    """Say which training labels belong together: those of one class that touch, also at a corner.

    A class that has but one patch is cut in two across its longer side.

    Returns:
        (label,) ids of patches from 0, strip by strip in line order.
    """
    found: list[NDArray[np.intp]] = []
    count = 0
    for _, labels in strips:
        patches = np.zeros(labels.shape, np.intp)
        for one in np.unique(labels[labels > 0]):
            places = labels == one
            numbered, fresh = ndimage.label(places, structure=np.ones((3, 3)))
            patches[places] = numbered[places] + count - 1
            count += fresh
        found.append(patches)
    classes = np.concatenate([labels[labels > 0] for _, labels in strips])
    ids = np.concatenate([patches[labels > 0] for patches, (_, labels) in zip(found, strips, strict=True)])
    places = np.concatenate([np.argwhere(labels > 0) for _, labels in strips])
    for one in np.unique(classes):
        own = np.flatnonzero(classes == one)
        if len(own) > 1 and len(np.unique(ids[own])) == 1:
            along = places[own, np.argmax(np.ptp(places[own], axis=0))]
            ids[own[np.argsort(along, kind="stable")[len(own) // 2 :]]] = count
            count += 1
    return ids


def divide(classes: NDArray[np.uint8], patches: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Divide labels into `FOLDS` parts, whole patches, of every class as many as can be.

    Returns:
        (label,) number of the part.
    """
    _, first, patch_of = np.unique(patches, return_index=True, return_inverse=True)
    parts = np.zeros(len(first), np.intp)
    for one in np.unique(classes):
        own = np.flatnonzero(classes[first] == one)
        parts[rng.permutation(own)] = np.arange(len(own)) % FOLDS
    return parts[patch_of]


def fitted(model: Any, features: NDArray[np.float64], classes: NDArray[np.uint8]) -> Any:
    """Train a classifier of scikit-learn on (label, feature) and (label,) class ids, and return it."""
    with warnings.catch_warnings():
        # a class of one label has no covariance but the shrinkage target
        warnings.filterwarnings("ignore", "Only one sample available", UserWarning)
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        return model.fit(features, classes)


def held_out_accuracy(
    model: Any, features: NDArray[np.float64], classes: NDArray[np.uint8], patches: NDArray[np.intp]
) -> float:
    """Return the accuracy on held-out patches, each by itself or in repeated folds; 0 where nothing can be held out.

    Args:
        model: a classifier of scikit-learn; it is left as it is.
        features: (label, feature).
        classes: (label,) class ids.
        patches: (label,) of `label_patches`.
    """
    rng = np.random.default_rng(0)
    chosen = _some(classes, patches, rng)
    if len(np.unique(classes[chosen])) < 2:
        return 0.0
    features, classes, patches = features[chosen], classes[chosen], patches[chosen]
    most = max(len(np.unique(patches[classes == one])) for one in np.unique(classes))
    if len(np.unique(patches)) <= _FEW_PATCHES or most < FOLDS:
        divisions = [patches]
    else:
        divisions = [divide(classes, patches, rng) for _ in range(_REPEATS)]
    right = sum(_right(model, features, classes, parts) for parts in divisions)
    return right / (len(divisions) * len(classes))


def _some(classes: NDArray[np.uint8], patches: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Choose the labels that judge: of each class that has two patches, some of some of these."""
    chosen = []
    for one in np.unique(classes):
        own, sizes = np.unique(patches[classes == one], return_counts=True)
        if len(own) < 2:  # it cannot be on both sides
            continue
        order = rng.permutation(len(own))
        before = np.cumsum(sizes[order]) - sizes[order]
        # two at least, however large the first is; and of each no more than its share
        kept = own[order[(before < _MOST_LABELS) | (np.arange(len(own)) < 2)]]
        share = max(1, _MOST_LABELS // len(kept))
        chosen += [rng.permutation(np.flatnonzero(patches == patch))[:share] for patch in kept]
    return np.concatenate(chosen) if chosen else np.zeros(0, np.intp)


def _right(model: Any, features: NDArray[np.float64], classes: NDArray[np.uint8], parts: NDArray[np.intp]) -> int:
    """Count the labels of all parts that a classifier of the other parts has right."""
    from sklearn.base import clone

    right = 0
    for part in np.unique(parts):
        held = parts == part
        known = classes[~held]
        # too few for any classifier to train on: wrong, as they are for all
        if len(known) > len(np.unique(known)) > 1:
            right += int((fitted(clone(model), features[~held], known).predict(features[held]) == classes[held]).sum())
    return right
