from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from hyperline.errors import InputError
from hyperline.scenes import read_georeference, read_scene

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

CUBE = np.arange(24, dtype=np.int16).reshape(2, 4, 3)
TRUTH = np.array([[0, 1, 2, 2], [1, 1, 0, 2]], dtype=np.uint8)


def save(path: Path, cube: np.ndarray, tags: list[dict[str, Any]] | None = None, **profile: Any) -> Path:
    """Write (line, sample, band) as a TIFF of as many bands."""
    lines, samples, bands = cube.shape
    size = {"height": lines, "width": samples, "count": bands, "dtype": cube.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **profile) as file:
        file.write(cube.transpose(2, 0, 1))
        for band, tag in enumerate(tags or [], start=1):
            file.update_tags(band, **tag)
    return path


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_a_geotiff_reads_as_line_sample_band(tmp_path: Path, interleave: str) -> None:
    scene = read_scene(save(tmp_path / "field.tif", CUBE, interleave=interleave, nodata=-999, compress="deflate"))
    assert scene.cube.dtype == np.int16
    np.testing.assert_array_equal(scene.cube, CUBE)
    assert (scene.name, scene.nodata, scene.scale, scene.notes) == ("field", -999.0, 1.0, ())
    assert scene.wavelengths_nm is None


def test_wavelengths_come_from_the_tags_of_the_bands(tmp_path: Path) -> None:
    tags = [{"wavelength": value, "wavelength_units": "Micrometers"} for value in (0.45, 0.55, 0.65)]
    scene = read_scene(save(tmp_path / "field.tif", CUBE, tags))
    np.testing.assert_allclose(scene.wavelengths_nm, [450, 550, 650])
    assert scene.notes == ()


def test_tags_that_are_no_numbers_or_are_on_some_bands_only_give_no_wavelengths(tmp_path: Path) -> None:
    scene = read_scene(save(tmp_path / "words.tif", CUBE, [{"wavelength": word} for word in ("blue", "green", "red")]))
    assert scene.wavelengths_nm is None
    assert "are no numbers; they are ignored" in scene.notes[0]
    assert read_scene(save(tmp_path / "some.tif", CUBE, [{"wavelength": 450}])).wavelengths_nm is None


def test_scale_is_taken_where_all_bands_share_it(tmp_path: Path) -> None:
    path = save(tmp_path / "field.tif", CUBE)
    with rasterio.open(path, "r+") as file:
        file.scales = (1e-4, 1e-4, 1e-4)
    assert read_scene(path).scale == 1e-4
    with rasterio.open(path, "r+") as file:
        file.scales = (1e-4, 1e-3, 1e-4)
    scene = read_scene(path)
    assert scene.scale == 1.0
    assert "differ and are not applied" in scene.notes[0]


def test_a_label_map_counts_its_nodata_as_unlabelled(tmp_path: Path) -> None:
    cube = save(tmp_path / "field.tif", CUBE)
    truth = save(tmp_path / "truth.tif", np.where(TRUTH == 0, 255, TRUTH)[..., None].astype(np.uint8), nodata=255)
    np.testing.assert_array_equal(read_scene(cube, labels=truth).labels, TRUTH)


def test_a_cube_is_no_label_map(tmp_path: Path) -> None:
    cube = save(tmp_path / "field.tif", CUBE)
    with pytest.raises(InputError, match=r"field\.tif: 3 bands; a label map has 1"):
        read_scene(cube, labels=cube)


def test_one_band_complex_or_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the cube has 1 band"):
        read_scene(save(tmp_path / "one.tif", CUBE[..., :1]))
    with pytest.raises(InputError, match=r"the cube holds complex64"):
        read_scene(save(tmp_path / "complex.tif", CUBE.astype(np.complex64)))
    whole = save(tmp_path / "whole.tif", np.random.default_rng(0).normal(size=(20, 20, 20)))
    size = whole.stat().st_size
    for length in (0, 4, size // 2, size - 9):
        damaged = tmp_path / "damaged.tif"
        damaged.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(InputError, match=r"damaged\.tif: cannot be read as a GeoTIFF"):
            read_scene(damaged)


@pytest.mark.parametrize("opened", ["Full.hdr", "Full.tif"])
def test_a_tiff_with_an_envi_header_opens_by_either_name(shared_data: Callable[[str], Path], opened: str) -> None:
    scene = read_scene(shared_data(f"hysu/{opened}"), labels=shared_data("hysu/masks.mat"))
    archive = shared_data("hysu/hysu_full.npz")
    with np.load(archive) as expected:
        np.testing.assert_array_equal(scene.cube, expected["cube"])
        np.testing.assert_allclose(scene.wavelengths_nm, expected["wavelengths_nm"], atol=0.01)
    assert (scene.nodata, scene.scale) == (15000.0, 1e-4)
    assert scene.labels is not None
    assert scene.labels.max() == 5
    assert scene.notes == ("Full.hdr does not say the unit of its wavelengths; assumed micrometers from their values",)


def test_a_tiff_that_contradicts_its_header_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "field.tif", CUBE)
    (tmp_path / "field.hdr").write_text("ENVI\nsamples = 4\nlines = 3\nbands = 3\nfile type = TIFF\ninterleave = tif\n")
    with pytest.raises(InputError, match=r"2 lines × 4 samples × 3 bands, but field\.hdr says 3 × 4 × 3"):
        read_scene(tmp_path / "field.tif")


MAP_INFO = "map info = {UTM, 1.000, 1.000, 500000.0, 5000000.0, 2.0, 2.0, 32, North, WGS-84, units=Meters}\n"
HEADER = "ENVI\nsamples = 4\nlines = 2\nbands = 3\nfile type = TIFF\ninterleave = tif\n"


@pytest.mark.parametrize("opened", ["field.tif", "field.hdr"])
@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_a_tiff_lies_where_its_header_says_if_its_tags_do_not(tmp_path: Path, opened: str, compress: str) -> None:
    save(tmp_path / "field.tif", CUBE, compress=compress)
    (tmp_path / "field.hdr").write_text(HEADER)
    assert read_georeference(tmp_path / opened) is None
    (tmp_path / "field.hdr").write_text(HEADER + MAP_INFO)
    place = read_georeference(tmp_path / opened)
    assert place is not None and place.crs.to_epsg() == 32632
    assert place.transform.almost_equals(rasterio.Affine(2, 0, 500000, 0, -2, 5000000))


def test_the_tags_of_a_tiff_come_before_its_header(tmp_path: Path) -> None:
    tags = rasterio.Affine(1, 0, 7, 0, -1, 9)
    save(tmp_path / "field.tif", CUBE, crs="EPSG:32633", transform=tags)
    (tmp_path / "field.hdr").write_text(HEADER + MAP_INFO)
    place = read_georeference(tmp_path / "field.tif")
    assert place is not None and (place.crs.to_epsg(), place.transform) == (32633, tags)


def test_a_header_of_flat_data_beside_a_tiff_is_not_its_header(
    tmp_path: Path, cube: np.ndarray, write_envi: Callable[..., Path]
) -> None:
    header = write_envi(tmp_path, cube, "field", wavelength="{1, 2, 3}", wavelength_units="nm")
    tiff = save(tmp_path / "field.tif", CUBE)
    assert read_scene(tiff).wavelengths_nm is None
    assert read_scene(header).wavelengths_nm is not None
