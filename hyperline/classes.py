"""Names of classes: every class has one, and labels must mean by a number what the model means."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

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
