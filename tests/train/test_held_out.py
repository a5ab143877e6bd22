"""Labels that judge a classifier are held out in patches, for one pixel of a polygon tells the next."""

import numpy as np
import pytest
from sklearn.svm import SVC

from hyperline.scenes import Scene
from hyperline.train.baselines.shallow import make_classifier
from hyperline.train.held_out import FOLDS, divide, held_out_accuracy, label_patches


def strip(*rows: str) -> tuple[Scene, np.ndarray]:
    labels = np.array([[int(one) for one in row] for row in rows], np.uint8)
    return Scene("drawn", np.zeros((*labels.shape, 3), np.float32)), labels


def alike(ids: np.ndarray, wanted: list[int]) -> bool:
    """Whether the same labels share an id."""
    other = np.array(wanted)
    return bool(((ids[:, None] == ids) == (other[:, None] == other)).all())


FIRST = strip(
    "110020",
    "010200",
    "000000",
    "100333",
)
SECOND = strip("100000", "000000", "000000", "000333")


def test_labels_that_touch_are_a_patch_and_a_lone_one_is_cut_across() -> None:
    ids = label_patches([FIRST])
    assert alike(ids, [0, 0, 1, 0, 2, 3, 4, 5, 5]), "of classes 2 and 3 there is one patch: two parts each"


def test_patches_of_all_strips_count() -> None:
    ids = label_patches([FIRST, SECOND])
    assert alike(ids, [0, 0, 1, 0, 2, 3, 4, 4, 4, 5, 6, 6, 6]), "class 3 has two patches now, and keeps them whole"


def test_parts_hold_whole_patches_and_every_class() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(1, 5), 30).astype(np.uint8)
    patches = np.arange(120) // 3
    parts = divide(classes, patches, rng)
    assert all(len(np.unique(parts[patches == one])) == 1 for one in range(40))
    for one in range(1, 5):
        sizes = np.bincount(parts[classes == one], minlength=FOLDS)
        assert sizes.max() - sizes.min() == 3, "ten patches in three parts"


def test_what_knows_the_place_alone_is_right_on_single_labels_and_wrong_on_patches() -> None:
    """As a blur is that tells every pixel of a polygon by the polygon."""
    rng = np.random.default_rng(0)
    patches = np.arange(36) // 6
    classes = (patches % 2 + 1).astype(np.uint8)
    place = rng.normal(size=(6, 8))[patches] + rng.normal(0, 0.01, (36, 8))
    nearest = SVC(C=100.0)
    assert held_out_accuracy(nearest, place, classes, np.arange(36)) == 1
    assert held_out_accuracy(nearest, place, classes, patches) < 0.7
    spectrum = classes[:, None] + rng.normal(0, 0.1, (36, 8))
    assert held_out_accuracy(nearest, spectrum, classes, patches) == 1


@pytest.mark.parametrize("counts", [[2, 2, 3], [2] * 9 + [3], [2] * 31, [2] * 40 + [3], [50, 2], [1, 80, 80]])
@pytest.mark.parametrize("together", [1, 2])
def test_every_classifier_has_an_accuracy_however_few_the_labels(counts: list[int], together: int) -> None:
    """Whose folds would hold fewer labels than a discriminant has classes."""
    classes = np.repeat(np.arange(1, len(counts) + 1), [together * one for one in counts]).astype(np.uint8)
    patches = np.arange(len(classes)) // together
    features = np.random.default_rng(0).normal(size=(len(classes), 4)) + 9.0 * classes[:, None]
    for kind in ("svm", "lda"):
        if kind == "svm" or len(classes) > 2 * len(counts):
            assert 0.5 < held_out_accuracy(make_classifier(kind, 0), features, classes, patches) <= 1


def test_labels_that_cannot_be_held_out_tell_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(3, 2))
    for classes in ([1, 2, 3], [1, 1, 2]):
        assert held_out_accuracy(SVC(), features, np.array(classes, np.uint8), np.arange(3)) == 0
    assert held_out_accuracy(SVC(), features, np.array([1, 1, 2], np.uint8), np.array([0, 0, 1])) == 0


def test_of_large_patches_some_pixels_judge() -> None:
    """A field is as good as a hundred of its pixels; support vectors take the square of their number."""
    rng = np.random.default_rng(0)
    patches = np.arange(6).repeat(20_000)
    classes = (patches % 2 + 1).astype(np.uint8)
    features = classes[:, None] + rng.normal(0, 0.1, (len(classes), 4))
    assert held_out_accuracy(SVC(), features, classes, patches) == 1
