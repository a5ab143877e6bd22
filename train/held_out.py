"""How well a classifier tells labels that it was not trained on, from the training labels alone."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FOLDS, _REPEATS = 3, 5
# So few labels are left out one by one: a fold less they would not train a classifier that all of them do.
_FEW_LABELS = 60
# Of a class; more of them take time and choose no better.
_MOST_LABELS = 50


def held_out_accuracy(model: Any, features: NDArray[np.float64], classes: NDArray[np.uint8]) -> float:
    """Return the accuracy on held-out labels, each by itself or in repeated folds; 0 where nothing can be held out.

    Args:
        model: a classifier of scikit-learn; it is left as it is.
        features: (label, feature).
        classes: (label,) class ids.
    """
    from sklearn.base import clone
    from sklearn.model_selection import LeaveOneOut, RepeatedStratifiedKFold, cross_val_score

    rng = np.random.default_rng(0)
    places = [rng.permutation(np.flatnonzero(classes == one))[:_MOST_LABELS] for one in np.unique(classes)]
    shared = [place for place in places if len(place) >= 2]  # a class of one label cannot be on both sides
    if len(shared) < 2:
        return 0.0
    chosen = np.concatenate(shared)
    one_by_one = len(chosen) <= _FEW_LABELS or max(map(len, shared)) < _FOLDS
    folds = (
        LeaveOneOut() if one_by_one else RepeatedStratifiedKFold(n_splits=_FOLDS, n_repeats=_REPEATS, random_state=0)
    )
    with warnings.catch_warnings():
        # of two labels of a class a fold trains on one; its covariance is then the shrinkage target
        warnings.filterwarnings("ignore", "Only one sample available", UserWarning)
        warnings.filterwarnings("ignore", "The least populated class|The number of unique classes", UserWarning)
        return float(cross_val_score(clone(model), features[chosen], classes[chosen], cv=folds).mean())
