"""Splits: no pixel on both sides, warnings for scarce classes, a guard that holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_cdt

from hyperline.errors import InputError
from hyperline.scenes import Plots, Scene, scene_hash
from hyperline.splits import block_split, half_split, held_out, make_split, random_split, site_split


def labels_of(counts: list[int], shape: tuple[int, int] = (40, 50), seed: int = 0) -> np.ndarray:
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    flat[: sum(counts)] = np.repeat(np.arange(1, len(counts) + 1), counts)
    return np.random.default_rng(seed).permutation(flat).reshape(shape)


@given(counts=st.lists(st.integers(0, 60), min_size=1, max_size=5), asked=st.integers(1, 20), seed=st.integers(0, 99))
def test_a_random_split_gives_each_class_what_was_asked_or_half(counts: list[int], asked: int, seed: int) -> None:
    labels = labels_of(counts)
    if sum(n // 2 for n in counts) == 0:
        with pytest.raises(InputError, match="training"):
            random_split(labels, asked, seed)
        return
    split = random_split(labels, asked, seed)
    assert not ((split.train > 0) & (split.test > 0)).any()
    for class_id, count in enumerate(counts, 1):
        trained = int((split.train == class_id).sum())
        assert trained == min(asked, count // 2)
        assert int((split.test == class_id).sum()) == (count - trained if count > 1 else 0)
    used = (split.train > 0) | (split.test > 0)
    assert np.array_equal((split.train + split.test)[used], labels[used])


def test_a_class_without_a_name_is_warned_of_by_its_number() -> None:
    split = random_split(labels_of([100, 20, 1]), 15, 0)
    assert [warning.split(" has ")[0] for warning in split.warnings] == ["class 2", "class 3"]


def test_a_scarce_class_gives_half_and_a_single_pixel_is_left_out_with_a_warning_each() -> None:
    split = random_split(labels_of([100, 20, 1]), 15, 0, ("Corn", "Oats", "Rare"))
    assert split.warnings == (
        "Oats has 20 labelled pixels; 10 of them train, not 15",
        "Rare has a single labelled pixel; it is left out of training and test",
    )


@given(block=st.integers(4, 20), guard=st.integers(0, 3), seed=st.integers(0, 99))
def test_the_guard_band_keeps_test_pixels_away_from_training_blocks(block: int, guard: int, seed: int) -> None:
    split = block_split(labels_of([600, 600], seed=seed), 5, seed, block, guard)
    distance = distance_transform_cdt(split.train == 0, metric="chessboard")
    assert distance[split.test > 0].min() > guard


def test_runs_with_different_seeds_use_different_splits_and_one_seed_repeats() -> None:
    """Ten runs of the published code share one split."""
    labels = labels_of([200, 200])
    for kind in ("random", "blocks"):
        hashes = [make_split(kind, labels, 10, seed, ()).hash for seed in range(10)]
        assert len(set(hashes)) == 10
        assert make_split(kind, labels, 10, 3, ()).hash == hashes[3]


def test_a_block_split_serves_every_class_that_it_can() -> None:
    labels = np.zeros((48, 48), np.uint8)
    labels[:, :24], labels[:16, 40:] = 1, 2  # the second class fits in one or two blocks
    split = block_split(labels, 5, 0, block=8, guard=2)
    for class_id in (1, 2):
        assert (split.train == class_id).any() and (split.test == class_id).any()


def test_labels_that_leave_one_side_empty_are_refused() -> None:
    with pytest.raises(InputError, match="both sides need some"):
        random_split(labels_of([1]), 5, 0)
    with pytest.raises(InputError, match="at least 1"):
        random_split(labels_of([50]), 0, 0)
    with pytest.raises(InputError, match="guard"):
        block_split(labels_of([50]), 5, 0, block=4, guard=4)


def scene_and_record(kind: str = "random") -> tuple[Scene, dict]:
    scene = Scene("one", np.random.default_rng(0).normal(size=(40, 50, 3)), labels_of([300, 200]), ("a", "b"))
    split = make_split(kind, scene.labels, 15, 7, scene.class_names)
    return scene, {"scene": {"sha256": scene_hash(scene)}, "split": split.as_dict()}


@pytest.mark.parametrize("kind", ["random", "blocks"])
def test_pixels_trained_on_never_judge_the_model(kind: str) -> None:
    scene, record = scene_and_record(kind)
    truth, own = held_out(scene, record)
    assert own
    assert np.array_equal(truth, make_split(kind, scene.labels, 15, 7, ()).test)


def test_on_another_scene_all_labels_judge() -> None:
    scene, record = scene_and_record()
    other = Scene("other", scene.cube + 1, scene.labels)
    truth, own = held_out(other, record)
    assert not own and truth is other.labels


def test_a_training_scene_with_other_labels_is_refused() -> None:
    scene, record = scene_and_record()
    relabelled = Scene("one", scene.cube, scene.labels[::-1].copy())
    with pytest.raises(InputError, match="not those trained with"):
        held_out(relabelled, record)
    del record["split"]["seed"]
    with pytest.raises(InputError, match="damaged"):
        held_out(scene, record)


@given(guard=st.integers(0, 6), seed=st.integers(0, 99))
def test_halves_lie_on_two_sides_of_a_straight_guard_band(guard: int, seed: int) -> None:
    labels = labels_of([600, 600], seed=seed)
    split = half_split(labels, 5, seed, guard)
    trained, tested = np.argwhere(split.train > 0), np.argwhere(split.test > 0)
    gaps = [
        max(
            int(tested[:, axis].min()) - int(trained[:, axis].max()),
            int(trained[:, axis].min()) - int(tested[:, axis].max()),
        )
        for axis in (0, 1)
    ]
    assert max(gaps) > guard
    assert half_split(labels, 5, seed, guard).hash == split.hash


def test_a_half_that_serves_no_class_is_not_cut() -> None:
    labels = np.zeros((40, 20), np.uint8)
    labels[:, :10], labels[:, 10:] = 1, 2  # cut across track, each half would hold one class alone
    for seed in range(8):
        split = half_split(labels, 3, seed)
        assert set(np.unique(split.train)) == set(np.unique(split.test)) == {0, 1, 2}


def test_a_guard_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="leaves nothing"):
        half_split(labels_of([100]), 5, 0, guard=20)
    with pytest.raises(InputError, match="no guard band"):
        make_split("random", labels_of([100]), 5, 0, (), guard=2)


def plots_of(here: list[int], there: list[int]) -> Plots:
    """Two plots a site; of class 1, 2, … so many pixels at either site, at random places."""
    generator = np.random.default_rng(0)
    labels = np.zeros((4, 20, 20), dtype=np.uint8)
    for half, counts in ((labels[:2], here), (labels[2:], there)):
        drawn = np.repeat(np.arange(1, len(counts) + 1), counts)
        half.reshape(-1)[generator.permutation(half.size)[: len(drawn)]] = drawn
    names = tuple(f"class {number + 1}" for number in range(len(here)))
    return Plots("plots", np.zeros((*labels.shape, 2)), labels, ("A_1", "A_2", "B_1", "B_2"), names)


def test_a_split_by_sites_draws_from_one_and_judges_on_all_of_the_other() -> None:
    plots = plots_of([100, 30, 10, 0], [50, 10, 10, 99])
    split = site_split(plots, 10, 0, "A", "B")
    assert np.bincount(split.train.ravel()).tolist()[1:] == [10, 10, 10]
    assert np.bincount(split.test.ravel()).tolist()[1:] == [50, 10, 10]
    assert not split.train[2:].any() and not split.test[:2].any()
    assert (split.train[:2] > 0).any((1, 2)).all()  # over all plots of the site
    assert split.warnings == ("left out, too few pixels at A or B: class 4",)
    assert site_split(plots, 10, 0, "A", "B").hash == split.hash
    other = site_split(plots, 10, 1, "A", "B")
    assert other.hash != split.hash and np.array_equal(other.test, split.test)


def test_sites_that_share_too_few_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"share 1 of the classes with at least 15 pixels at either \(class 1\)"):
        site_split(plots_of([100, 30], [50, 10]), 15, 0, "A", "B")
    with pytest.raises(InputError, match="0 labels a class cannot train"):
        site_split(plots_of([100, 30], [50, 10]), 0, 0, "A", "B")
