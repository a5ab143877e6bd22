"""Names of classes, and labels that may judge a model."""

import numpy as np
import pytest

from hyperline.classes import all_names, class_fault
from hyperline.scenes import Scene


@pytest.mark.parametrize(
    ("known", "classes", "expected"),
    [
        ((), 2, ("class 1", "class 2")),
        (("Corn",), 2, ("Corn", "class 2")),
        (("Corn", "Woods"), 2, ("Corn", "Woods")),
        (("Corn", "Woods"), 1, ("Corn",)),
    ],
)
def test_every_class_has_a_name(known: tuple[str, ...], classes: int, expected: tuple[str, ...]) -> None:
    assert all_names(known, classes) == expected


@pytest.mark.parametrize(
    ("own", "models", "fault"),
    [
        ((), ("Corn", "Woods"), None),
        (("corn", "WOODS"), ("Corn", "Woods"), None),
        (("Corn", "Woods"), ("class 1", "class 2"), None),
        (("Corn", "Water"), ("Corn", "Woods"), "class 2 of field is Water, the model's is Woods"),
        (("Corn", "Woods"), ("Corn", "Woods", "Roof"), "class 3 of field is none, the model's is Roof"),
        ((), ("Corn",), "the labels of field go up to class 2, the model knows 1"),
    ],
)
def test_labels_must_be_in_the_models_classes(own: tuple[str, ...], models: tuple[str, ...], fault: str | None) -> None:
    scene = Scene("field", np.ones((1, 2, 3)), np.array([[1, 2]], np.uint8), own)
    assert class_fault(scene, models) == fault
    assert class_fault(Scene("field", scene.cube, class_names=own), models) is None
