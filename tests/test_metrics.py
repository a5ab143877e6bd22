from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.metrics import Metrics, confusion_matrix

MAPS = st.integers(2, 6).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(st.tuples(st.integers(0, classes), st.integers(0, classes)), min_size=1, max_size=80),
    )
)


@settings(deadline=None)
@given(MAPS)
def test_every_figure_agrees_with_scikit_learn(maps: tuple[int, list[tuple[int, int]]]) -> None:
    classes, pairs = maps
    truth, predicted = np.array(pairs, dtype=np.uint8).T
    labelled = truth > 0
    if not labelled.any():
        with pytest.raises(InputError, match="no labelled pixel"):
            Metrics.from_maps(truth, predicted, classes)
        return
    metrics = Metrics.from_maps(truth, predicted, classes)
    true, given_ = truth[labelled], predicted[labelled]
    assert metrics.pixels == labelled.sum()
    assert metrics.oa == pytest.approx(sklearn.metrics.accuracy_score(true, given_))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes in the prediction alone; a single class
        assert metrics.aa == pytest.approx(sklearn.metrics.balanced_accuracy_score(true, given_))
        kappa = sklearn.metrics.cohen_kappa_score(true, given_)
    assert metrics.kappa == (1.0 if np.isnan(kappa) else pytest.approx(kappa))
    # scikit-learn's matrix begins with class 0: no row of ours, and our last column.
    square = sklearn.metrics.confusion_matrix(true, given_, labels=range(classes + 1))
    np.testing.assert_array_equal(metrics.confusion, np.roll(square[1:], -1, axis=1))
    recall = sklearn.metrics.recall_score(
        true, given_, labels=range(1, classes + 1), average=None, zero_division=np.nan
    )
    ours = [np.nan if value is None else value for value in metrics.per_class]
    np.testing.assert_allclose(ours, recall)


def test_a_pixel_given_no_class_is_wrong_and_stands_in_the_last_column() -> None:
    truth = np.array([[1, 1, 2, 0]])
    predicted = np.array([[1, 0, 2, 2]])
    np.testing.assert_array_equal(confusion_matrix(truth, predicted, 2), [[1, 0, 1], [0, 1, 0]])
    metrics = Metrics.from_maps(truth, predicted, 2)
    assert metrics.oa == pytest.approx(2 / 3)
    assert metrics.per_class == (0.5, 1.0)


def test_a_class_absent_from_the_truth_has_no_accuracy_and_no_part_in_the_average() -> None:
    metrics = Metrics.from_maps(np.array([1, 1, 3]), np.array([1, 2, 3]), 4)
    assert metrics.per_class == (0.5, None, 1.0, None)
    assert metrics.aa == 0.75


def test_the_sum_over_blocks_scores_as_the_whole_map() -> None:
    truth, predicted = np.random.default_rng(0).integers(0, 4, (2, 40, 5))
    blocks = [confusion_matrix(truth[start : start + 8], predicted[start : start + 8], 3) for start in range(0, 40, 8)]
    assert Metrics.from_confusion(np.sum(blocks, axis=0)) == Metrics.from_maps(truth, predicted, 3)


def test_the_figures_survive_json() -> None:
    metrics = Metrics.from_maps(np.array([1, 2, 2]), np.array([1, 2, 1]), 3)
    assert json.loads(json.dumps(metrics.as_dict())) == {
        "oa": pytest.approx(2 / 3),
        "aa": 0.75,
        "kappa": pytest.approx(0.4),
        "per_class": [1.0, 0.5, None],
        "pixels": 3,
        "confusion": [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]],
    }


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.ones((2, 3)), np.ones((3, 2)), r"shape \(2, 3\), the prediction \(3, 2\)"),
        (np.array([4]), np.array([1]), r"the truth holds class ids 4 to 4; there are 3 classes"),
        (np.array([1]), np.array([4]), r"the prediction holds class ids 4 to 4"),
        (np.array([-1]), np.array([1]), r"the truth holds class ids -1"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(truth: np.ndarray, predicted: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        confusion_matrix(truth, predicted, 3)
