from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hyperline.cli.main import hyperline
from hyperline.errors import InputError

rasterio = pytest.importorskip("rasterio", reason="needs rasterio, of hyperline[geo]")
pytest.importorskip("pyogrio", reason="needs pyogrio, of hyperline[geo]")

from polygons import polygons  # noqa: E402

from hyperline.scenes import read_georeference, read_scene, read_truth  # noqa: E402
from hyperline.scenes.georeference import Georeference  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A georeferenced scene, its truth, and that truth as GeoJSON polygons in longitude and latitude."""
    folder = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(3)
    truth = np.kron(rng.integers(0, 4, (6, 5)), np.ones((5, 6))).astype(np.uint8)
    cube = (truth[..., None] * 40 + rng.integers(0, 9, (*truth.shape, 6))).astype(np.uint8)
    transform = rasterio.Affine(0.5, 0, 669639, 0, -0.5, 5328106)
    profile = {"driver": "GTiff", "height": 30, "width": 30, "count": 6, "dtype": "uint8", "crs": "EPSG:32632"}
    with rasterio.open(folder / "scene.tif", "w", **profile, transform=transform) as file:
        file.write(cube.transpose(2, 0, 1))
    names = ["wood", "grass", "asphalt"]
    outlined = polygons(truth, names, Georeference("EPSG:32632", transform))
    path = folder / "fields.geojson"
    path.write_text(json.dumps(outlined))
    return folder / "scene.tif", path, truth, names


def label(*arguments):
    result = CliRunner().invoke(hyperline, ["label", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result


@pytest.mark.parametrize("suffix", [".npz", ".tif"])
def test_polygons_of_a_label_map_give_the_map_again(drawn, tmp_path, suffix):
    scene, fields, truth, names = drawn
    out = tmp_path / f"labels{suffix}"
    told = label(scene, "--from", fields, "--out", out).output
    read = read_truth(out, truth.shape)
    assert read.class_names == ("asphalt", "grass", "wood")
    np.testing.assert_array_equal(np.array(["", *read.class_names])[read.values], np.array(["", *names])[truth])
    assert f"{np.count_nonzero(truth)}" in told
    assert out.with_suffix(".png").stat().st_size > 1000


def test_a_geotiff_of_labels_lies_where_the_scene_does(drawn, tmp_path):
    scene, fields, _, _ = drawn
    out = tmp_path / "labels.tif"
    label(scene, "--from", fields, "--out", out, "--no-picture")
    assert read_georeference(out) == read_georeference(scene)
    assert read_scene(scene, labels=out).labels.any()


def test_json_counts_shapes_and_pixels(drawn, tmp_path):
    scene, fields, truth, _ = drawn
    out = tmp_path / "labels.npz"
    told = json.loads(label(scene, "--from", fields, "--out", out, "--no-picture", "--json").stdout)
    assert told["labelled"] == sum(told["pixels"]) == np.count_nonzero(truth)
    assert told["overlapping"] == told["outside"] == 0
    assert not out.with_suffix(".png").exists()


def test_a_class_drawn_in_one_place_is_named(drawn, tmp_path):
    scene, fields, _, _ = drawn
    shapes = json.loads(fields.read_text())
    grass = [one for one in shapes["features"] if "grass" in one["properties"].values()]
    assert len(grass) > 1, "the other classes keep several"
    shapes["features"] = [one for one in shapes["features"] if one not in grass[1:]]
    once = tmp_path / "once.geojson"
    once.write_text(json.dumps(shapes))
    told = " ".join(label(scene, "--from", once, "--out", tmp_path / "once.npz", "--no-picture").stderr.split())
    assert "drawn in one place only: grass. Draw a second elsewhere" in told
    assert "drawn in one place" not in label(scene, "--from", fields, "--out", tmp_path / "all.npz").stderr


def test_labels_are_replaced_on_request_alone(drawn, tmp_path):
    scene, fields, _, _ = drawn
    out = tmp_path / "labels.npz"
    label(scene, "--from", fields, "--out", out, "--no-picture")
    before = out.read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        label(scene, "--from", fields, "--out", out)
    assert out.read_bytes() == before
    label(scene, "--from", fields, "--out", out, "--no-picture", "--overwrite")


def test_an_unknown_form_of_label_map_is_refused(drawn, tmp_path):
    scene, fields, _, _ = drawn
    with pytest.raises(InputError, match=r"written as \.npz or \.tif"):
        label(scene, "--from", fields, "--out", tmp_path / "labels.jpg")
