"""The opponents are real, repeat, and are held to the latency of a stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.scenes import Scene
from hyperline.splits import Split, random_split
from hyperline.train.baselines import BASELINES, Baseline, classify_baseline, fit_baseline

from .conftest import fields, train_for

PROBABLE = ("lda-spectra", "lda-mnf", "forest-spectra", "forest-mnf", "hybridsn", "ssftt")


@pytest.fixture
def scene() -> Scene:
    return fields()


@pytest.fixture
def split(scene: Scene) -> Split:
    assert scene.labels is not None
    return random_split(scene.labels, 6, 0)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_learns_a_simple_scene(
    name: Baseline, scene: Scene, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_for(monkeypatch, 20)
    right = classify_baseline(name, scene, split, 8).class_map == split.test
    assert right[split.test > 0].mean() > 0.8


@pytest.mark.parametrize("name", BASELINES)
def test_lines_past_its_block_change_nothing_of_a_line(
    name: Baseline, scene: Scene, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_for(monkeypatch, 10)
    fitted = fit_baseline(name, [(scene, split.train)], 3, 8)
    cube = np.array(scene.cube)
    cube[16:] = cube[16:, ::-1]
    before, after = fitted.classify(scene), fitted.classify(replace(scene, cube=cube))
    assert np.array_equal(before.class_map[:16], after.class_map[:16])
    assert not np.array_equal(before.class_map[16:], after.class_map[16:])
    if before.probabilities is not None and after.probabilities is not None:
        assert np.array_equal(before.probabilities[:16], after.probabilities[:16])


def test_a_line_past_the_block_would_change_a_class_with_the_scene_in_view(scene: Scene, split: Split) -> None:
    fitted = fit_baseline("rpnet-rf", [(scene, split.train)], 3)
    cube = np.array(scene.cube)
    cube[16:] = cube[16:, ::-1]
    before, after = fitted.classify(scene), fitted.classify(replace(scene, cube=cube))
    assert not np.array_equal(before.class_map[:16], after.class_map[:16])


@pytest.mark.parametrize("name", BASELINES)
def test_blocks_as_long_as_the_scene_are_the_scene_in_view_to_the_bit(
    name: Baseline, scene: Scene, split: Split
) -> None:
    offline, streamed = (classify_baseline(name, scene, split, lines, 3) for lines in (None, 28))
    assert np.array_equal(offline.class_map, streamed.class_map)
    assert (offline.probabilities is None) == (streamed.probabilities is None) == (name not in PROBABLE)
    if offline.probabilities is not None and streamed.probabilities is not None:
        assert np.array_equal(offline.probabilities, streamed.probabilities)


@pytest.mark.parametrize("name", ["forest-spectra", "rpnet-rf", "hybridsn", "ssftt"])
def test_a_seed_repeats_and_another_draws_otherwise(name: Baseline, scene: Scene, split: Split) -> None:
    rng = np.random.default_rng(0)
    hard = replace(scene, cube=scene.cube + rng.normal(0, 300, scene.cube.shape).astype(np.float32))
    one, again, other = (classify_baseline(name, hard, split, 8, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.class_map, again.class_map)
    assert not np.array_equal(one.class_map, other.class_map)


@pytest.mark.parametrize("name", PROBABLE)
def test_probabilities_agree_with_the_class_and_have_a_column_for_every_class(
    name: Baseline, scene: Scene, split: Split
) -> None:
    # class 2 has test pixels alone
    found = classify_baseline(name, scene, replace(split, train=np.where(split.train == 2, 0, split.train)), 8)
    assert found.probabilities is not None
    assert found.probabilities.shape == (28, 20, 3)
    assert np.allclose(found.probabilities.sum(-1), 1, atol=1e-5)
    assert np.array_equal(found.probabilities.argmax(-1) + 1, found.class_map)


@pytest.mark.parametrize("name", ["svm-spectra", "lda-mnf", "forest-mnf", "rpnet-rf"])
def test_pixels_without_a_measurement_have_no_class_and_do_not_train(
    name: Baseline, scene: Scene, split: Split
) -> None:
    cube = np.array(scene.cube)
    cube[3:5, 2:9] = np.nan
    found = classify_baseline(name, replace(scene, cube=cube), split, 8)
    assert not found.class_map[3:5, 2:9].any()
    right = found.class_map == split.test
    assert right[(split.test > 0) & (found.class_map > 0)].mean() > 0.8
    with pytest.raises(InputError, match="no training pixel"):
        classify_baseline(name, replace(scene, cube=np.full_like(cube, np.nan)), split)


def test_what_cannot_be_done_is_said(scene: Scene, split: Split) -> None:
    few = fields(bands=6)
    with pytest.raises(InputError, match="6 principal components, the network convolves over at least 13"):
        classify_baseline("hybridsn", few, split)
    with pytest.raises(InputError, match="has 6 bands, the baseline was trained on 16"):
        fit_baseline("svm-spectra", [(scene, split.train)], 3).classify(few)
    with pytest.raises(InputError, match="0 lines"):
        fit_baseline("svm-mnf", [(scene, split.train)], 3, 0)
    with pytest.raises(InputError, match="all spectra of the scene are the same"):
        fit_baseline("rpnet-rf", [(replace(scene, cube=np.ones_like(scene.cube)), split.train)], 3)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_trains_on_several_strips(
    name: Baseline, scene: Scene, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_for(monkeypatch, 20)
    assert scene.labels is not None
    halves = [slice(0, 10), slice(10, 20)]
    strips = [(replace(scene, cube=scene.cube[:, one]), split.train[:, one]) for one in halves]
    unseen = np.zeros_like(split.train)
    fitted = fit_baseline(name, [*strips, (scene, unseen)], 3, 8)
    right = fitted.classify(scene).class_map == split.test
    assert right[split.test > 0].mean() > 0.8
    with pytest.raises(InputError, match="no training pixel"):
        fit_baseline(name, [(scene, unseen)], 3, 8)
