from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.scenes import read_scene


def test_indian_pines_is_the_published_scene(shared_data: Callable[[str], Path]) -> None:
    scene = read_scene("indian-pines")
    assert scene.cube.shape == (145, 145, 200)
    assert scene.cube.dtype == np.uint16
    assert len(scene.class_names) == 16
    assert scene.labels is not None
    archive = read_scene(shared_data("indian_pines/indian_pines.npz"))
    np.testing.assert_array_equal(scene.cube, archive.cube)
    np.testing.assert_array_equal(scene.labels, archive.labels)
    assert scene.class_names == archive.class_names
    assert scene.wavelengths_nm is not None
    assert archive.wavelengths_nm is not None
    # The two sources disagree by a band or five in the SWIR, as the scene's note says.
    np.testing.assert_allclose(scene.wavelengths_nm[:100], archive.wavelengths_nm[:100], atol=0.1)


def test_a_missing_file_is_said_with_what_a_scene_can_be() -> None:
    with pytest.raises(InputError, match=r"nowhere\.npz: no such file; a scene is 'indian-pines' or the path"):
        read_scene("nowhere.npz")
    with pytest.raises(InputError, match=r"no such file"):
        read_scene("nowhere.mat:cube")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "strip.xyz"
    path.write_bytes(b"what is this")
    with pytest.raises(InputError, match=r"strip\.xyz: not a format known by its name .*no ENVI header strip\.hdr"):
        read_scene(path)


def test_a_folder_is_no_scene(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_scene(tmp_path)


def test_labels_of_any_format_serve_a_cube_of_any_other(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    truth = (np.arange(20, dtype=np.uint8) % 3).reshape(5, 4)
    np.savez(tmp_path / "truth.npz", labels=truth, class_names=["grass", "soil"])
    scene = read_scene(write_envi(tmp_path, cube), labels=tmp_path / "truth.npz")
    np.testing.assert_array_equal(scene.labels, truth)
    assert scene.class_names == ("grass", "soil")


def test_a_missing_reader_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    path = tmp_path / "field.tif"
    path.write_bytes(b"II*\0")
    with pytest.raises(InputError, match=r"rasterio is not installed; .*pip install 'hyperline\[geo\]'"):
        read_scene(path)
