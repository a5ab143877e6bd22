from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from hyperline.errors import InputError
from hyperline.scenes import read_scene

CUBE = np.arange(24, dtype=np.int16).reshape(2, 4, 3)
TRUTH = np.array([[0, 1, 2, 2], [1, 1, 0, 2]], dtype=np.uint8)


def save_v5(path: Path, arrays: dict[str, Any]) -> None:
    scipy.io.savemat(path, arrays, do_compression=True)


def save_v73(path: Path, arrays: dict[str, Any]) -> None:
    """Write what MATLAB writes: a 512-byte block first, arrays with reversed axes, typed by attribute."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_group("#refs#")
        for name, array in arrays.items():
            if isinstance(array, str):
                stored, kind = np.array([[ord(letter)] for letter in array], dtype=np.uint16), "char"
            else:
                stored, kind = np.asarray(array).T, "double"
            file[name] = stored
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b" "))


@pytest.fixture(params=[save_v5, save_v73], ids=["v5", "v7.3"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    def write(name: str = "field.mat", **arrays: Any) -> Path:
        request.param(tmp_path / name, arrays)
        return tmp_path / name

    return write


def test_the_only_array_of_three_axes_is_the_cube_and_the_only_map_of_its_size_the_labels(
    save: Callable[..., Path],
) -> None:
    scene = read_scene(
        save(radiance=CUBE, truth=TRUTH.astype(float), endmembers=np.ones((3, 2)), about="made for a test")
    )
    assert scene.name == "field"
    assert scene.cube.dtype == np.int16
    np.testing.assert_array_equal(scene.cube, CUBE)
    np.testing.assert_array_equal(scene.labels, TRUTH)
    assert scene.notes == ()


def test_wavelengths_are_read_where_they_stand(save: Callable[..., Path]) -> None:
    scene = read_scene(save(radiance=CUBE, wavelengths_nm=np.array([[450.0, 550.0, 650.0]])))
    np.testing.assert_array_equal(scene.wavelengths_nm, [450, 550, 650])


def test_one_of_several_cubes_is_chosen_by_name(save: Callable[..., Path]) -> None:
    path = save(radiance=CUBE, reflectance=CUBE / 7)
    with pytest.raises(InputError, match=r"2 arrays could be the cube .*choose one as field\.mat:NAME.*2 × 4 × 3"):
        read_scene(path)
    np.testing.assert_array_equal(read_scene(f"{path}:reflectance").cube, CUBE / 7)


def test_an_abundance_map_is_not_mistaken_for_labels(save: Callable[..., Path]) -> None:
    path = save(radiance=CUBE, fraction=np.full((2, 4), 0.25), gaps=np.full((2, 4), np.nan))
    assert read_scene(path).labels is None


def test_several_label_maps_leave_the_choice_to_the_user(save: Callable[..., Path]) -> None:
    path = save(radiance=CUBE, first=TRUTH, second=TRUTH * 2)
    scene = read_scene(path)
    assert scene.labels is None
    (note,) = scene.notes
    assert "2 label maps (first, second) and none was taken" in note
    np.testing.assert_array_equal(read_scene(path, labels=f"{path}:second").labels, TRUTH * 2)
    with pytest.raises(InputError, match=r"2 arrays could be the label map of 2 lines × 4 samples"):
        read_scene(path, labels=path)


def test_labels_come_from_a_file_of_their_own(save: Callable[..., Path]) -> None:
    truth = save("truth.mat", gt=TRUTH.astype(float), legend=np.zeros((3, 3)))
    np.testing.assert_array_equal(read_scene(save(radiance=CUBE), labels=truth).labels, TRUTH)


def test_labels_of_another_size_are_refused(save: Callable[..., Path]) -> None:
    path, truth = save(radiance=CUBE), save("truth.mat", gt=TRUTH.T)
    with pytest.raises(InputError, match=r"truth\.mat: no array is a label map of 2 lines × 4 samples; .*4 × 2"):
        read_scene(path, labels=truth)
    with pytest.raises(InputError, match=r"labels are 4 lines × 2 samples, the cube is 2 × 4"):
        read_scene(path, labels=f"{truth}:gt")


def test_a_file_without_a_cube_says_what_it_holds(save: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"no array is a cube .*its numeric arrays: gt \(2 × 4\)"):
        read_scene(save(gt=TRUTH))
    with pytest.raises(InputError, match=r"its numeric arrays: none"):
        read_scene(save(about="nothing"))


def test_a_name_that_is_not_there_is_refused(save: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"has no numeric array 'radians'; .*radiance \(2 × 4 × 3\)"):
        read_scene(f"{save(radiance=CUBE)}:radians")


def test_negative_labels_are_refused_by_place(save: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"field\.mat: gt: label -1 at line 0, sample 0 is negative"):
        read_scene(save(radiance=CUBE, gt=TRUTH.astype(np.int16) - 1))


def test_a_damaged_file_is_one_clear_error(save: Callable[..., Path]) -> None:
    path = save(radiance=np.random.default_rng(0).normal(size=(20, 20, 20)))
    size = path.stat().st_size
    for length in (0, 100, size // 2, size - 9):
        content = path.read_bytes()[:length]
        damaged = path.with_name("damaged.mat")
        damaged.write_bytes(content)
        with pytest.raises(InputError, match=r"damaged\.mat: (cannot be read as a MATLAB|no array is a cube)"):
            read_scene(damaged)


def test_the_original_salinas_files_agree_with_the_archive(shared_data: Callable[[str], Path]) -> None:
    scene = read_scene(shared_data("salinas_a/SalinasA_corrected.mat"), labels=shared_data("salinas_a/SalinasA_gt.mat"))
    archive = read_scene(
        shared_data("salinas_a/salinas_a.npz"),
        labels=f"{shared_data('salinas_a/salinas_a.npz')}:labels_original",
    )
    np.testing.assert_array_equal(scene.cube, archive.cube)
    np.testing.assert_array_equal(scene.labels, archive.labels)
