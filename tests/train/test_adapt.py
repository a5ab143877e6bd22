"""An adapted run: heads grow, old answers hold, and the folder is a whole run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hyperline.errors import InputError
from hyperline.scenes import Scene
from hyperline.splits import Split, held_out, random_split
from hyperline.train.adapt.anchors import draw_anchors
from hyperline.train.adapt.growth import grow
from hyperline.train.adapt.run import (
    HELD,
    PLAIN,
    REHEARSED,
    Adaptation,
    adapt_config,
    adapt_run,
    begin_adaptation,
    old_covariances,
)
from hyperline.train.models.mambamoe import MambaMoE, MambaMoEConfig
from hyperline.train.run import TrainedRun, load_run, taught_labels, train_run
from hyperline.train.trainer import TrainConfig, predict, predict_logits, train

from .conftest import small_network, striped_scene

NAMES = ("a", "b", "c", "d")


def part(scene: Scene, classes: set[int]) -> Scene:
    """Hide the labels of the other classes."""
    assert scene.labels is not None
    return replace(scene, labels=np.where(np.isin(scene.labels, list(classes)), scene.labels, 0).astype(np.uint8))


def split_of(scene: Scene) -> Split:
    assert scene.labels is not None
    return random_split(scene.labels, 15, 0)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return replace(striped_scene(lines=48, samples=40, classes=4), class_names=NAMES)


@pytest.fixture(scope="module")
def old(scene: Scene) -> Scene:
    return replace(part(scene, {1, 2}), class_names=NAMES[:2])


@pytest.fixture(scope="module")
def base(old: Scene, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    model = MambaMoEConfig(
        6, 2, components=6, channels=16, experts=(4, 4, 4, 4), state=4, spectral_groups=4, spectral_inner=4
    )
    config = TrainConfig(epochs=30, shallow=0.0, threads=1)
    return train_run([(old, split_of(old))], model, config, tmp_path_factory.mktemp("base") / "run")


@pytest.fixture(scope="module")
def adapted(base: TrainedRun, old: Scene, scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    new = part(scene, {3, 4})
    config = adapt_config(0, HELD, epochs=30, threads=1)
    out = tmp_path_factory.mktemp("adapted") / "run"
    return adapt_run(base, [(old, None)], new, split_of(new), config, HELD, out)


def test_heads_grow_and_old_logits_do_not_move(scene: Scene) -> None:
    network = small_network(bands=6, classes=2)
    grown, fresh = grow(network, 4, -7.5)
    assert set(fresh.values()) == {2} and len(fresh) == 6  # weight and bias of three heads
    before, after = (predict_logits(one, scene, 8) for one in (network, grown))
    np.testing.assert_allclose(after[..., :2], before, rtol=0, atol=1e-6)
    assert (after[..., 2:] == -7.5).all()
    assert network.config.classes == 2 and grown.config.classes == 4


def test_at_the_start_no_old_pixel_gets_a_new_class(base: TrainedRun, old: Scene, scene: Scene) -> None:
    new = part(scene, {3, 4})
    state, strips = begin_adaptation(base.network, [(old, None)], new, split_of(new), 4, adapt_config(0, HELD), HELD)
    assert np.array_equal(predict(state.average, old, 8), predict(base.network, old, 8))
    assert len(strips) == 1  # one cube: its anchors stand beside the new labels
    labels = strips[0][1]
    assert np.array_equal(labels[split_of(new).train > 0], split_of(new).train[split_of(new).train > 0])
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}


def test_old_answers_hold_through_training_where_the_null_space_is_exact(scene: Scene) -> None:
    """The old scene shows two bands of six: the updates keep to what the other four add."""
    network = small_network(bands=6, classes=4)
    cube = scene.cube.copy()
    cube[..., 2:] = 0
    old = replace(part(scene, set()), cube=cube)
    exact = Adaptation(0.0, anchors=0)
    config = adapt_config(0, exact, epochs=5, threads=1, block_lines="full", augment=False)
    state, strips = begin_adaptation(network, [(old, None)], scene, split_of(scene), 4, config, exact)
    before = predict_logits(network, old, 8)
    stem = network.stem.weight.detach().clone()
    after = train(state, strips, config)
    assert isinstance(after, MambaMoE)
    assert (after.stem.weight - stem).abs().max() > 1e-3
    np.testing.assert_allclose(predict_logits(after, old, 8), before, rtol=0, atol=1e-3)


def test_every_product_of_the_network_has_a_covariance(scene: Scene) -> None:
    network = small_network()
    sums = old_covariances(network, [scene])
    matrices = {
        name
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and not name.rpartition(".")[2].startswith("A_log") and ".A_log." not in name
    }
    assert set(sums) == matrices
    for name, one in sums.items():
        inputs = dict(network.named_parameters())[name][0].numel()
        assert one.shape[1:] == (inputs, inputs)


def test_new_classes_are_learnt_and_old_answers_hold(adapted: TrainedRun, scene: Scene, old: Scene) -> None:
    record = adapted.record
    assert adapted.class_names == NAMES
    (held,) = record["adapted"]["old"]
    assert record["streamed"]["oa"] > 0.8
    assert held["after"]["streamed"]["oa"] > held["before"]["streamed"]["oa"] - 0.05
    again = load_run(adapted.path)
    assert np.array_equal(predict(again.network, scene, 8), predict(adapted.network, scene, 8))
    assert torch.equal(again.network.mnf_projection, load_run(adapted.path).network.mnf_projection)


def test_what_the_run_was_taught_is_rehearsed(base: TrainedRun, old: Scene, scene: Scene, tmp_path: Path) -> None:
    taught = taught_labels(base, replace(old, labels=None))
    assert taught is not None and np.array_equal(taught, split_of(old).train)
    new = part(scene, {3, 4})
    config = adapt_config(0, REHEARSED, epochs=30, threads=1)
    run = adapt_run(base, [(old, taught)], new, split_of(new), config, REHEARSED, tmp_path / "run")
    (held,) = run.record["adapted"]["old"]
    assert run.record["streamed"]["oa"] > 0.9
    assert held["after"]["streamed"]["oa"] > held["before"]["streamed"]["oa"] - 0.01
    # the next adaptation finds what both taught, on the one cube that they share
    again = taught_labels(run, scene)
    assert again is not None and np.array_equal(again, split_of(old).train + split_of(new).train)


def test_rehearsal_takes_another_strip_as_a_strip_of_its_own(base: TrainedRun, old: Scene, scene: Scene) -> None:
    taught = split_of(old).train
    new = replace(part(scene, {3, 4}), cube=scene.cube + np.float32(0.01))
    config = adapt_config(0, REHEARSED)
    _, strips = begin_adaptation(base.network, [(old, taught)], new, split_of(new), 4, config, REHEARSED)
    assert [one is strip for one, (strip, _) in zip((new, old), strips, strict=True)] == [True, True]
    assert np.array_equal(strips[0][1], split_of(new).train) and np.array_equal(strips[1][1], taught)
    with pytest.raises(ValueError, match="cannot be rehearsed"):
        begin_adaptation(base.network, [(old, None)], new, split_of(new), 4, config, REHEARSED)


def test_answers_that_stand_for_old_classes_are_no_labels_later(adapted: TrainedRun, scene: Scene) -> None:
    taught = taught_labels(adapted, scene)
    assert taught is not None and np.array_equal(taught, split_of(part(scene, {3, 4})).train)


def test_a_scene_that_the_run_has_not_seen_taught_it_nothing(base: TrainedRun, old: Scene) -> None:
    assert taught_labels(base, replace(old, cube=old.cube + np.float32(0.01))) is None


def test_a_run_folder_without_its_split_says_so(base: TrainedRun, old: Scene, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"split\.npz cannot be read"):
        taught_labels(replace(base, path=tmp_path), old)


def test_the_first_layer_is_that_of_the_old_scene(base: TrainedRun, adapted: TrainedRun) -> None:
    assert torch.equal(adapted.network.mnf_mean, base.network.mnf_mean)
    assert torch.equal(adapted.network.mnf_projection, base.network.mnf_projection)


def test_the_record_says_where_the_run_came_from(base: TrainedRun, adapted: TrainedRun, old: Scene) -> None:
    record = adapted.record
    assert record["adapted"]["from"]["scene"] == base.record["scene"]
    assert record["adapted"]["share"] == HELD.share
    # both scenes are judged without the pixels that either training saw
    for scene in (replace(old, class_names=NAMES), part(replace(old, labels=old.labels), {1, 2})):
        truth, own = held_out(scene, record)
        assert own and truth is not None
        assert np.array_equal(truth, split_of(old).test)


def test_an_old_scene_without_labels_will_do(base: TrainedRun, old: Scene, scene: Scene, tmp_path: Path) -> None:
    blind = replace(old, labels=None, class_names=())
    new = part(scene, {3, 4})
    config = adapt_config(0, PLAIN, epochs=2, threads=1)
    run = adapt_run(base, [(blind, None)], new, split_of(new), config, PLAIN, tmp_path / "run")
    (held,) = run.record["adapted"]["old"]
    assert held["before"] is None and held["after"] is None and 0 <= held["held"] <= 1
    assert run.record["adapted"]["share"] is None


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"cube": np.zeros((48, 40, 5), np.float32)}, "has 5 bands"),
        ({"scale": 0.5}, "multiplied by 0.5"),
        ({"class_names": ("a", "roof")}, "class 2 of stripes is roof"),
    ],
)
def test_scenes_that_do_not_fit_the_run_are_refused(
    base: TrainedRun, old: Scene, scene: Scene, tmp_path: Path, changes: dict[str, object], fragment: str
) -> None:
    config = adapt_config(0, HELD, epochs=1, threads=1)
    with pytest.raises(InputError, match=fragment):
        wrong = replace(old, **changes)
        adapt_run(base, [(wrong, None)], scene, split_of(scene), config, HELD, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_anchors_are_sure_answers_beside_what_is_labelled() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20, 20, 3)).astype(np.float32)
    logits[..., 2] = -20  # never answered
    logits[0] = np.nan
    taken = np.zeros((20, 20), bool)
    taken[1] = True
    anchors = draw_anchors(logits, taken, 15, 0)
    assert [int((anchors == one).sum()) for one in (1, 2, 3)] == [15, 15, 0]
    drawn = anchors > 0
    assert not drawn[:2].any()
    assert np.array_equal(anchors[drawn], logits[drawn].argmax(-1) + 1)
    margin = np.abs(logits[..., 0] - logits[..., 1])
    assert margin[drawn].min() > np.median(margin[1:]) * 0.8
