"""Pictures: colours that tell classes apart, and PNGs of a sensible size whatever the scene."""

from pathlib import Path

import numpy as np
import pytest

from hyperline.errors import HyperlineError
from hyperline.pictures import class_colours, class_map_picture, thinned, training_curves_picture

image = pytest.importorskip("matplotlib.image", reason="needs matplotlib, of hyperline[pictures]")


def draw(path: Path, lines: int, samples: int, classes: int = 3, **options) -> np.ndarray:
    generator = np.random.default_rng(0)
    class_map = generator.integers(0, classes + 1, (lines, samples)).astype(np.uint8)
    composite = generator.integers(0, 5000, (lines, samples, 3)).astype(np.uint16)
    names = [f"A rather long name of class {index}" for index in range(1, classes + 1)]
    class_map_picture(path, composite, class_map, class_names=names, **options)
    return image.imread(path)


def test_no_two_of_255_classes_share_a_colour_and_none_is_background() -> None:
    colours = class_colours(255)
    assert colours.shape == (255, 3)
    assert len(np.unique(colours, axis=0)) == 255
    spread = colours.max(axis=1).astype(int) - colours.min(axis=1)
    assert spread.min() > 10  # no black, grey or white


def test_a_class_keeps_its_colour_when_there_are_more_classes() -> None:
    np.testing.assert_array_equal(class_colours(40)[:16], class_colours(16))


def test_twenty_four_classes_differ_in_brightness_or_in_blueness_so_that_the_colour_blind_see_them() -> None:
    # To people without M cones colours on one red-green line look alike; what is left to them is about this.
    # The usual 20 colours of matplotlib (tab20) come to 0.012 by it.
    colours = class_colours(24).astype(float) / 255
    left = np.stack([colours @ (0.45, 0.45, 0.1), colours[:, 2]], axis=-1)
    distance = np.linalg.norm(left[:, None] - left, axis=-1)[np.triu_indices(24, 1)]
    assert distance.min() > 0.03


@pytest.mark.parametrize("shape", [(1, 1), (145, 145), (40, 700), (9000, 30), (2100, 2050)])
def test_every_shape_of_scene_fits_a_slide(tmp_path: Path, shape: tuple[int, int]) -> None:
    picture = draw(tmp_path / "map.png", *shape, title="A title")
    assert max(picture.shape) <= 2000
    assert picture[:2].min() == 1.0  # a white margin: nothing runs over the edge
    assert picture[-2:].min() == picture[:, :2].min() == picture[:, -2:].min() == 1.0


def test_truth_confidence_and_many_classes_still_fit(tmp_path: Path) -> None:
    shape = (60, 50)
    picture = draw(
        tmp_path / "map.png", *shape, classes=255, truth=np.ones(shape, np.uint8), confidence=np.full(shape, np.nan)
    )
    assert max(picture.shape) <= 2000


def test_the_map_is_drawn_in_the_colours_of_its_classes(tmp_path: Path) -> None:
    classes = np.full((10, 10), 2, np.uint8)
    class_map_picture(tmp_path / "map.png", np.zeros((10, 10, 3)), classes, class_names=["a", "b"])
    pixels = (image.imread(tmp_path / "map.png")[..., :3] * 255).round().astype(np.uint8)
    first, second = (np.count_nonzero((pixels == colour).all(axis=-1)) for colour in class_colours(2))
    assert second > 100_000
    assert first == 0  # a class that does not occur is not in the legend either


@pytest.mark.filterwarnings("error")
def test_pixels_without_a_measurement_and_constant_bands_are_drawn_without_a_complaint(tmp_path: Path) -> None:
    composite = np.full((4, 4, 3), np.nan, np.float32)
    for fill in (np.nan, 1.0):
        composite[:2] = fill
        class_map_picture(tmp_path / "map.png", composite, np.zeros((4, 4), np.uint8), class_names=["a"])
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_thinning_is_a_view_that_keeps_small_scenes_whole() -> None:
    scene = np.zeros((9000, 10, 2), np.uint8)
    assert thinned(scene).shape == (1800, 10, 2)
    assert np.shares_memory(thinned(scene), scene)
    assert thinned(scene[:2000]).shape == (2000, 10, 2)


def test_a_picture_that_cannot_be_written_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "map.png").mkdir()
    with pytest.raises(HyperlineError, match=r"map.png cannot be written"):
        draw(tmp_path / "map.png", 2, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]


def test_training_curves_of_any_kind_and_length_are_drawn(tmp_path: Path) -> None:
    history = {
        "loss": [3.0, 2.0, 1.0],
        "scale 0": [1.0, 0.5, 0.2],
        "balance": [1.5, 1.2, 1.1],
        "learning_rate": [1e-3, 5e-4, 1e-4],
        "oa": [0.8],
        "gradient norm": [1.0, float("nan"), 2.0],
        "empty": [],
    }
    training_curves_picture(tmp_path / "curves.png", history)
    assert 500 < max(image.imread(tmp_path / "curves.png").shape) <= 2000


def test_an_empty_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HyperlineError, match="history is empty"):
        training_curves_picture(tmp_path / "curves.png", {"loss": []})
    assert not list(tmp_path.iterdir())
