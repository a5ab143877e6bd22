"""Training on several strips and on some of a sensor's bands, from the command line to the flight."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hyperline.api.training import train_scene
from hyperline.bundle import read_bundle
from hyperline.cli.main import hyperline
from hyperline.errors import InputError
from hyperline.scenes import read_scene
from hyperline.train.run import load_run, taught_labels

NAMES = ("soil", "grass", "roof")
MATERIALS = np.random.default_rng(0).uniform(500, 3000, (3, 12))
QUICK = ("--epochs", "2", "--threads", "1", "--labels-per-class", "8")


def save_strip(path: Path, seed: int, names: tuple[str, ...] = NAMES, **changes: object) -> Path:
    """Fields of three materials in 24 lines of 18 samples and 12 bands; names say how the classes are numbered."""
    rng = np.random.default_rng(seed)
    fields = rng.integers(0, 3, (4, 3)).repeat(6, axis=0).repeat(6, axis=1)
    fields[0, :3] = (0, 1, 2)
    cube = (MATERIALS[fields] + rng.normal(0, 30, (24, 18, 12))).astype(np.float32)
    number = np.array([names.index(name) + 1 for name in NAMES], np.uint8)
    arrays = {"cube": cube, "labels": number[fields], "class_names": np.array(names)} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def command(*arguments: object) -> str:
    result = CliRunner().invoke(hyperline, list(map(str, arguments)))
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def strips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained on two strips that number their classes otherwise."""
    folder = tmp_path_factory.mktemp("strips")
    first, second = save_strip(folder / "a.npz", 1), save_strip(folder / "b.npz", 2, ("roof", "soil", "grass"))
    command("train", first, second, "--out", folder / "run", *QUICK)
    return folder


def test_the_record_names_every_strip_and_judges_them_together(strips: Path) -> None:
    record = json.loads((strips / "run/run.json").read_text())
    assert [one["scene"]["name"] for one in record["strips"]] == ["a", "b"]
    assert record["scene"]["class_names"] == list(NAMES)
    assert any(note.startswith("trained together with b") for note in record["scene"]["notes"])
    for mode in ("offline", "streamed"):
        assert record[mode]["pixels"] == 2 * (24 * 18 - 3 * 8)
    confidence = record["confidence"]
    assert confidence["unknown"]["pixels"] == 2 * (24 * 18 - 3 * 8)
    assert confidence["ece_before"] == confidence["ece_after"] == record["streamed"]["ece"]


def test_the_run_keeps_what_every_strip_taught_and_left_out(strips: Path, tmp_path: Path) -> None:
    run = load_run(strips / "run")
    for name in "ab":
        taught = taught_labels(run, read_scene(strips / f"{name}.npz"))
        assert taught is not None and np.bincount(taught.ravel())[1:].tolist() == [8, 8, 8]
    first, second = save_strip(tmp_path / "a.npz", 1), save_strip(tmp_path / "b.npz", 2)
    with np.load(second) as arrays:
        broken = arrays["cube"].copy()
    broken[3, 4, 5] = np.nan
    save_strip(second, 2, cube=broken)
    command("train", first, second, "--invalid", "mask", "--out", tmp_path / "run", *QUICK)
    notes = [one["scene"]["notes"] for one in json.loads((tmp_path / "run/run.json").read_text())["strips"]]
    assert not any(note.startswith("left out") for note in notes[0])
    assert any(note.startswith("left out: 1 ") for note in notes[1])


def test_figures_over_all_strips_are_those_of_each_together(strips: Path) -> None:
    record = json.loads((strips / "run/run.json").read_text())
    each = [
        json.loads(command("evaluate", strips / "run", strips / name, "--json", "--threads", 1))
        for name in ("a.npz", "b.npz")
    ]
    assert record["streamed"]["confusion"] == np.sum([one["confusion"] for one in each], axis=0).tolist()
    pixels = np.array([one["reliability"]["pixels"] for one in each])
    gaps = [
        np.array(one["reliability"]["pixels"])
        * np.subtract(one["reliability"]["accuracy"], one["reliability"]["confidence"])
        for one in each
    ]
    assert record["streamed"]["ece"] == pytest.approx(np.abs(np.sum(gaps, axis=0)).sum() / pixels.sum())


