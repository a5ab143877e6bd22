from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.scenes import read_scene

TRUTH = np.array([[0, 1, 2, 2], [1, 1, 0, 2]], dtype=np.uint8)
CUBE = np.arange(24, dtype=np.uint16).reshape(2, 4, 3)


def save(folder: Path, **arrays: Any) -> Path:
    path = folder / "field.npz"
    np.savez(path, **arrays)
    return path


def test_an_archive_is_read_with_all_that_stands_beside_the_cube(tmp_path: Path) -> None:
    scene = read_scene(
        save(
            tmp_path,
            cube=CUBE,
            labels=TRUTH.astype(np.int64),
            class_names=["grass", "soil"],
            wavelengths_nm=[450.0, 550.0, 650.0],
            nodata=65535,
            scale=1e-4,
        )
    )
    assert scene.name == "field"
    assert scene.cube.dtype == np.uint16
    np.testing.assert_array_equal(scene.cube, CUBE)
    np.testing.assert_array_equal(scene.labels, TRUTH)
    assert scene.labels is not None
    assert scene.labels.dtype == np.uint8
    assert scene.class_names == ("grass", "soil")
    np.testing.assert_array_equal(scene.wavelengths_nm, [450, 550, 650])
    assert (scene.nodata, scene.scale, scene.notes) == (65535.0, 1e-4, ())


def test_a_bare_cube_is_a_scene_without_labels(tmp_path: Path) -> None:
    scene = read_scene(save(tmp_path, cube=CUBE))
    assert scene.labels is None
    assert scene.wavelengths_nm is None
    assert (scene.class_names, scene.nodata, scene.scale, scene.notes) == ((), None, 1.0, ())


def test_nominal_wavelengths_are_used_with_a_note(tmp_path: Path) -> None:
    scene = read_scene(save(tmp_path, cube=CUBE, wavelengths_nm_nominal=[450, 550, 650]))
    np.testing.assert_array_equal(scene.wavelengths_nm, [450, 550, 650])
    assert scene.notes == ("field.npz: wavelengths are nominal band centres",)


def test_an_npy_cube_is_mapped_and_takes_npy_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", CUBE)
    np.save(tmp_path / "truth.npy", TRUTH)
    scene = read_scene(tmp_path / "cube.npy", labels=tmp_path / "truth.npy")
    assert isinstance(scene.cube, np.memmap)
    np.testing.assert_array_equal(scene.cube, CUBE)
    np.testing.assert_array_equal(scene.labels, TRUTH)


def test_an_array_can_be_chosen_by_name_as_cube_and_as_labels(tmp_path: Path) -> None:
    path = save(tmp_path, radiance=CUBE, truth=TRUTH, class_names=["unlabelled", "grass", "soil"])
    scene = read_scene(f"{path}:radiance", labels=f"{path}:truth")
    np.testing.assert_array_equal(scene.labels, TRUTH)
    assert scene.class_names == ("grass", "soil")


def test_separate_labels_bring_their_own_class_names_and_drop_the_old_ones(tmp_path: Path) -> None:
    path = save(tmp_path, cube=CUBE, labels=TRUTH, class_names=["grass", "soil"])
    np.save(tmp_path / "other.npy", TRUTH)
    assert read_scene(path, labels=tmp_path / "other.npy").class_names == ()


def test_names_that_do_not_fit_a_map_chosen_by_name_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = save(tmp_path, cube=CUBE, labels=TRUTH, original=TRUTH * 7, class_names=["grass", "soil"])
    scene = read_scene(path, labels=f"{path}:original")
    assert scene.class_names == ()
    assert scene.notes == ("field.npz: class_names do not fit original and are left out",)


@pytest.mark.parametrize(
    ("names", "expected", "notes"),
    [
        (["grass", "soil"], ("grass", "soil"), 0),
        (["Unlabelled", "grass", "soil"], ("grass", "soil"), 0),
        (["mixed", "grass", "soil"], ("grass", "soil"), 1),
        (["unlabelled", "grass", "soil", "not in this crop"], ("grass", "soil", "not in this crop"), 0),
        (["background", "soil"], ("background", "soil"), 0),
    ],
)
def test_class_names_may_begin_at_class_0_or_1(
    tmp_path: Path, names: list[str], expected: tuple[str, ...], notes: int
) -> None:
    scene = read_scene(save(tmp_path, cube=CUBE, labels=TRUTH, class_names=names))
    assert scene.class_names == expected
    assert len(scene.notes) == notes


def test_names_are_kept_where_there_are_no_labels(tmp_path: Path) -> None:
    scene = read_scene(save(tmp_path, cube=CUBE, class_names=["unlabelled", "grass"]))
    assert scene.class_names == ("grass",)


