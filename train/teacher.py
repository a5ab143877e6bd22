"""What shallow classifiers say of every pixel of the training strips: a teacher for the pixels that nobody labelled.

Few labels leave a network much freedom, and what it makes of it depends on its draws. Shallow classifiers have less:
which of them suits a scene, its spectra alone or its surroundings too, labels that they were not trained on tell well
enough. Their opinions, weighted by it, are a part of what a network is asked for on unlabelled pixels, so that it
starts from the best of them and has its own reasons to differ (bench/tuning.md). This is distillation (Hinton et al.,
arXiv 1503.02531) from models that need no deployment: they look past the block, at the whole strip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from hyperline.scenes import Scene, Strips, measured_labels, valid_pixels
from hyperline.train.baselines.features import GaussianScales, Spectra, fit_spectra
from hyperline.train.baselines.shallow import make_classifier
from hyperline.train.first_layer import MOST_PIXELS, choose_map, scaled
from hyperline.train.held_out import FOLDS, divide, fitted, held_out_accuracy, label_patches
from hyperline.train.propagation import propagate
from hyperline.train.walk import Walk, walk_between, walk_within_fields

_COMPONENTS = 30
# The strongest components say which pixels are alike; weaker ones hold more noise than fields.
_GUIDING_COMPONENTS = 10
# Chances to end of the walks whose means are features: from a pixel's neighbours to its whole field.
_ENDS = (0.3, 0.1, 0.03, 0.01, 0.003)
# And of those that carry opinions, the longest first.
_CARRYING_ENDS = (0.003, 0.03, 0.3)
# A classifier that is so much more accurate on labels that it was not trained on has e times the say: two patches of
# labels of all that there are, for few of them tell classifiers apart by chance, between a thirtieth and an eighth.
_STEP_PATCHES, _LEAST_STEP, _MOST_STEP = 2, 1 / 30, 1 / 8
# Trees of a forest that is trained again and again to be judged.
_JUDGED_TREES = 100
# Turns the scores of support vectors, which lie about 1 apart, into probabilities.
_SHARPNESS = 2.0
# Of a class, that classifiers are trained on: support vectors take the square of their number.
_MOST_LABELS = 500
_PIXELS_AT_ONCE = 2**16

# What a classifier may see, by name: (pixel, feature).
_Views = dict[str, NDArray[np.floating]]


@dataclass(frozen=True)
class _Teacher:
    """A trained classifier.

    Attributes:
        view: what it sees.
        kind: of `make_classifier`.
        model: scikit-learn's.
        accuracy: on labels that it was not trained on.
    """

    view: str
    kind: str
    model: Any
    accuracy: float


@dataclass(frozen=True)
class _Lessons:
    """The labels of all strips, and what is seen of their pixels.

    Attributes:
        strips: those with labels, each with those that classifiers are trained on.
        scaling: by view; features have mean 0 and deviation 1 over all strips.
        features: by view, (label, feature), scaled, strip by strip in line order.
        classes: (label,) class ids.
        patches: (label,) of `label_patches`.
    """

    strips: Strips
    scaling: dict[str, StandardScaler]
    features: dict[str, NDArray[np.float64]]
    classes: NDArray[np.uint8]
    patches: NDArray[np.intp]

    def say(self, model: Any, view: str, views: _Views, classes: int) -> NDArray[np.float32]:
        """Return (pixel, class) probabilities of a classifier; of support vectors the softmax of their scores."""
        probabilities = np.zeros((len(views[view]), classes), np.float32)
        for start in range(0, len(probabilities), _PIXELS_AT_ONCE):
            seen = self.scaling[view].transform(views[view][start : start + _PIXELS_AT_ONCE].astype(np.float64))
            if hasattr(model, "predict_proba"):
                said = model.predict_proba(seen)
            else:
                scores = model.decision_function(seen)
                if scores.ndim == 1:  # of two classes: how much the second is ahead
                    scores = np.stack([-scores, scores], axis=-1)
                odds = np.exp(_SHARPNESS * (scores - scores.max(-1, keepdims=True)))
                said = odds / odds.sum(-1, keepdims=True)
            # a class that no pixel trains has no column
            probabilities[start : start + _PIXELS_AT_ONCE, model.classes_ - 1] = said
        return probabilities


class _Eyes:
    """What there is to see of a strip: spectra, noise-whitened components, and their means around each pixel.

    That of the last strip is kept, since mostly there is but one.
    """

    def __init__(self, strips: Strips) -> None:
        self._spectra = fit_spectra([scene for scene, _ in strips])
        self._mnf = choose_map(strips, _COMPONENTS)
        self._last: tuple[Scene, _Views, Walk] | None = None

    def look(self, scene: Scene) -> tuple[_Views, Walk]:
        """Return the views of a strip, and the walk within its fields."""
        if self._last is None or self._last[0] is not scene:
            self._last = (scene, *self._look(scene))
        return self._last[1:]

    def _look(self, scene: Scene) -> tuple[_Views, Walk]:
        valid = valid_pixels(np.asarray(scene.cube), scene.nodata)
        measured = Spectra(self._mnf.mean)(scene)
        guide = (measured - self._mnf.mean) @ scaled(self._mnf)[:, :_GUIDING_COMPONENTS]
        near = walk_between(guide, valid)
        within = walk_within_fields(guide, valid, near)
        components = self._mnf(measured)
        around = GaussianScales(self._mnf, None)(scene).astype(np.float32)
        views: _Views = {"spectra": self._spectra(scene).reshape(-1, scene.bands)}
        for name, walk in (("neighbours", near), ("fields", within)):
            means = (walk.mean_at_end(components, end).astype(np.float32) for end in _ENDS)
            both = np.concatenate([around, *means], axis=-1)
            views[name] = both.reshape(-1, both.shape[-1])
        return views, within


def shallow_opinions(strips: Strips, classes: int, seed: int, carry: bool = True) -> list[NDArray[np.float32] | None]:
    """Train shallow classifiers and mix what they say of every pixel.

    Args:
        strips: scenes, each with its training labels, (line, sample) class ids, 0 elsewhere.
        classes: number of them.
        seed: of their draws, where they have any.
        carry: carry what they say along each strip, to pixels that look alike (train/propagation.py), as far as
            held-out labels do not suffer by it.

    Returns:
        (line, sample, class) probabilities for each strip; None for one of more than a million pixels, and for all
        where the labels of the others are of one class.

    Raises:
        InputError: a scene is too small for its bands, or no valid pixel trains.
    """
    small = [
        (scene, measured_labels(scene, labels))
        for scene, labels in strips
        if scene.lines * scene.samples <= MOST_PIXELS
    ]
    taught = {one for _, labels in small for one in np.unique(labels[labels > 0])}
    if len(taught) < 2:  # nothing to tell apart
        return [None for _ in strips]
    eyes = _Eyes(small)
    lessons = _lessons(small, eyes, seed)
    teachers = [_teach(lessons, view, kind, seed) for view, kind in _kinds(lessons.classes)]
    step = np.clip(_STEP_PATCHES / len(np.unique(lessons.patches)), _LEAST_STEP, _MOST_STEP)
    weights = np.exp([one.accuracy / step for one in teachers])
    weights /= weights.sum()
    end = _longest_walk(lessons, eyes, max(teachers, key=lambda one: one.accuracy), classes, seed) if carry else None
    opinions: list[NDArray[np.float32] | None] = []
    remaining = iter(small)
    for scene, _ in strips:
        if scene.lines * scene.samples > MOST_PIXELS:
            opinions.append(None)
            continue
        _, labels = next(remaining)
        views, walk = eyes.look(scene)
        said = np.zeros((labels.size, classes), np.float32)
        for weight, one in zip(weights, teachers, strict=True):
            said += np.float32(weight) * lessons.say(one.model, one.view, views, classes)
        opinion = said.reshape(*labels.shape, classes)
        opinions.append(opinion if end is None else propagate(opinion, walk, labels, end))
    return opinions


def _lessons(strips: Strips, eyes: _Eyes, seed: int) -> _Lessons:
    """Look at the labelled pixels; of a class that has more than enough labels, at some."""
    patches = label_patches(strips)
    classes = np.concatenate([labels[labels > 0] for _, labels in strips])
    rng = np.random.default_rng(seed)
    enough = [rng.permutation(np.flatnonzero(classes == one))[:_MOST_LABELS] for one in np.unique(classes)]
    kept = np.zeros(len(classes), np.uint8)
    kept[np.concatenate(enough)] = 1
    scaling: defaultdict[str, StandardScaler] = defaultdict(StandardScaler)
    seen: defaultdict[str, list[NDArray[np.floating]]] = defaultdict(list)
    taught = []
    first = 0
    for scene, labels in strips:
        some = labels.copy()
        end = first + int(np.count_nonzero(labels))
        some[labels > 0] *= kept[first:end]
        first = end
        valid = valid_pixels(np.asarray(scene.cube), scene.nodata).ravel()
        for name, view in eyes.look(scene)[0].items():
            scaling[name].partial_fit(view[valid])
            seen[name].append(view[some.ravel() > 0].astype(np.float64))
        if some.any():
            taught.append((scene, some))
    features = {name: scaling[name].transform(np.concatenate(ones)) for name, ones in seen.items()}
    return _Lessons(taught, dict(scaling), features, classes[kept > 0], patches[kept > 0])


def _kinds(classes: NDArray[np.uint8]) -> Iterator[tuple[str, str]]:
    """Give view and kind of each teacher, less those that so few labels cannot train."""
    counts = np.bincount(classes)
    shared = counts[counts > 1]
    yield "spectra", "svm"
    for view in ("neighbours", "fields"):
        yield view, "svm"
        yield view, "forest"
        if shared.sum() > 2 * len(shared):  # a discriminant needs more labels than classes, in every fold too
            yield view, "lda"


def _teach(lessons: _Lessons, view: str, kind: str, seed: int) -> _Teacher:
    features, classes = lessons.features[view], lessons.classes
    model = make_classifier(kind, seed)
    judged = model
    if kind == "forest":
        if len(np.unique(lessons.patches)) == len(classes):  # each tree leaves single labels out as it is trained
            fitted(model.set_params(oob_score=True), features, classes)
            return _Teacher(view, kind, model, float(model.oob_score_))
        judged = make_classifier(kind, seed).set_params(n_estimators=_JUDGED_TREES)
    accuracy = held_out_accuracy(judged, features, classes, lessons.patches)
    return _Teacher(view, kind, fitted(model, features, classes), accuracy)


def _longest_walk(lessons: _Lessons, eyes: _Eyes, best: _Teacher, classes: int, seed: int) -> float | None:
    """Find how far opinions may be carried: as far as held-out labels do not suffer.

    Where neighbours are of different materials, a walk averages away what tells them apart. The best teacher is trained
    without a part of the labels at a time; carrying what it says may not turn more of them wrong than right.

    Returns:
        The chance to end; None where every walk does harm.
    """
    folds = divide(lessons.classes, lessons.patches, np.random.default_rng(seed))
    models = [
        fitted(make_classifier(best.kind, seed), lessons.features[best.view][folds != fold], left)
        for fold in range(FOLDS)
        if len(np.unique(left := lessons.classes[folds != fold])) > 1
    ]
    if len(models) < FOLDS:  # too few labels to ask
        return _CARRYING_ENDS[0]
    worse, better = np.zeros(len(_CARRYING_ENDS)), np.zeros(len(_CARRYING_ENDS))
    first = 0
    for scene, labels in lessons.strips:
        views, walk = eyes.look(scene)
        fold_of = np.full(labels.shape, -1, np.intp)
        fold_of[labels > 0] = folds[first : first + np.count_nonzero(labels)]
        first += int(np.count_nonzero(labels))
        for fold, model in enumerate(models):
            held = fold_of == fold
            if not held.any():
                continue
            said = lessons.say(model, best.view, views, classes).reshape(*labels.shape, classes)
            was_right = said[held].argmax(-1) + 1 == labels[held]
            for place, end in enumerate(_CARRYING_ENDS):
                carried = propagate(said, walk, np.where(held, 0, labels), end)
                is_right = carried[held].argmax(-1) + 1 == labels[held]
                worse[place] += np.count_nonzero(was_right & ~is_right)
                better[place] += np.count_nonzero(~was_right & is_right)
    harmless = worse <= better
    return _CARRYING_ENDS[int(np.argmax(harmless))] if harmless.any() else None
