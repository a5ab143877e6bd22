"""File sources: the right lines at the right time, and only for a model that knows their bands."""

import time
from dataclasses import replace

import numpy as np
import pytest

from hyperline.bundle.card import BandSelection
from hyperline.errors import InputError
from hyperline.match import WAVELENGTH_TOLERANCE_NM, require_match
from hyperline.runtime.sources.files import SceneSource
from hyperline.scenes import Scene


def test_a_scene_played_twice_repeats_its_lines_and_its_truth(scene: Scene) -> None:
    lines = list(SceneSource(scene, repeat=2))
    assert (
        [line.index for line in lines] == list(range(2 * scene.lines)) == list(range(SceneSource(scene, None, 2).lines))
    )
    np.testing.assert_array_equal([line.values for line in lines], np.tile(scene.cube, (2, 1, 1)))
    np.testing.assert_array_equal([line.truth for line in lines], np.tile(scene.labels, (2, 1)))


def test_a_paced_source_hands_over_each_line_when_due_and_does_not_drift(scene: Scene) -> None:
    rate = 400.0
    late = []
    for line in SceneSource(scene, rate, repeat=4):
        late.append(time.perf_counter() - line.arrived)
        time.sleep(0.001)  # work between the lines must not add up
    assert min(late) >= 0
    assert np.median(late) < 0.5 / rate


def test_due_times_stay_on_schedule_when_the_taker_is_slow(scene: Scene) -> None:
    arrived = []
    for line in SceneSource(scene, rate=2000.0):
        arrived.append(line.arrived)
        time.sleep(0.002)
    np.testing.assert_allclose(np.diff(arrived), 1 / 2000, atol=1e-9)


@pytest.mark.parametrize(("rate", "repeat"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (float("inf"), 1), (None, 0)])
def test_a_rate_or_repeat_that_is_not_positive_is_refused(scene: Scene, rate: float | None, repeat: int) -> None:
    with pytest.raises(InputError, match="must be"):
        SceneSource(scene, rate, repeat)


def test_a_scene_without_lines_is_refused(scene: Scene) -> None:
    with pytest.raises(InputError, match="empty"):
        SceneSource(replace(scene, cube=scene.cube[:0], labels=None))


def test_another_number_of_bands_is_refused_with_both_numbers(scene: Scene, tiny) -> None:
    source = SceneSource(replace(scene, cube=scene.cube[..., :4], wavelengths_nm=None))
    with pytest.raises(InputError, match=r"has 4 bands.*takes 5"):
        require_match(source, tiny.card())


@pytest.mark.parametrize(
    ("moves", "message"),
    [
        ([300, 300, 300, 300, 300], r"reaches from .* would have to be extrapolated"),
        ([0, 0, 0, 0, -90], r"reaches from .* would have to be extrapolated"),
        ([0, 0, 0, np.nan, 0], r"wavelength of band 3 is no number"),
    ],
)
def test_bands_elsewhere_in_the_spectrum_are_refused_with_the_numbers(
    scene: Scene, tiny, moves: list[float], message: str
) -> None:
    moved = scene.wavelengths_nm + np.array(moves)
    with pytest.raises(InputError, match=message):
        require_match(SceneSource(replace(scene, wavelengths_nm=moved)), tiny.card())


@pytest.mark.parametrize("shift", [None, 0.9 * WAVELENGTH_TOLERANCE_NM])
def test_unknown_wavelengths_and_those_of_another_unit_of_the_sensor_fly_as_they_stand(
    scene: Scene, tiny, shift
) -> None:
    wavelengths = None if shift is None else scene.wavelengths_nm + shift
    assert require_match(SceneSource(replace(scene, wavelengths_nm=wavelengths)), tiny.card()) is None


def test_without_wavelengths_a_model_takes_its_bands_of_lines_that_have_the_sensors(scene: Scene, tiny) -> None:
    selection = BandSelection(bands=9, ranges=((1, 3), (5, 8)))
    card = tiny.card().model_copy(update={"selection": selection, "wavelengths_nm": None})
    whole = replace(scene, cube=np.zeros((2, 3, 9), np.float32), wavelengths_nm=None, labels=None)
    resampling = require_match(SceneSource(whole), card)
    assert resampling.ranges == ((1, 3), (5, 8))
    assert require_match(SceneSource(replace(scene, wavelengths_nm=None)), card) is None
    with pytest.raises(InputError, match=r"has 8 bands.*takes 5"):
        require_match(SceneSource(replace(whole, cube=np.zeros((2, 3, 8), np.float32))), card)


def test_truth_in_classes_that_the_model_does_not_have_is_refused(scene: Scene, tiny) -> None:
    labels = np.full_like(scene.labels, 9)
    with pytest.raises(InputError, match=r"up to class 9.*knows 4"):
        require_match(SceneSource(replace(scene, labels=labels)), tiny.card())
