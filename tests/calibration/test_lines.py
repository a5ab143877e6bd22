"""Lines that cannot calibrate are refused, with the number that matters."""

from dataclasses import replace

import numpy as np
import pytest

from hyperline.calibration.lines import read_lines
from hyperline.errors import InputError


def test_lines_come_in_the_models_units_padded_to_its_multiple(bundle, scene):
    lines = read_lines(replace(scene, scale=0.5), bundle.card)
    assert lines.values.shape == (104, 40, 24) and lines.samples == 36
    np.testing.assert_allclose(lines.values[:, :36], scene.cube * 0.5)
    assert not lines.valid[:, 36:].any() and lines.valid[:, :36].all()
    assert lines.warnings == ()


def test_another_sensor_is_refused(bundle, scene):
    with pytest.raises(InputError, match=r"20 bands.*takes 24"):
        read_lines(replace(scene, cube=scene.cube[..., :20]), bundle.card)
    with pytest.raises(InputError, match=r"reaches from 500\.00 to 1100\.00 nm; band 0 .* extrapolated"):
        read_lines(replace(scene, wavelengths_nm=np.linspace(500, 1100, 24)), bundle.card)


def test_labels_in_other_classes_are_refused(bundle, scene):
    with pytest.raises(InputError, match=r"class 1 of made-up is mud, the model's is .*numbering, or none"):
        read_lines(replace(scene, class_names=("mud", *scene.class_names[1:])), bundle.card)


def test_too_few_lines_are_refused(bundle, scene):
    with pytest.raises(InputError, match=r"has 63 lines.*at least 64"):
        read_lines(replace(scene, cube=scene.cube[:63], labels=None), bundle.card)


@pytest.mark.parametrize(
    "value, what",
    [(0, "dark"), (np.iinfo(np.uint16).max, "dark"), (np.nan, "invalid"), (np.inf, "invalid")],
)
def test_lines_that_say_nothing_are_refused(bundle, scene, value, what):
    cube = scene.cube.astype(np.uint16 if np.isfinite(value) else np.float32)
    cube[:80] = value
    with pytest.raises(InputError, match=rf"77% of the pixels are {what}"):
        read_lines(replace(scene, cube=cube), bundle.card)


def test_saturated_lines_are_refused_and_a_few_are_named(bundle, scene):
    cube = scene.cube.copy()
    cube[:80, :, 5:12] = np.iinfo(np.uint16).max
    with pytest.raises(InputError, match=r"77% of the pixels are saturated.*65535"):
        read_lines(replace(scene, cube=cube), bundle.card)
    cube = scene.cube.copy()
    cube[:3, :, 5:12] = np.iinfo(np.uint16).max
    (warning,) = read_lines(replace(scene, cube=cube), bundle.card).warnings
    assert warning.startswith("2.9% of the pixels are saturated")
