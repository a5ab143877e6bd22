"""The map as GIS programs see it: through GDAL."""

import resource
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp, Compression, Interleaving
from rasterio.shutil import copy

from hyperline.errors import HyperlineError, InputError
from hyperline.pictures import class_colours
from hyperline.runtime.sinks import EnviSink, classes_geotiff, map_forms

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

NAMES = ("Corn", "Woods & <shrub>", "Wasser, tief")
MAP_INFO = "map info = {UTM, 1.0, 1.0, 500000.0, 5400000.0, 2.0, 2.0, 32, North, WGS-84, units=Meters}\n"


def flown(folder: Path, lines: int, samples: int = 300) -> np.ndarray:
    labels = np.random.default_rng(0).integers(0, len(NAMES) + 1, (lines, samples)).astype(np.uint8)
    with EnviSink(folder, map_forms(samples, NAMES), lines) as sink:
        sink.write({"classes": labels, "confidence": np.ones(labels.shape, np.float32)}, lines)
    return labels


def source(folder: Path, lines: int, samples: int, extra: str = MAP_INFO) -> Path:
    (folder / "strip.img").write_bytes(bytes(2 * lines * samples))
    header = folder / "strip.hdr"
    header.write_text(
        f"ENVI\nsamples = {samples}\nlines = {lines}\nbands = 2\ndata type = 1\ninterleave = bil\nbyte order = 0\n"
        f"header offset = 0\n{extra}"
    )
    return header


def test_the_tiff_holds_the_map_its_colours_and_its_names(tmp_path: Path) -> None:
    labels = flown(tmp_path, 520)
    path = classes_geotiff(tmp_path)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), labels)
        assert (file.count, file.dtypes, file.nodata, file.crs) == (1, ("uint8",), 0, None)
        assert file.block_shapes == [(256, 256)]
        assert file.compression == Compression.deflate
        assert file.interleaving == Interleaving.band
        assert file.colorinterp == (ColorInterp.palette,)
        colours = file.colormap(1)
        assert [colours[number][:3] for number in (1, 2, 3)] == [tuple(row) for row in class_colours(3).tolist()]
        tags = file.tags(1)
    assert [tags[f"CLASS_{number}"] for number in range(4)] == ["no class", "Corn", "Woods & <shrub>", "Wasser; tief"]


def test_gdal_finds_the_names_as_categories(tmp_path: Path) -> None:
    flown(tmp_path, 4)
    path = classes_geotiff(tmp_path)
    copy(path, tmp_path / "copy.vrt", driver="VRT")  # which GDAL writes with all that it knows
    text = (tmp_path / "copy.vrt").read_text()
    for name in ("no class", "Corn", "Woods &amp; &lt;shrub&gt;", "Wasser; tief"):
        assert f"<Category>{name}</Category>" in text


def test_the_map_lies_where_the_source_lies(tmp_path: Path) -> None:
    flown(tmp_path, 10)
    with rasterio.open(classes_geotiff(tmp_path, source(tmp_path, 12, 300))) as file:
        assert file.crs.to_epsg() == 32632
        assert file.transform.to_gdal() == (500000.0, 2.0, 0.0, 5400000.0, 0.0, -2.0)


def test_a_map_of_binned_samples_has_wider_pixels(tmp_path: Path) -> None:
    flown(tmp_path, 10)
    with rasterio.open(classes_geotiff(tmp_path, source(tmp_path, 10, 900), bin_samples=3)) as file:
        assert file.transform.to_gdal() == (500000.0, 6.0, 0.0, 5400000.0, 0.0, -2.0)
        assert file.bounds.right == 500000.0 + 900 * 2


def test_a_source_without_map_info_gives_a_map_without_coordinates(tmp_path: Path, caplog) -> None:
    flown(tmp_path, 10)
    with rasterio.open(classes_geotiff(tmp_path, source(tmp_path, 10, 300, ""))) as file:
        assert file.crs is None
        assert file.transform.is_identity
    assert "has no map info" in caplog.text


@pytest.mark.parametrize(("lines", "samples"), [(9, 300), (10, 299)])
def test_the_header_of_another_strip_is_refused(tmp_path: Path, lines: int, samples: int) -> None:
    flown(tmp_path, 10)
    with pytest.raises(InputError, match="name the header of the strip that was flown"):
        classes_geotiff(tmp_path, source(tmp_path, lines, samples))
    assert not (tmp_path / "classes.tif").exists()


def test_a_folder_without_a_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"classes\.hdr"):
        classes_geotiff(tmp_path)


def test_a_full_disk_is_said_and_leaves_no_map(tmp_path: Path) -> None:
    flown(tmp_path, 600)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(HyperlineError, match="cannot be written"):
            classes_geotiff(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in tmp_path.iterdir() if ".tif" in path.name]


def test_a_disk_that_fails_leaves_nothing_that_looks_like_a_map(tmp_path: Path) -> None:
    flown(tmp_path, 10)
    (tmp_path / "classes.tif.aux.xml").mkdir()
    with pytest.raises(HyperlineError, match="cannot be written"):
        classes_geotiff(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if "tif" in path.name) == ["classes.tif.aux.xml"]
