"""hyperline adapt through the command line: a whole run comes out, and bad input is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from .test_main_job import hyperline, refused, save_scene

TRAIN = ("--epochs", 2, "--threads", 1, "--labels-per-class", 10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene with two of three classes labelled and a run on it; the third class, in a numbering of its own."""
    folder = tmp_path_factory.mktemp("adapt")
    labels = ((np.arange(29)[:, None] // 7 + np.arange(21)[None] // 6) % 3 + 1).astype(np.uint8)
    old = save_scene(
        folder / "old.npz", labels=np.where(labels < 3, labels, 0), class_names=np.array(["soil", "grass"])
    )
    save_scene(
        folder / "new.npz", labels=np.array([0, 0, 2, 1], np.uint8)[labels], class_names=np.array(["Roof", "GRASS"])
    )
    done = hyperline("train", old, "--out", folder / "run", *TRAIN)
    assert done.code == 0, done.err
    return folder


def test_an_adapted_run_is_a_whole_run(folder: Path, tmp_path: Path) -> None:
    run2 = tmp_path / "run2"
    given = ("--scene", folder / "new.npz", "--old", folder / "old.npz", "--out", run2, *TRAIN)
    done = hyperline("adapt", folder / "run", *given, "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert record == json.loads((run2 / "run.json").read_text())
    assert "new classes: Roof" in done.err
    assert "rehearsing the labels that run was trained with" in " ".join(done.err.split())
    assert record["scene"]["class_names"] == ["soil", "grass", "Roof"]
    (old,) = record["adapted"]["old"]
    trained = json.loads((folder / "run" / "run.json").read_text())
    assert old["before"]["streamed"]["oa"] == trained["streamed"]["oa"]
    assert record["adapted"]["from"]["split"] == trained["split"]

    for scene, expected in (("new.npz", record["streamed"]["oa"]), ("old.npz", old["after"]["streamed"]["oa"])):
        done = hyperline("evaluate", run2, folder / scene, "--json", "--threads", 1)
        assert done.code == 0, done.err
        assert json.loads(done.out)["oa"] == expected
    done = hyperline("export", run2, "--out", tmp_path / "adapted.hlb")
    assert done.code == 0, done.err
    pixels = json.loads(hyperline("evaluate", run2, folder / "old.npz", "--json", "--threads", 1).out)["pixels"]
    done = hyperline("evaluate", tmp_path / "adapted.hlb", folder / "old.npz", "--json", "--threads", 1)
    assert done.code == 0, done.err
    assert json.loads(done.out)["pixels"] == pixels  # what the run before was trained on does not judge the bundle

    refused(hyperline("adapt", tmp_path / "adapted.hlb", *given), "is a file", "name the run folder")
    refused(hyperline("adapt", folder / "run", *given), "is not empty", "--overwrite")


def test_scenes_of_another_sensor_are_resampled_to_the_bands_of_the_run(folder: Path, tmp_path: Path) -> None:
    with np.load(folder / "new.npz") as arrays:
        new = save_scene(
            tmp_path / "finer.npz",
            cube=np.repeat(arrays["cube"], 2, axis=2),
            labels=arrays["labels"],
            class_names=arrays["class_names"],
            wavelengths_nm=np.linspace(395, 905, 24),
        )
    old = save_scene(tmp_path / "shifted.npz", labels=None, wavelengths_nm=np.linspace(410, 910, 12))
    run2 = tmp_path / "run2"
    given = ("--scene", new, "--old", old, "--out", run2, *TRAIN)
    done = hyperline("adapt", folder / "run", *given, "--json")
    assert done.code == 0, done.err
    said = " ".join(done.err.split())
    assert "held by features: run was not trained on shifted" in said
    assert "note: finer: its 24 bands are resampled" in said
    assert "note: shifted: its 12 bands are resampled linearly" in said
    record = json.loads(done.out)
    trained = json.loads((folder / "run" / "run.json").read_text())
    assert record["scene"]["wavelengths_nm"] == trained["scene"]["wavelengths_nm"]
    assert any("finer: its 24 bands are resampled" in note for note in record["scene"]["notes"])
    assert "selection" not in record
    done = hyperline("evaluate", run2, new, "--json", "--threads", 1)  # which finds again what it trained on
    assert done.code == 0, done.err
    assert json.loads(done.out)["oa"] == record["streamed"]["oa"]


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"--scene": "blind.npz"}, ("blind has no labels", "--labels PATH")),
        ({"--scene": "narrow.npz"}, ("narrow has 11 bands", "run takes 12")),
        ({"--old": "shifted.npz"}, ("shifted reaches from 500.00 to 1000.00 nm", "extrapolated")),
        ({"--old": "other.npz"}, ("class 2 of other is water, the model's is grass",)),
        ({"--out": "run"}, ("the run to start from",)),
        ({"--share": 0.1, "--plain": None}, ("--plain holds nothing",)),
    ],
)
def test_bad_input_is_refused(folder: Path, changes: dict[str, object], fragments: tuple[str, ...]) -> None:
    save_scene(folder / "blind.npz", labels=None)
    save_scene(folder / "narrow.npz", cube=np.ones((29, 21, 11), np.float32), wavelengths_nm=None)
    save_scene(folder / "shifted.npz", wavelengths_nm=np.linspace(500, 1000, 12))
    save_scene(folder / "other.npz", labels=np.full((29, 21), 2, np.uint8), class_names=np.array(["soil", "water"]))
    given = {"--scene": "new.npz", "--old": "old.npz", "--out": "run3"} | changes
    words: list[object] = []
    for option, value in given.items():
        words += [option] if value is None else [option, folder / value if isinstance(value, str) else value]
    refused(hyperline("adapt", folder / "run", *words, *TRAIN), *fragments)
    assert not (folder / "run3").exists()
