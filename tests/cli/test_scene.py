from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from hyperline.cli.main import hyperline


def inspect(path, *options):
    result = CliRunner().invoke(hyperline, ["scene", "inspect", str(path), *options])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def strip(tmp_path_factory):
    """Smooth spectra of three materials with known noise; band 7 is noise alone, band 11 telemetry."""
    rng = np.random.default_rng(0)
    centres = 500 + 10.0 * np.arange(12)
    materials = np.array([[800, 0.5], [1000, 1.5], [1200, -1.0]])
    which = rng.integers(0, 3, (40, 30))
    level, slope = materials[which].transpose(2, 0, 1)
    mixed = level * rng.uniform(0.7, 1.3, which.shape)
    cube = mixed[..., None] + slope[..., None] * (centres - 500) + rng.normal(0, 5, (40, 30, 12))
    cube[..., 7] = 900 + rng.normal(0, 20, which.shape)
    cube[..., 11] = rng.uniform(-50000, 50000, which.shape)
    path = tmp_path_factory.mktemp("strip") / "strip.npz"
    np.savez(path, cube=cube.astype(np.float32), wavelengths_nm=centres)
    return path


def test_noise_is_measured_band_by_band_beside_telemetry(strip):
    facts = json.loads(inspect(strip, "--json"))
    snr = np.array(facts["snr"])
    np.testing.assert_allclose(np.abs(facts["mean"]) / snr, [5] * 7 + [20] + [5] * 3 + [28868], rtol=0.35)
    assert [fault["band"] for fault in facts["drop"] if fault["reason"] == "noise"] == [7, 11]
    assert facts["kept_bands"] == "0:7,8:11"


def test_the_table_names_the_bands_to_train_with_and_the_picture_is_drawn(strip, tmp_path):
    picture = tmp_path / "bands.png"
    told = inspect(strip, "--picture", str(picture))
    assert "train with the 10 other bands: --bands 0:7,8:11" in told
    assert "500 to 610 nm, ascending" in told
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_a_scene_too_small_for_noise_is_inspected_without(tmp_path):
    path = tmp_path / "small.npz"
    np.savez(path, cube=np.arange(3 * 2 * 9, dtype=np.int16).reshape(3, 2, 9))
    facts = json.loads(inspect(path, "--json"))
    assert facts["snr"] is None
    assert facts["dead_samples"] is None


@pytest.mark.parametrize(
    "name, expected",
    [
        ("hysu/Full.hdr", {"interleave": "tif", "dtype": "int16", "kept_bands": "0:135"}),
        ("plantcv_corn_raw/4-22-22_right_same_B73_top_00.hdr", {"interleave": "bil", "byte_order": "little"}),
        ("jasper_ridge/jasper_ridge.npz", {"interleave": None, "kept_bands": "0:103,108:143,148:198"}),
    ],
)
def test_real_scenes(shared_data, name, expected):
    path = shared_data(name)
    if path.suffix == ".hdr":
        pytest.importorskip("rasterio", reason="needs rasterio, of hyperline[geo]")
    facts = json.loads(inspect(path, "--json"))
    assert {name: facts[name] for name in expected} == expected
    assert 10 < np.median(facts["snr"]) < 1000
