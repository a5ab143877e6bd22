from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.metrics import Metrics, Reliability, auroc, confusion_matrix, roc_curve

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


def test_the_calibration_error_is_the_distance_of_confidence_from_accuracy_bin_by_bin() -> None:
    # ten pixels at 0.95 of which seven are right; ten at 0.25 of which five are
    truth = np.ones(21, np.uint8)
    predicted = np.array([1] * 7 + [2] * 3 + [1] * 5 + [2] * 5 + [1], np.uint8)
    confidence = np.array([0.95] * 10 + [0.25] * 10 + [0.6], np.float32)
    truth[-1] = 0  # not labelled, not counted
    reliability = Reliability.from_maps(truth, predicted, confidence)
    assert reliability.ece == pytest.approx((0.25 + 0.25) / 2)
    assert sum(reliability.pixels) == 20
    assert reliability.pixels[14] == reliability.pixels[3] == 10
    assert reliability.accuracy[14] == pytest.approx(0.7)
    assert reliability.confidence[3] == pytest.approx(0.25)


def test_labels_that_are_right_as_often_as_their_confidence_says_have_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1, 200_000)
    predicted = np.where(rng.random(confidence.size) < confidence, 1, 2)
    reliability = Reliability.from_maps(np.ones_like(predicted), predicted, confidence)
    assert reliability.ece < 0.005
    overconfident = Reliability.from_maps(np.ones_like(predicted), predicted, np.ones_like(confidence))
    assert overconfident.ece == pytest.approx(0.4, abs=0.01)


def test_a_confidence_that_is_no_probability_is_refused() -> None:
    one = np.ones(3, np.uint8)
    for value in (1.1, -0.1, np.nan):
        with pytest.raises(InputError, match="between 0 and 1"):
            Reliability.from_maps(one, one, np.full(3, value))
    with pytest.raises(InputError, match="must match"):
        Reliability.from_maps(one, one, np.ones(2))
    with pytest.raises(InputError, match="no labelled pixel was given a class"):
        Reliability.from_maps(one, np.zeros_like(one), np.ones(3))


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1), st.lists(st.integers(-3, 3), min_size=1))
def test_the_area_under_the_curve_agrees_with_scikit_learn_ties_and_all(known: list[int], unknown: list[int]) -> None:
    low, high = np.array(known, float), np.array(unknown, float)
    truth, scores = np.repeat([0, 1], [low.size, high.size]), np.concatenate([low, high])
    assert auroc(low, high) == pytest.approx(sklearn.metrics.roc_auc_score(truth, scores))
    false, true = roc_curve(low, high)
    expected = sklearn.metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert false == pytest.approx(expected[0])
    assert true == pytest.approx(expected[1])


def test_a_score_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="a pixel of either kind"):
        auroc(np.ones(3), np.ones(0))
    with pytest.raises(InputError, match="no number"):
        auroc(np.ones(3), np.array([np.nan]))
