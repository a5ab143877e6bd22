from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import spectral.io.envi
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.scenes import read_scene
from hyperline.scenes.envi import map_cube
from hyperline.scenes.envi_header import find_data, read_header

DTYPES = ["u1", "i2", "i4", "f4", "f8", "u2", "u4", "i8", "u8"]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(2, 5)),
    dtype=st.sampled_from(DTYPES),
    interleave=st.sampled_from(["bil", "bip", "bsq"]),
    byte_order=st.sampled_from([0, 1]),
    offset=st.integers(0, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_layout_reads_as_the_independent_reader_sees_it(
    tmp_path_factory: pytest.TempPathFactory,
    write_envi: Callable[..., Path],
    shape: tuple[int, int, int],
    dtype: str,
    interleave: str,
    byte_order: int,
    offset: int,
    seed: int,
) -> None:
    values = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
    header = write_envi(
        tmp_path_factory.mktemp("envi"), values, offset=offset, interleave=interleave, byte_order=byte_order
    )
    scene = read_scene(header)
    oracle = spectral.io.envi.open(str(header), str(header.with_suffix(".img"))).open_memmap(interleave="bip")
    assert scene.cube.dtype == oracle.dtype
    np.testing.assert_array_equal(scene.cube, oracle)
    np.testing.assert_array_equal(scene.cube, values)


@pytest.mark.parametrize("byte_order", [0, 1])
@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
def test_a_file_of_another_writer_reads_back(tmp_path: Path, interleave: str, byte_order: int) -> None:
    values = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)
    header = tmp_path / "strip.hdr"
    metadata = {
        "wavelength": [400.0, 500, 600, 700, 800],
        "wavelength units": "nm",
        "data ignore value": -9999,
    }
    spectral.io.envi.save_image(
        str(header), values, interleave=interleave, byteorder=byte_order, metadata=metadata, dtype=np.float32
    )
    scene = read_scene(header)
    np.testing.assert_array_equal(scene.cube, values)
    np.testing.assert_array_equal(scene.wavelengths_nm, [400, 500, 600, 700, 800])
    assert scene.nodata == -9999
    assert scene.notes == ()


@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
def test_a_cube_larger_than_memory_is_mapped_and_not_copied(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path], interleave: str
) -> None:
    header = write_envi(tmp_path, cube, interleave=interleave, lines=2**25, samples=1024)
    with (tmp_path / "strip.img").open("r+b") as data:
        data.truncate(2**25 * 1024 * 3 * 2)  # 192 GiB, sparse on disk
    scene = read_scene(header)
    assert scene.cube.shape == (2**25, 1024, 3)
    assert not scene.cube.flags.writeable
    assert scene.cube[-1, -1, -1] == 0


def test_the_data_file_can_be_named_in_place_of_the_header(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    header = write_envi(tmp_path, cube)
    np.testing.assert_array_equal(read_scene(header.with_suffix(".img")).cube, cube)
    header.rename(tmp_path / "strip.img.hdr")
    np.testing.assert_array_equal(read_scene(tmp_path / "strip.img").cube, cube)
    np.testing.assert_array_equal(read_scene(tmp_path / "strip.img.hdr").cube, cube)


@pytest.mark.parametrize("suffix", ["", ".img", ".raw", ".dat", ".bil", ".bip", ".bsq", ".bin", ".RAW"])
def test_the_data_file_is_found_under_every_usual_name(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path], suffix: str
) -> None:
    header = write_envi(tmp_path, cube)
    (tmp_path / "strip.img").rename(tmp_path / f"strip{suffix}")
    (tmp_path / "strip_2.img").write_bytes(b"of another strip")
    np.testing.assert_array_equal(read_scene(header).cube, cube)


def test_a_header_without_data_or_with_two_data_files_is_refused(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    header = write_envi(tmp_path, cube)
    (tmp_path / "strip.raw").write_bytes(b"")
    with pytest.raises(InputError, match=r"strip\.hdr: several data files .*strip\.img, strip\.raw.*name the one"):
        read_scene(header)
    (tmp_path / "strip.raw").unlink()
    (tmp_path / "strip.img").unlink()
    with pytest.raises(InputError, match=r"strip\.hdr: its data file is missing; .*strip\.img"):
        read_scene(header)


@pytest.mark.parametrize("interleave", ["bil", "bip"])
def test_a_truncated_cube_is_refused_with_both_sizes_and_the_whole_lines(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path], interleave: str
) -> None:
    header = write_envi(tmp_path, cube, interleave=interleave, offset=7)
    data = tmp_path / "strip.img"
    data.write_bytes(data.read_bytes()[:-25])
    with pytest.raises(
        InputError, match=r"strip\.img: truncated: .*127 bytes in all; found 102; .*'lines = 3'"
    ) as refused:
        read_scene(header)
    assert refused.value.exit_code == 2


def test_a_truncated_bsq_cube_has_no_whole_lines_to_offer(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    header = write_envi(tmp_path, cube, interleave="bsq")
    data = tmp_path / "strip.img"
    data.write_bytes(data.read_bytes()[:-24])
    with pytest.raises(InputError, match=r"120 bytes in all; found 96; copy the file again$"):
        read_scene(header)


def test_an_empty_data_file_is_refused(tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]) -> None:
    header = write_envi(tmp_path, cube)
    (tmp_path / "strip.img").write_bytes(b"")
    with pytest.raises(InputError, match=r"truncated: .*found 0; copy the file again$"):
        read_scene(header)


