"""Shallow classifiers of features: support vectors, linear discriminants, random forests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hyperline.scenes import Scene, Strips, valid_pixels
from hyperline.train.baselines.classification import Classification
from hyperline.train.baselines.features import Features
from hyperline.train.held_out import fitted

_TREES = 500


@dataclass(frozen=True)
class ShallowClassifier:
    """A trained classifier of features.

    Attributes:
        features: what it sees.
        scaling: of the features.
        model: scikit-learn's.
        classes: columns of its probabilities.
    """

    features: Features
    scaling: StandardScaler
    model: Any
    classes: int

    def __call__(self, scene: Scene) -> Classification:
        """Classify every pixel."""
        seen = self.features(scene)
        flat = self.scaling.transform(seen.reshape(-1, seen.shape[-1]))
        if not hasattr(self.model, "predict_proba"):
            return Classification(self.model.predict(flat).reshape(seen.shape[:2]).astype(np.uint8), None)
        # a class that no pixel trains has no column in the model
        learned = self.model.classes_
        probabilities = np.zeros((len(flat), self.classes), dtype=np.float32)
        probabilities[:, learned - 1] = self.model.predict_proba(flat)
        class_map = learned[probabilities[:, learned - 1].argmax(-1)]
        return Classification(
            class_map.reshape(seen.shape[:2]).astype(np.uint8), probabilities.reshape(*seen.shape[:2], -1)
        )


def fit_shallow(kind: str, features: Features, strips: Strips, classes: int, seed: int) -> ShallowClassifier:
    """Train a classifier of features that have mean 0 and deviation 1 over the training strips.

    Few labels do not tell how features vary: scaled by them, support vectors put another half of a scene beyond all of
    their kernels (HySU by halves: 32 % of its pixels right, and 71 % scaled by the strip).

    Args:
        kind: ``svm`` (RBF, C = 100), ``lda`` (shrinkage of Ledoit and Wolf) or ``forest`` (500 trees, the square root
            of the features a cut: Breiman, Machine Learning 45, 2001).
        features: fitted to ``strips``.
        strips: the training strips, all labels of valid pixels.
        classes: columns of the probabilities.
        seed: of the forest.
    """
    scaling, seen, wanted = look_at_labels(features, strips)
    return ShallowClassifier(features, scaling, fitted(make_classifier(kind, seed), seen, wanted), classes)


def look_at_labels(features: Features, strips: Strips) -> tuple[StandardScaler, NDArray[np.float64], NDArray[np.uint8]]:
    """Return features of the labelled pixels, of mean 0 and deviation 1 over the valid pixels of the strips.

    Returns:
        What scales them; (label, feature), strip by strip in line order; (label,) class ids.
    """
    scaling = StandardScaler()
    seen = []
    for scene, labels in strips:
        of_strip = features(scene)
        scaling.partial_fit(of_strip[valid_pixels(np.asarray(scene.cube), scene.nodata)])
        seen.append(of_strip[labels > 0])
    return (
        scaling,
        scaling.transform(np.concatenate(seen)),
        np.concatenate([labels[labels > 0] for _, labels in strips]),
    )


def make_classifier(kind: str, seed: int) -> Any:
    """Make an untrained classifier of scikit-learn, of standardised features; arguments as for `fit_shallow`."""
    if kind == "lda":
        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    if kind == "forest":
        return RandomForestClassifier(n_estimators=_TREES, random_state=seed)
    return SVC(C=100.0, gamma="scale")
