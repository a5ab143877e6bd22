"""``hyperline explain``: what it writes and says, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hyperline.cli.main import hyperline
from hyperline.errors import InputError
from hyperline.scenes import read_scene
from hyperline.splits import random_split
from hyperline.train.models.mambamoe import MambaMoEConfig
from hyperline.train.run import train_run
from hyperline.train.trainer import TrainConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of 29 lines, 21 samples and 12 bands with one invalid pixel, and a short run on it."""
    folder = tmp_path_factory.mktemp("explain")
    rng = np.random.default_rng(0)
    fields = (np.arange(29)[:, None] // 7 + np.arange(21)[None] // 6) % 3
    cube = (rng.uniform(500, 3000, (3, 12))[fields] + rng.normal(0, 30, (29, 21, 12))).astype(np.float32)
    cube[2, 4] = np.nan
    np.savez(
        folder / "scene.npz",
        cube=cube,
        labels=(fields + 1).astype(np.uint8),
        class_names=np.array(["soil", "grass", "roof"]),
        wavelengths_nm=np.linspace(400, 950, 12),
    )
    scene = read_scene(str(folder / "scene.npz"))
    assert scene.labels is not None
    sizes = {"channels": 16, "experts": (4, 4, 4, 4), "spectral_groups": 4, "spectral_inner": 4, "state": 4}
    model = MambaMoEConfig(bands=12, classes=3, **sizes)
    split = random_split(scene.labels, 15, 0, scene.class_names)
    train_run([(scene, split)], model, TrainConfig(epochs=3, threads=1), folder / "run", mask_invalid=True)
    return folder


def explain(folder: Path, out: Path, *options: object) -> Result:
    arguments = ["explain", folder / "run", folder / "scene.npz", "--out", out, "--threads", 1, *options]
    return CliRunner().invoke(hyperline, [str(one) for one in arguments])


def test_a_pixel_leaves_a_summary_arrays_and_a_picture(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "pixel"
    done = explain(folder, out, "--line", 17, "--sample", 9, "--class", "ROOF", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said == json.loads((out / "summary.json").read_text())
    assert (said["class"], said["block_lines"], said["block"]) == ("roof", 8, [16, 23])
    assert said["relevance"] + said["biases"] + said["carried"] == pytest.approx(said["score"], rel=1e-3, abs=1e-5)
    assert said["bands_for"] + said["bands_against"] == pytest.approx(said["relevance"], rel=1e-3, abs=1e-5)
    assert sum(said["shares"].values()) == pytest.approx(1)
    assert said["top_bands"][0]["wavelength_nm"] == 400 + 50 * said["top_bands"][0]["band"]
    with np.load(out / "relevance.npz") as arrays:
        assert arrays["pixels"].shape == (24, 21)
        assert arrays["pixels"][2, 4] == 0
        assert arrays["bands"].argmax() == said["top_bands"][0]["band"]
        assert arrays["own"].sum() == pytest.approx(arrays["pixels"][17, 9], abs=1e-5)
        assert arrays["wavelengths_nm"].shape == (12,)
    assert (out / "relevance.png").read_bytes().startswith(b"\x89PNG")


def test_the_label_is_explained_where_no_class_is_named(folder: Path, tmp_path: Path) -> None:
    done = explain(folder, tmp_path, "--line", 28, "--sample", 20, "--block-lines", "full")
    assert done.exit_code == 0, done.output
    said = json.loads((tmp_path / "summary.json").read_text())
    assert (said["class"], said["block"], said["block_lines"]) == (said["label"], [0, 28], 32)
    assert f"line 28, sample 20 of scene: {said['label']}" in done.stdout
    assert "nm" in done.stdout


def test_the_bands_of_every_class_come_from_pixels_not_trained_on(folder: Path, tmp_path: Path) -> None:
    done = explain(folder, tmp_path, "--mean-by-class", "--pixels", 1000, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    record = json.loads((folder / "run" / "run.json").read_text())
    assert [one["class"] for one in said["classes"]] == ["soil", "grass", "roof"]
    # all of them, less the invalid pixel where it is one of the test
    assert sum(one["pixels"] for one in said["classes"]) in (
        record["split"]["test_pixels"],
        record["split"]["test_pixels"] - 1,
    )
    with np.load(tmp_path / "relevance.npz") as arrays:
        assert arrays["bands"].shape == (3, 12)
    assert (tmp_path / "relevance.png").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--line", 29, "--sample", 0), "its lines are 0 to 28"),
        (("--line", 2, "--sample", 4), "no measurement"),
        (("--line", 2, "--sample", 5, "--class", "water"), "soil, grass, roof"),
        (("--line", 2), "--line and --sample"),
        (("--line", 2, "--sample", 5, "--pixels", 3), "--pixels is for"),
        (("--mean-by-class", "--class", "roof"), "leave out"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_sentence(
    folder: Path, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    done = explain(folder, tmp_path, *options)
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)
    assert not (tmp_path / "summary.json").exists()