def test_a_cube_longer_by_whole_lines_is_read_with_advice(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    scene = read_scene(write_envi(tmp_path, cube, lines=3))
    np.testing.assert_array_equal(scene.cube, cube[:3])
    (note,) = scene.notes
    assert "longer than strip.hdr says by 2 whole lines" in note
    assert "'lines = 5'" in note


def test_a_cube_longer_by_a_part_of_a_line_is_refused(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    header = write_envi(tmp_path, cube)
    with (tmp_path / "strip.img").open("ab") as data:
        data.write(b"x")
    with pytest.raises(InputError, match=r"too long: .*120 bytes in all; found 121; check samples, bands"):
        read_scene(header)


def test_a_bsq_cube_longer_by_whole_lines_is_refused_since_its_bands_would_shift(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    header = write_envi(tmp_path, cube, interleave="bsq", lines=3)
    with pytest.raises(InputError, match=r"too long by 2 whole lines: .*set 'lines = 5' in strip\.hdr"):
        read_scene(header)


def test_a_class_map_gives_labels_and_the_names_after_unclassified(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    truth = (np.arange(20, dtype=np.uint8) % 3).reshape(5, 4)
    scene_header = write_envi(tmp_path, cube)
    names = "{Unclassified, grass, bare soil, water}"
    class_map = write_envi(
        tmp_path, truth[..., None], "truth", file_type="ENVI Classification", classes=4, class_names=names
    )
    scene = read_scene(scene_header, labels=class_map)
    np.testing.assert_array_equal(scene.labels, truth)
    assert scene.class_names == ("grass", "bare soil", "water")


def test_a_class_map_with_more_classes_than_declared_is_refused(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    truth = (np.arange(20, dtype=np.uint8) % 3).reshape(5, 4, 1)
    scene_header = write_envi(tmp_path, cube)
    class_map = write_envi(tmp_path, truth, "truth", file_type="ENVI Classification", classes=2)
    with pytest.raises(InputError, match=r"truth\.hdr: 'classes' is 2, .* truth\.img holds class 2"):
        read_scene(scene_header, labels=class_map)


def test_a_cube_of_several_bands_is_no_label_map(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    header = write_envi(tmp_path, cube)
    with pytest.raises(InputError, match=r"strip\.hdr: 3 bands; a label map has 1"):
        read_scene(header, labels=header)


@pytest.mark.parametrize("name", ["4-22-22_right_same_B73_top_00", "dark_reference_crop", "white_reference_crop"])
def test_headers_without_byte_order_are_read_and_the_assumption_is_said(
    shared_data: Callable[[str], Path], name: str
) -> None:
    header = shared_data(f"plantcv_corn_raw/{name}.hdr")
    scene = read_scene(header)
    assert scene.cube.shape == (31, 43, 580)
    stored = np.fromfile(header.with_suffix(".raw"), "<u2").reshape(31, 580, 43)
    np.testing.assert_array_equal(scene.cube, stored.transpose(0, 2, 1))
    assert f"{name}.hdr has no 'byte order'; assumed 0 (little-endian)" in scene.notes
    assert f"{name}.hdr has no 'header offset'; assumed 0" in scene.notes


@pytest.mark.filterwarnings("ignore:Parameters with non-lowercase names:UserWarning")
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("emit_l1a_raw/emit20220305t002444_subset_raw.hdr", (3, 1280, 328)),
        ("emit_l1a_raw/emit20220305t002601_subset_raw.hdr", (3, 1280, 328)),
        ("emit_l1a_raw/EMIT_FlatField_20220504.hdr", (328, 1280, 1)),
        ("emit_l1a_raw/EMIT_BadElements_20220307.hdr", (328, 1280, 1)),
        ("emit_l1a_raw/EMIT_LinearityBasis_20220504.hdr", (3, 65536, 1)),
        ("sensor_calibrations/AVIRIS3_FlatField_20230709.hdr", (328, 1280, 1)),
        ("sensor_calibrations/aisafenix_Radiometric_8x2_1x1.hdr", (1, 384, 363)),
        ("sensor_calibrations/fenix1k_Radiometric_8x2_1x1.hdr", (1, 1024, 334)),
        ("sensor_calibrations/mvx_darkReference.hdr", (1, 1020, 301)),
        ("sensor_calibrations/mvx_whiteReference.hdr", (1, 1020, 301)),
    ],
)
def test_real_sensor_files_agree_with_the_independent_reader(
    shared_data: Callable[[str], Path], name: str, shape: tuple[int, int, int]
) -> None:
    path = shared_data(name)
    header = read_header(path)
    data = find_data(header)
    mapped, _ = map_cube(header, data)
    assert mapped.shape == shape
    oracle = spectral.io.envi.open(str(path), str(data)).open_memmap(interleave="bip")
    np.testing.assert_array_equal(mapped, oracle)


def test_a_frame_of_one_band_is_mapped_but_is_no_scene(shared_data: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=r"the cube has 1 band; a hyperspectral scene has at least 2"):
        read_scene(shared_data("emit_l1a_raw/EMIT_FlatField_20220504.hdr"))


def test_wavelengths_of_two_overlapping_detectors_need_not_increase(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    header = write_envi(tmp_path, cube, wavelength="{900, 1000, 950}", wavelength_units="nm")
    np.testing.assert_array_equal(read_scene(header).wavelengths_nm, [900, 1000, 950])