def test_names_of_classes_that_a_crop_does_not_hold_are_kept(tmp_path: Path) -> None:
    names = ["grass", "soil", "roof", "water", "road"]
    assert read_scene(save(tmp_path, cube=CUBE, labels=TRUTH, class_names=names)).class_names == tuple(names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ["grass"]}, r"class_names has 1 names, the labels go up to 2"),
        ({"class_names": [1, 2]}, r"class_names must be a list of strings"),
        ({"labels": TRUTH.astype(np.int16) - 1}, r"label -1 at line 0, sample 0 is negative"),
        ({"labels": TRUTH.astype(np.int16) * 128}, r"label 256 at line 0, sample 2 is above 255"),
        ({"labels": TRUTH / 2}, r"label 0\.5 at line 0, sample 1 is no whole number"),
        ({"labels": np.where(TRUTH == 1, np.nan, 2.0)}, r"label nan at line 0, sample 1 is no whole number"),
        ({"labels": np.where(TRUTH == 1, np.inf, 2.0)}, r"label inf at line 0, sample 1 is no whole number"),
        ({"labels": TRUTH.astype(complex)}, r"label map holds complex128"),
        ({"labels": TRUTH.T}, r"labels are 4 lines × 2 samples, the cube is 2 × 4"),
        ({"labels": CUBE}, r"label map is 2 × 4 × 3; it needs \(line, sample\)"),
        ({"cube": CUBE.astype(complex)}, r"holds complex128; it must hold real numbers"),
        ({"cube": CUBE.astype(str)}, r"holds <U5; it must hold real numbers"),
        ({"cube": CUBE > 3}, r"holds bool; it must hold real numbers"),
        ({"cube": CUBE.astype(object)}, r"holds pickled objects, which are never loaded; save plain arrays"),
        ({"cube": CUBE[None]}, r"the cube has 4 axes \(1 × 2 × 4 × 3\); it needs \(line, sample, band\)"),
        ({"cube": CUBE[..., 0]}, r"the cube has 2 axes"),
        ({"cube": CUBE[..., :1]}, r"the cube has 1 band; .* at least 2"),
        ({"cube": CUBE[:0]}, r"the cube is empty \(0 lines × 4 samples × 3 bands\)"),
        ({"wavelengths_nm": [450.0, 550.0]}, r"2 wavelengths for 3 bands"),
        ({"wavelengths_nm": [450.0, np.inf, 650.0]}, r"wavelength of band 1 \(counted from 0\) is inf"),
        ({"wavelengths_nm": [450.0, 0.0, 650.0]}, r"wavelength of band 1 \(counted from 0\) is 0"),
        ({"wavelengths_nm": ["450", "550", "650"]}, r"wavelengths_nm holds <U3; it must hold numbers"),
        ({"scale": 0.0}, r"scale is 0; it must be finite and positive"),
        ({"scale": [1.0, 2.0]}, r"scale must be one number"),
        ({"nodata": "none"}, r"nodata must be one number"),
    ],
)
def test_a_faulty_array_is_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = save(tmp_path, **{"cube": CUBE, "labels": TRUTH, **change})
    with pytest.raises(InputError, match=message) as refused:
        read_scene(path)
    assert str(refused.value).startswith(str(path))


def test_a_missing_array_is_said_with_those_that_are_there(tmp_path: Path) -> None:
    path = save(tmp_path, radiance=CUBE)
    with pytest.raises(InputError, match=r"has no array 'cube', only radiance; choose one as field\.npz:NAME"):
        read_scene(path)
    with pytest.raises(InputError, match=r"has no array 'labels', only radiance"):
        read_scene(f"{path}:radiance", labels=path)


@settings(max_examples=150, deadline=None)
@given(
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    kept=st.floats(0.1, 1) | st.just(1.0),
)
def test_a_damaged_archive_gives_a_scene_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[float, int]], kept: float
) -> None:
    path = save(tmp_path_factory.getbasetemp(), cube=CUBE, labels=TRUTH, class_names=["grass", "soil"])
    content = bytearray(path.read_bytes())
    for position, byte in flips:
        content[int(position * len(content))] = byte
    path.write_bytes(content[: int(kept * len(content))])
    try:
        scene = read_scene(path)
    except InputError as refused:
        assert str(refused).startswith(str(path))
    else:
        np.testing.assert_array_equal(scene.cube, CUBE)  # the checksum lets no changed value through


def test_the_shared_scenes_read_with_names_that_fit_their_labels(shared_data: Callable[[str], Path]) -> None:
    for name in (
        "jasper_ridge/jasper_ridge",
        "samson/samson",
        "salinas_a/salinas_a",
        "pavia_u_crop/pavia_u_50x50",
    ):
        scene = read_scene(shared_data(f"{name}.npz"))
        assert scene.labels is not None
        assert len(scene.class_names) == scene.labels.max()
        assert scene.wavelengths_nm is not None
