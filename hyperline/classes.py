"""Names of classes: every class has one, and labels must mean by a number what the model means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from hyperline.scenes.scene import Scene

# The class of a map that no model has: pixels unlike anything trained on. It comes after the model's.
UNKNOWN = "unknown"


def all_names(known: Sequence[str], classes: int) -> tuple[str, ...]:
    """Return a name for each of ``classes``: those known, then ``class 1``, ``class 2``, … by number."""
    return (*known[:classes], *(f"class {number}" for number in range(len(known) + 1, classes + 1)))


def class_fault(scene: Scene, names: Sequence[str]) -> str | None:
    """Say what keeps the labels of a scene from judging a model.

    Names are compared in any case. A scene without names, and a model that was trained on one, have numbers alone to
    go by.

    Args:
        scene: with labels or without.
        names: of the model's classes.

    Returns:
        One clause for a message, or None where the labels are in the model's classes, or there are none.
    """
    if scene.labels is None:
        return None
    highest = int(scene.labels.max())
    if highest > len(names):
        return f"the labels of {scene.name} go up to class {highest}, the model knows {len(names)}"
    if not scene.class_names or tuple(names) == all_names((), len(names)):
        return None
    for number, (own, models) in enumerate(zip_longest(scene.class_names, names), start=1):
        if own is None or models is None or own.casefold() != models.casefold():
            return f"class {number} of {scene.name} is {own or 'none'}, the model's is {models or 'none'}"
    return None


def merged_names(names: Sequence[str], scene: Scene) -> tuple[str, ...]:
    """Return the classes of a model that is to learn a scene's beside its own.

    Classes are matched by name, in any case; those that the model does not know follow its own, in the scene's order.
    Where the scene has no names, or the model numbers alone, classes are matched by number.

    Args:
        names: of the model's classes.
        scene: with labels.
    """
    highest = 0 if scene.labels is None else int(scene.labels.max())
    if not scene.class_names or tuple(names) == all_names((), len(names)):
        return all_names(names, max(len(names), len(scene.class_names), highest))
    known = {name.casefold() for name in names}
    listed = all_names(scene.class_names, max(len(scene.class_names), highest))
    return (*names, *(name for name in listed if name.casefold() not in known))


def renumbered(scene: Scene, names: Sequence[str]) -> Scene:
    """Give the classes of a scene the numbers that a model has for their names.

    Args:
        scene: with labels or without.
        names: of the model's classes.

    Returns:
        The scene with ``names`` as its own; as it is where a labelled class is not among them, where two share a name,
        or where there are numbers alone to go by: see :func:`class_fault`.
    """
    if scene.labels is None or not scene.class_names or tuple(names) == all_names((), len(names)):
        return scene
    numbers = {name.casefold(): number for number, name in enumerate(names, start=1)}
    highest = int(scene.labels.max())
    own = [name.casefold() for name in all_names(scene.class_names, highest)]
    present = np.unique(scene.labels[scene.labels > 0])
    if len(set(own)) < len(own) or len(numbers) < len(names) or any(own[one - 1] not in numbers for one in present):
        return scene
    table = np.zeros(256, np.uint8)
    table[present] = [numbers[own[one - 1]] for one in present]
    return replace(scene, labels=table[scene.labels], class_names=tuple(names))
