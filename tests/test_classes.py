"""Names of classes, and labels that may judge a model."""

import numpy as np
import pytest

from hyperline.classes import all_names, class_fault, merged_names, renumbered
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


@pytest.mark.parametrize(
    ("own", "models", "merged"),
    [
        (("grass", "roof"), ("Soil", "Grass"), ("Soil", "Grass", "roof")),
        (("soil", "grass"), ("Soil", "Grass"), ("Soil", "Grass")),
        ((), ("Soil",), ("Soil", "class 2")),
        (("grass", "roof"), ("class 1",), ("class 1", "class 2")),
    ],
)
def test_new_classes_follow_those_that_the_model_knows(
    own: tuple[str, ...], models: tuple[str, ...], merged: tuple[str, ...]
) -> None:
    scene = Scene("field", np.ones((1, 2, 3)), np.array([[1, 2]], np.uint8), own)
    assert merged_names(models, scene) == merged


def test_labels_are_renumbered_by_name() -> None:
    labels = np.array([[0, 1, 2]], np.uint8)
    scene = Scene("field", np.ones((1, 3, 2)), labels, ("roof", "SOIL", "never labelled"))
    same = renumbered(scene, ("Soil", "Grass", "Roof"))
    assert same.labels is not None and same.labels.tolist() == [[0, 3, 1]]
    assert same.class_names == ("Soil", "Grass", "Roof")
    # a class that the model does not have, names that say nothing, and two of one name
    for names in (("Soil", "Grass"), ("class 1", "class 2"), ("Soil", "Roof", "roof")):
        assert renumbered(scene, names) is scene
    twice = Scene("field", scene.cube, labels, ("soil", "SOIL"))
    assert renumbered(twice, ("Soil", "Roof")) is twice
