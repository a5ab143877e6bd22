"""Which labelled pixels train and which judge.

Random pixels of one scene share fields and neighbourhoods, so a random split flatters (81.6 % of the test
patches of Indian Pines overlap training ones at 11x11); a split by spatial blocks with a guard band
stands beside it wherever accuracy is stated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyperline.classes import all_names
from hyperline.errors import InputError
from hyperline.scenes import Plots, Scene, scene_hash

SplitKind = Literal["random", "blocks", "halves"]

# A draw of blocks may leave a class without a training pixel; draw again, and keep the draw that serves most.
_BLOCK_DRAWS = 32


@dataclass(frozen=True)
class Split:
    """Training and test pixels of a scene.

    Attributes:
        kind: how the pixels were drawn; ``sites`` of a collection of plots.
        labels_per_class: training pixels asked for in every class.
        seed: of the draw.
        block: side of the spatial blocks in pixels, 0 for a random split.
        guard: pixels around a block of the other side that neither train nor test.
        train: (line, sample) class ids of the training pixels, 0 elsewhere; (plot, line, sample) of a collection.
        test: likewise of the test pixels.
        warnings: classes that could not be served as asked, one sentence each.
    """

    kind: SplitKind | Literal["sites"]
    labels_per_class: int
    seed: int
    block: int
    guard: int
    train: NDArray[np.uint8]
    test: NDArray[np.uint8]
    warnings: tuple[str, ...]

    @property
    def hash(self) -> str:
        """SHA-256 over the shape and both maps: two runs with one hash used the same pixels."""
        digest = hashlib.sha256(np.array(self.train.shape, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.train).tobytes())
        digest.update(np.ascontiguousarray(self.test).tobytes())
        return digest.hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return what run.json says of the split."""
        return {
            "kind": self.kind,
            "labels_per_class": self.labels_per_class,
            "seed": self.seed,
            "block": self.block,
            "guard": self.guard,
            "hash": self.hash,
            "train_pixels": int((self.train > 0).sum()),
            "test_pixels": int((self.test > 0).sum()),
            "warnings": list(self.warnings),
        }


def random_split(
    labels: NDArray[np.uint8], labels_per_class: int, seed: int, class_names: tuple[str, ...] = ()
) -> Split:
    """Draw training pixels of every class at random; all other labelled pixels test.

    A class with fewer than twice the pixels asked for gives half of them; a class of one pixel is left out
    of both sides. Both leave a warning.

    Args:
        labels: (line, sample), 0 = unlabelled.
        labels_per_class: training pixels of a class.
        seed: of the draw.
        class_names: for the warnings.

    Raises:
        InputError: no labelled pixels, or none that could train.
    """
    allowed = labels > 0
    return _draw("random", labels, allowed, allowed, labels_per_class, seed, 0, 0, class_names)


