"""Real lines for the export: cut, padded, or refused."""

from dataclasses import replace

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.export.excerpt import cut_excerpt, read_excerpt


def test_invalid_pixels_are_zero_and_padding_is_invalid(scene):
    excerpt = cut_excerpt(scene, 24)
    assert excerpt.lines.shape == (24, 48, 24)
    assert not excerpt.valid[:, 44:].any()
    assert not excerpt.lines[~excerpt.valid].any()
    np.testing.assert_array_equal(excerpt.lines[:, :44][excerpt.valid[:, :44]], scene.cube[:24][excerpt.valid[:, :44]])


def test_a_short_scene_is_played_again(scene):
    excerpt = cut_excerpt(replace(scene, cube=scene.cube[:10]), 24)
    np.testing.assert_array_equal(excerpt.lines[10:20], excerpt.lines[:10])


def test_lines_before_the_first_measurement_are_passed_over(scene):
    excerpt = cut_excerpt(replace(scene, cube=scene.cube[5:]), 8)
    assert excerpt.valid[0].any()


def test_a_scene_without_a_measurement_is_refused(scene):
    with pytest.raises(InputError, match="made-up has no valid pixel"):
        cut_excerpt(replace(scene, cube=np.full_like(scene.cube, -1)), 8)


def test_half_the_width_stays_a_multiple_of_8(scene):
    assert cut_excerpt(scene, 8).narrower().valid.shape == (8, 24)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"lines": np.zeros((4, 8, 3))}, "cannot be read"),
        ({"lines": np.zeros((4, 8)), "valid": np.ones((4, 8), bool)}, "does not hold lines"),
        ({"lines": np.zeros((4, 8, 3)), "valid": np.ones((4, 7), bool)}, "does not hold lines"),
        ({"lines": np.zeros((4, 8, 3)), "valid": np.zeros((4, 8), bool)}, "does not hold lines"),
        ({"lines": np.zeros((4, 8, 3)), "valid": np.ones((4, 8))}, "does not hold lines"),
        ({"lines": np.array([[["a"]]], dtype=object), "valid": np.ones((1, 1), bool)}, "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused_and_the_way_out_named(tmp_path, arrays, message):
    path = tmp_path / "excerpt.npz"
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(InputError, match=f"excerpt.npz {message}.*--lines SCENE"):
        read_excerpt(path, 8)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "excerpt.npz"
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_excerpt(path, 8)