@pytest.mark.parametrize("name", ["a", "b"])
def test_no_strip_is_judged_by_the_pixels_it_trained(strips: Path, name: str) -> None:
    told = json.loads(command("evaluate", strips / "run", strips / f"{name}.npz", "--json", "--threads", 1))
    assert told["pixels"] == 24 * 18 - 3 * 8


def test_a_bundle_of_several_strips_knows_them_too(strips: Path) -> None:
    command("export", strips / "run", "--out", strips / "model.hlb")
    told = json.loads(command("evaluate", strips / "model.hlb", strips / "b.npz", "--json", "--threads", 1))
    assert told["pixels"] == 24 * 18 - 3 * 8
    other = save_strip(strips / "c.npz", 3)
    assert json.loads(command("evaluate", strips / "model.hlb", other, "--json"))["pixels"] == 24 * 18


def test_an_interrupted_training_goes_on_with_the_same_strips_alone(strips: Path, tmp_path: Path) -> None:
    third = save_strip(tmp_path / "c.npz", 5)
    out = tmp_path / "run"
    out.mkdir()
    record = json.loads((strips / "run/run.json").read_text())
    begun = {key: record[key] for key in ("format", "hyperline", "torch", "scene", "split", "model", "train")}
    (out / "run.json").write_text(json.dumps(begun))
    command("train", strips / "a.npz", strips / "b.npz", "--out", out, *QUICK, "--resume")
    (out / "run.json").write_text(json.dumps(begun))
    with pytest.raises(InputError, match="begun with another scene"):
        command("train", strips / "a.npz", third, "--out", out, *QUICK, "--resume")


def test_a_resumed_training_on_strips_ends_where_an_uninterrupted_one_does(strips: Path, tmp_path: Path) -> None:
    def stop(epoch: int, epochs: int, curves: dict[str, float]) -> None:
        raise KeyboardInterrupt

    scenes = [read_scene(strips / name) for name in ("a.npz", "b.npz")]
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train_scene(scenes, out, labels_per_class=8, epochs=2, threads=1, on_epoch=stop)
    assert (out / "checkpoint.safetensors").exists()
    command("train", strips / "a.npz", strips / "b.npz", "--out", out, *QUICK, "--resume")
    assert (out / "model.safetensors").read_bytes() == (strips / "run/model.safetensors").read_bytes()
    whole, resumed = (json.loads((one / "run/run.json").read_text()) for one in (strips, tmp_path))
    for key in ("offline", "streamed", "confidence", "strips"):
        assert resumed[key] == whole[key]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cube": np.zeros((24, 18, 11), np.float32)}, "has 11 bands, the model a takes 12"),
        ({"scale": 0.01}, "in steps of 0.01, a values in steps of 1"),
        ({"labels": None}, "has no labels to train on"),
        ({"cube": np.full((24, 18, 12), np.nan, np.float32)}, "b: .* pixels hold NaN"),
    ],
)
def test_a_strip_that_does_not_go_with_the_first_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    first, second = save_strip(tmp_path / "a.npz", 1), save_strip(tmp_path / "b.npz", 2, **changes)
    with pytest.raises(InputError, match=message):
        command("train", first, second, "--out", tmp_path / "run", *QUICK)
    assert not (tmp_path / "run").exists()


def test_a_strip_twice_and_too_few_label_maps_are_refused(tmp_path: Path) -> None:
    first = save_strip(tmp_path / "a.npz", 1)
    with pytest.raises(InputError, match="two of the strips are the same"):
        command("train", first, first, "--out", tmp_path / "run", *QUICK)
    with pytest.raises(InputError, match="1 label maps for 2 scenes"):
        command("train", first, first, "--labels", first, "--out", tmp_path / "run", *QUICK)


