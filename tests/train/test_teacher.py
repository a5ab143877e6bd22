"""What shallow classifiers say of the pixels that nobody labelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hyperline.scenes import Scene
from hyperline.train import teacher
from hyperline.train.teacher import shallow_opinions

from .conftest import striped_scene


def labels_of(scene: Scene, count: int) -> np.ndarray:
    train = np.zeros_like(scene.labels)
    for one in range(1, 4):
        place = np.argwhere(scene.labels == one)
        train[tuple(place[np.random.default_rng(one).permutation(len(place))[:count]].T)] = one
    return train


def test_opinions_are_probabilities_and_mostly_right() -> None:
    scene = striped_scene()
    (said,) = shallow_opinions([(scene, labels_of(scene, 6))], 4, seed=0)
    assert said is not None and said.shape == (scene.lines, scene.samples, 4) and said.dtype == np.float32
    assert np.allclose(said.sum(-1), 1, atol=1e-5)
    assert (said[..., 3] == 0).all()  # nobody taught the fourth class
    known = scene.labels > 0
    assert (said.argmax(-1) + 1 == scene.labels)[known].mean() > 0.95


def scene_without_neighbourhoods() -> Scene:
    """No neighbour says anything of a pixel."""
    rng = np.random.default_rng(0)
    materials = rng.integers(3, size=(40, 40))
    spectra = rng.uniform(100, 1000, (3, 6))
    cube = (spectra[materials] + rng.normal(0, 20, (40, 40, 6))).astype(np.float32)
    return Scene("no neighbourhood", cube, (materials + 1).astype(np.uint8))


def test_who_tells_held_out_labels_better_has_more_say() -> None:
    scene = scene_without_neighbourhoods()
    (said,) = shallow_opinions([(scene, labels_of(scene, 8))], 3, seed=0, carry=False)
    assert said is not None
    assert (said.argmax(-1) + 1 == scene.labels).mean() > 0.97  # as the spectra alone have it


def test_opinions_stay_where_carrying_them_turns_held_out_labels_wrong() -> None:
    scene = scene_without_neighbourhoods()
    (said,) = shallow_opinions([(scene, labels_of(scene, 40))], 3, seed=0)
    assert said is not None
    assert (said.argmax(-1) + 1 == scene.labels).mean() > 0.97


def test_a_strip_too_large_for_memory_has_no_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = striped_scene()
    monkeypatch.setattr(teacher, "MOST_PIXELS", scene.lines * scene.samples)
    larger = striped_scene(lines=48)
    train = labels_of(scene, 6)
    small, none = shallow_opinions([(scene, train), (larger, labels_of(larger, 6))], 3, seed=0)
    assert small is not None and none is None
    assert shallow_opinions([(larger, labels_of(larger, 6))], 3, seed=0) == [None]


@pytest.mark.parametrize("count", [1, 2])
def test_a_label_or_two_of_a_class_are_enough(count: int) -> None:
    scene = striped_scene()
    (said,) = shallow_opinions([(scene, labels_of(scene, count))], 3, seed=0)
    assert said is not None
    known = scene.labels > 0
    assert (said.argmax(-1) + 1 == scene.labels)[known].mean() > 0.8


def test_labels_by_the_thousand_are_thinned_where_classifiers_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """Support vectors take the square of their number, and a field of labels is no more than one patch."""
    trained: list[int] = []
    fit = teacher.fitted

    def counted(model: Any, features: np.ndarray, classes: np.ndarray) -> Any:
        trained.append(len(classes))
        return fit(model, features, classes)

    monkeypatch.setattr(teacher, "fitted", counted)
    monkeypatch.setattr(teacher, "_MOST_LABELS", 40)
    scene = striped_scene()
    other = striped_scene(lines=24)
    assert scene.labels is not None and other.labels is not None
    said = shallow_opinions([(scene, scene.labels), (other, other.labels)], 3, seed=0)
    assert max(trained) == 3 * 40
    for opinion, one in zip(said, (scene, other), strict=True):
        assert opinion is not None and one.labels is not None
        assert (opinion.argmax(-1) + 1 == one.labels)[one.labels > 0].mean() > 0.95


def test_labels_of_one_class_have_no_opinion() -> None:
    scene = striped_scene()
    train = labels_of(scene, 6)
    assert shallow_opinions([(scene, np.where(train == 1, train, 0).astype(np.uint8))], 3, seed=0) == [None]