def block_split(
    labels: NDArray[np.uint8],
    labels_per_class: int,
    seed: int,
    block: int = 16,
    guard: int = 4,
    class_names: tuple[str, ...] = (),
) -> Split:
    """Cut the scene into square blocks, half of them for training, with a guard band between the sides.

    The guard is taken from the test side: a test pixel has no training block within ``guard`` pixels
    (Chebyshev distance), so that no small neighbourhood spans both. Of several draws of blocks, the first
    that gives every class pixels on both sides is taken, else the one that serves most classes.

    Args:
        labels: (line, sample), 0 = unlabelled.
        labels_per_class: training pixels of a class, drawn inside the training blocks.
        seed: of the draw.
        block: side of a block in pixels.
        guard: width of the guard band in pixels, smaller than ``block``.
        class_names: for the warnings.

    Raises:
        InputError: no labelled pixels, or none that could train or test.
    """
    if not 0 <= guard < block:
        raise InputError(f"a guard of {guard} pixels does not fit blocks of {block}; use 0 to {block - 1}")
    lines, samples = labels.shape
    rows, columns = -(-lines // block), -(-samples // block)
    rng = np.random.default_rng([seed, 1])
    classes = np.unique(labels[labels > 0])
    best_served, best = -1, np.zeros(labels.shape, dtype=bool)
    for _ in range(_BLOCK_DRAWS):
        training = np.zeros(rows * columns, dtype=bool)
        training[rng.permutation(rows * columns)[: (rows * columns + 1) // 2]] = True
        inside = training.reshape(rows, columns).repeat(block, 0).repeat(block, 1)[:lines, :samples]
        outside = ~_dilate(inside, guard)
        served = sum(
            bool((labels[inside] == class_id).any() and (labels[outside] == class_id).any()) for class_id in classes
        )
        if served > best_served:
            best_served, best = served, inside
        if served == len(classes):
            break
    return _draw("blocks", labels, best, ~_dilate(best, guard), labels_per_class, seed, block, guard, class_names)


def half_split(
    labels: NDArray[np.uint8],
    labels_per_class: int,
    seed: int,
    guard: int = 4,
    class_names: tuple[str, ...] = (),
) -> Split:
    """Cut the scene in two, train in one half and test in the other, with a guard band between them.

    The cut is along or across track, where it halves the labelled pixels, and either half trains: the seed draws which,
    and of the four cuts one that gives most classes pixels on both sides is taken.

    Args:
        labels: (line, sample), 0 = unlabelled.
        labels_per_class: training pixels of a class, drawn inside the training half.
        seed: of the draw.
        guard: width of the guard band in pixels, taken from the test half.
        class_names: for the warnings.

    Raises:
        InputError: no labelled pixels, or none that could train or test; a guard wider than half the scene.
    """
    lines, samples = labels.shape
    if not 0 <= guard < min(lines, samples) // 2:
        raise InputError(f"a guard of {guard} pixels leaves nothing of half of {lines} × {samples} pixels")
    classes = np.unique(labels[labels > 0])
    place = np.indices(labels.shape)
    labelled = np.nonzero(labels)
    if not labelled[0].size:
        raise InputError("the scene has no labelled pixels to cut in two; give a label map")
    first = [place[axis] < np.median(labelled[axis]) for axis in (0, 1)]
    cuts = [*first, *(~half for half in first)]

    def served(inside: NDArray[np.bool_]) -> int:
        outside = ~_dilate(inside, guard)
        return sum(bool((labels[inside] == one).any() and (labels[outside] == one).any()) for one in classes)

    count = [served(cut) for cut in cuts]
    best = [cut for cut, classes_served in zip(cuts, count, strict=True) if classes_served == max(count)]
    inside = best[int(np.random.default_rng([seed, 2]).integers(len(best)))]
    return _draw("halves", labels, inside, ~_dilate(inside, guard), labels_per_class, seed, 0, guard, class_names)


def site_split(plots: Plots, labels_per_class: int, seed: int, train_site: str, test_site: str) -> Split:
    """Train at one site and test at another, on the classes that both have.

    A class counts that has at least ``labels_per_class`` labelled pixels at either site. So many of it are drawn over
    all plots of the training site; every labelled pixel of these classes at the other site tests.

    Args:
        plots: a collection with plots at both sites.
        labels_per_class: training pixels of a class.
        seed: of the draw.
        train_site: as `Plots.at` takes it.
        test_site: likewise.

    Raises:
        InputError: there is no such site, or the sites share fewer than two classes.
    """
    if labels_per_class < 1:
        raise InputError(f"{labels_per_class} labels a class cannot train; ask for at least 1")
    here, there = (plots.labels * plots.at(site)[:, None, None] for site in (train_site, test_site))
    count = [np.bincount(one.ravel(), minlength=len(plots.class_names) + 1)[1:] for one in (here, there)]
    shared = np.flatnonzero((count[0] >= labels_per_class) & (count[1] >= labels_per_class)) + 1
    if len(shared) < 2:
        names = ", ".join(plots.class_names[one - 1] for one in shared) or "none"
        raise InputError(
            f"{plots.name}: {train_site} and {test_site} share {len(shared)} of the classes with at least "
            f"{labels_per_class} pixels at either ({names}); a classifier needs two: merge classes, or ask for fewer "
            "labels"
        )
    rng = np.random.default_rng([seed, 3])
    train, test = np.zeros_like(plots.labels), np.where(np.isin(there, shared), there, 0)
    for class_id in shared:
        candidates = np.argwhere(here == class_id)
        train[tuple(candidates[rng.permutation(len(candidates))[:labels_per_class]].T)] = class_id
    left_out = [name for number, name in enumerate(plots.class_names, start=1) if number not in shared]
    warnings = (f"left out, too few pixels at {train_site} or {test_site}: {', '.join(left_out)}",) if left_out else ()
    return Split("sites", labels_per_class, seed, 0, 0, train, test, warnings)


def make_split(
    kind: SplitKind,
    labels: NDArray[np.uint8],
    labels_per_class: int,
    seed: int,
    class_names: tuple[str, ...],
    guard: int | None = None,
) -> Split:
    """Draw a split by its kind, with the default block, and guard where none is given."""
    if kind == "random":
        if guard:
            raise InputError("a random split has no guard band; leave the guard out, or split by blocks or halves")
        return random_split(labels, labels_per_class, seed, class_names)
    draw = block_split if kind == "blocks" else half_split
    if guard is None:
        return draw(labels, labels_per_class, seed, class_names=class_names)
    return draw(labels, labels_per_class, seed, guard=guard, class_names=class_names)


def held_out(scene: Scene, training: Mapping[str, Any]) -> tuple[NDArray[np.uint8] | None, bool]:
    """Return the labels that may judge a model: on its own training scene, those it did not train on.

    Args:
        scene: the scene to be judged on.
        training: provenance as in run.json and in a bundle's card: ``scene.sha256`` and ``split``; of an adapted
            model also ``adapted.from``, the provenance of the run before.

    Returns:
        (line, sample) class ids, or None where the scene has no labels; and whether it is the training scene.

    Raises:
        InputError: it is the training scene, but the split cannot be drawn again from what the model says.
    """
    if scene.labels is None:
        return None, False
    digest = scene_hash(scene)
    # an adapted model was trained on its own scene and on that of the run it was adapted from, others on several strips
    trainings = [training]
    while earlier := trainings[-1].get("adapted", {}).get("from"):
        trainings.append(earlier)
    trainings += [strip for one in trainings for strip in one.get("strips", ())]
    own = [one for one in trainings if one.get("scene", {}).get("sha256") == digest]
    if not own:
        return scene.labels, False
    for one in own:
        if split := recorded_split(scene.labels, one):
            return split.test, True
    raise InputError(
        f"{scene.name} is the training scene, but its labels are not those trained with; "
        "judge with the labels of the training, or on another scene"
    )


def recorded_split(labels: NDArray[np.uint8], training: Mapping[str, Any]) -> Split | None:
    """Draw the split again that a model was trained with.

    Args:
        labels: (line, sample) class ids, 0 = unlabelled.
        training: as for :func:`held_out`.

    Returns:
        None where these are other labels than those trained with.

    Raises:
        InputError: the record of the split is damaged.
    """
    recorded = training.get("split", {})
    try:
        kind, asked, seed = recorded["kind"], recorded["labels_per_class"], recorded["seed"]
        if kind == "random":
            split = random_split(labels, asked, seed)
        elif kind == "halves":
            split = half_split(labels, asked, seed, recorded["guard"])
        else:
            split = block_split(labels, asked, seed, recorded["block"], recorded["guard"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the model's record of its split is damaged: {error!r}") from error
    return split if split.hash == recorded.get("hash") else None


def _draw(
    kind: SplitKind,
    labels: NDArray[np.uint8],
    may_train: NDArray[np.bool_],
    may_test: NDArray[np.bool_],
    labels_per_class: int,
    seed: int,
    block: int,
    guard: int,
    class_names: tuple[str, ...],
) -> Split:
    if labels_per_class < 1:
        raise InputError(f"{labels_per_class} labels a class cannot train; ask for at least 1")
    rng = np.random.default_rng(seed)
    train, test = np.zeros_like(labels), np.zeros_like(labels)
    warnings = []
    classes = int(labels.max(initial=0))
    for class_id, name in enumerate(all_names(class_names, classes)[:classes], start=1):
        pixels = int((labels == class_id).sum())
        candidates = np.argwhere((labels == class_id) & may_train)
        count = min(labels_per_class, len(candidates) // 2 if kind == "random" else len(candidates))
        # the same rule on either side of a block split: never more than half of a class trains
        count = min(count, pixels // 2)
        if pixels == 1:
            warnings.append(f"{name} has a single labelled pixel; it is left out of training and test")
            continue
        if 0 < count < labels_per_class:
            warnings.append(f"{name} has {pixels} labelled pixels; {count} of them train, not {labels_per_class}")
        if pixels and not count:
            warnings.append(f"{name} has no labelled pixel in a training block; it is not learned")
        picked = candidates[rng.permutation(len(candidates))[:count]]
        train[tuple(picked.T)] = class_id
        test[(labels == class_id) & may_test] = class_id
        test[tuple(picked.T)] = 0
    if not train.any() or not test.any():
        raise InputError(
            f"the labels leave {int((train > 0).sum())} training and {int((test > 0).sum())} test pixels; "
            "both sides need some: give more labels, or another split"
        )
    return Split(kind, labels_per_class, seed, block, guard, train, test, tuple(warnings))


def _dilate(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Grow a mask by ``radius`` pixels in every direction, corners included."""
    grown = mask.copy()
    for axis in (0, 1):
        source = grown.copy()
        for shift in range(1, radius + 1):
            length = mask.shape[axis]
            if shift >= length:
                break
            ahead = [slice(None)] * 2
            behind = [slice(None)] * 2
            ahead[axis], behind[axis] = slice(shift, None), slice(None, length - shift)
            grown[tuple(ahead)] |= source[tuple(behind)]
            grown[tuple(behind)] |= source[tuple(ahead)]
    return grown