def test_bands_left_out_of_training_may_stand_in_the_lines_that_fly(tmp_path: Path) -> None:
    scene = save_strip(tmp_path / "a.npz", 1)
    command("train", scene, "--bands", "0:5,7:12", "--out", tmp_path / "run", *QUICK)
    assert json.loads((tmp_path / "run/run.json").read_text())["selection"] == {
        "bands": 12,
        "ranges": [[0, 5], [7, 12]],
    }
    bundle = tmp_path / "model.hlb"
    command("export", tmp_path / "run", "--out", bundle, "--lines", scene)
    card = read_bundle(bundle).card
    assert (card.bands, card.selection.bands, card.selection.ranges) == (10, 12, ((0, 5), (7, 12)))
    with np.load(scene) as arrays:
        kept = arrays["cube"][..., [*range(5), *range(7, 12)]]
        poisoned = arrays["cube"].copy()
    save_strip(tmp_path / "kept.npz", 1, cube=kept)
    poisoned[..., 5:7] = np.nan
    save_strip(tmp_path / "poisoned.npz", 1, cube=poisoned)
    maps = []
    for name in ("a", "kept", "poisoned"):
        out = tmp_path / name
        told = json.loads(command("run", bundle, "--source", tmp_path / f"{name}.npz", "--out", out, "--json"))
        maps.append((out / "classes.img").read_bytes())
        assert told["invalid_pixels"] == 0
        assert (told["resampling"] or {}).get("method") == (None if name == "kept" else "selection")
        assert (out / "classes.png").exists()
    assert maps[0] == maps[1] == maps[2]
    for model in (tmp_path / "run", bundle):  # the training scene is known, whichever of its bands are there
        assert json.loads(command("evaluate", model, scene, "--json"))["pixels"] == 24 * 18 - 3 * 8
    with pytest.raises(InputError, match="has 11 bands, the model model takes 10"):
        wrong = save_strip(tmp_path / "wrong.npz", 1, cube=np.zeros((24, 18, 11), np.float32))
        command("run", bundle, "--source", wrong, "--out", tmp_path / "wrong")


def test_an_adapted_run_takes_what_the_run_before_took(tmp_path: Path) -> None:
    """Some of the bands of two strips; the new flight has all bands, and the old strips have them, too."""
    first, second, new = (save_strip(tmp_path / f"{name}.npz", seed) for seed, name in enumerate("abc", start=1))
    command("train", first, second, "--bands", "0:5,7:12", "--out", tmp_path / "run", *QUICK)
    old = ("--old", first, "--old", second)
    run2 = tmp_path / "run2"
    record = json.loads(command("adapt", tmp_path / "run", "--scene", new, *old, "--out", run2, *QUICK, "--json"))
    before = json.loads((tmp_path / "run/run.json").read_text())
    assert record["selection"] == {"bands": 12, "ranges": [[0, 5], [7, 12]]}
    assert record["adapted"]["from"]["strips"] == before["strips"]
    assert any("10 of 12 bands are those of the model" in note for note in record["scene"]["notes"])
    judged = sum(one["before"]["streamed"]["pixels"] for one in record["adapted"]["old"])
    assert judged == before["streamed"]["pixels"]
    bundle = tmp_path / "model.hlb"
    command("export", run2, "--out", bundle)
    assert read_bundle(bundle).card.selection.ranges == ((0, 5), (7, 12))
    for scene in (first, second, new):  # full lines, and no pixel that trained this network or the one before
        assert json.loads(command("evaluate", bundle, scene, "--json"))["pixels"] == 24 * 18 - 3 * 8


@pytest.mark.parametrize(("bands", "message"), [("3:20", "--bands: bands 3:20"), ("3:4", "leaves 1 band")])
def test_bands_that_cannot_be_are_refused(tmp_path: Path, bands: str, message: str) -> None:
    scene = save_strip(tmp_path / "a.npz", 1)
    with pytest.raises(InputError, match=message):
        command("train", scene, "--bands", bands, "--out", tmp_path / "run", *QUICK)
