"""The main job through the command line: train, evaluate, export, run; and bad input at each step."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def hyperline(*arguments: object) -> Outcome:
    """Run the command as a user does, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from hyperline.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def refused(outcome: Outcome, *fragments: str) -> None:
    """One clear error, exit code 2, no traceback."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    lines = [line for line in outcome.err.splitlines() if line.lower().startswith("error:")]
    assert len(lines) == 1, outcome.err
    for fragment in fragments:
        assert fragment in lines[0], lines[0]


def save_scene(path: Path, **changes: object) -> Path:
    """Fields of three materials in 29 lines of 21 samples and 12 bands."""
    rng = np.random.default_rng(0)
    fields = (np.arange(29)[:, None] // 7 + np.arange(21)[None] // 6) % 3
    cube = (rng.uniform(500, 3000, (3, 12))[fields] + rng.normal(0, 30, (29, 21, 12))).astype(np.float32)
    arrays: dict[str, object] = {
        "cube": cube,
        "labels": (fields + 1).astype(np.uint8),
        "class_names": np.array(["soil", "grass", "roof"]),
        "wavelengths_nm": np.linspace(400, 900, 12),
    }
    np.savez(path, **{name: value for name, value in (arrays | changes).items() if value is not None})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene, a run trained on it and a bundle."""
    folder = tmp_path_factory.mktemp("job")
    scene = save_scene(folder / "fields.npz")
    done = hyperline("train", scene, "--out", folder / "run", "--epochs", 3, "--threads", 1, "--labels-per-class", 10)
    assert done.code == 0, done.err
    done = hyperline("export", folder / "run", "--out", folder / "fields.hlb")
    assert done.code == 0, done.err
    return folder


def test_train_leaves_a_run_with_the_documented_keys(folder: Path) -> None:
    record = json.loads((folder / "run" / "run.json").read_text())
    for name in ("offline", "streamed"):
        assert {"oa", "aa", "kappa", "per_class"} <= set(record[name])
        assert record[name]["pixels"] == 29 * 21 - 30
    assert {"kind", "labels_per_class", "seed", "guard", "hash"} <= set(record["split"])
    names = {path.name for path in (folder / "run").iterdir()}
    assert names == {"model.safetensors", "run.json", "split.npz", "excerpt.npz", "curves.png"}


def test_evaluate_agrees_with_train_for_the_run_and_with_the_run_for_the_bundle(folder: Path) -> None:
    record = json.loads((folder / "run" / "run.json").read_text())
    results = {}
    for model, options in (("run", ()), ("run", ("--block-lines", "full")), ("fields.hlb", ())):
        done = hyperline("evaluate", folder / model, folder / "fields.npz", "--json", "--threads", 1, *options)
        assert done.code == 0, done.err
        results[model, options] = json.loads(done.out)
    streamed, offline, bundle = results.values()
    assert {"oa", "aa", "kappa", "per_class", "pixels", "block_lines", "engine", "precision"} <= set(bundle)
    assert streamed["oa"] == record["streamed"]["oa"] and offline["oa"] == record["offline"]["oa"]
    assert bundle["oa"] == streamed["oa"] and bundle["engine"] == "ort-cpu"


def test_run_writes_maps_summary_and_picture(folder: Path) -> None:
    out = folder / "strip"
    done = hyperline("run", folder / "fields.hlb", "--source", folder / "fields.npz", "--out", out, "--json")
    assert done.code == 0, done.err
    summary = json.loads((out / "summary.json").read_text())
    assert json.loads(done.out) == summary
    assert summary["received"] == summary["classified"] + summary["dropped"] + summary["rejected"] == 29
    assert {"seconds", "lines_per_second", "latency_ms"} <= set(summary)
    names = {path.name for path in out.iterdir()}
    assert names == {
        "classes.hdr", "classes.img", "confidence.hdr", "confidence.img", "uncertainty.hdr", "uncertainty.img",
        "quicklook.hdr", "quicklook.img", "experts.hdr", "experts.img", "summary.json", "spectra.json",
        "classes.png", "blocks.log", "state.0", "state.1", "state.2",
    }  # fmt: skip
    experts = np.fromfile(out / "experts.img", "<f4").reshape(-1, 4, 3)  # (block, expert, scale)
    assert len(experts) == 4 and np.all((experts > 0).sum(axis=1) == 2) and np.all(experts.sum(axis=1) < 1)
    confidence, uncertainty = np.fromfile(out / "confidence.img", "<f4"), np.fromfile(out / "uncertainty.img", np.uint8)
    assert np.corrcoef(confidence, uncertainty)[0, 1] < -0.5


def test_a_report_of_the_whole_job_has_every_section_that_its_parts_give(folder: Path, tmp_path: Path) -> None:
    scene, bundle = folder / "fields.npz", folder / "fields.hlb"
    strip, evaluation, out = tmp_path / "strip", tmp_path / "evaluation.json", tmp_path / "report.html"
    done = hyperline("run", bundle, "--source", scene, "--out", strip, "--rate", 200, "--no-picture")
    assert done.code == 0, done.err
    evaluated = hyperline("evaluate", bundle, scene, "--json", "--threads", 1)
    evaluation.write_text(evaluated.out)
    assert {"confusion", "class_names", "scene", "model"} <= set(json.loads(evaluated.out))
    given = ("--bundle", bundle, "--evaluation", evaluation, "--truth", scene, "--training", folder / "run")
    done = hyperline("report", strip, "--out", out, "--json", *given)
    assert done.code == 0, done.err
    said = json.loads(done.out)
    sections = {"maps", "accuracy", "spectra", "experts", "accounting", "latency", "precisions", "training"}
    assert sections <= set(said["sections"])
    assert {"speed", "environment"} == set(said["missing"]) & {"speed", "environment"}
    page = out.read_text()
    assert said["bytes"] == len(page.encode())
    oa = f"{100 * json.loads(evaluated.out)['oa']:.2f} %"
    assert page.count(oa) >= 2  # of the strip, and of the evaluation
    for name in ("soil", "grass", "roof"):
        assert name in page


def test_a_report_refuses_what_it_cannot_read_in_one_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    (tmp_path / "bench.json").write_text("{}")
    refused(hyperline("report", "--out", out), "give a strip's folder")
    refused(hyperline("report", "--out", out, "--bench", tmp_path / "bench.json"), "bench.json: is not a bench")
    refused(hyperline("report", folder / "run", "--out", out), "classes.hdr")
    assert not out.exists()


def test_resume_after_an_interruption_gives_the_run_that_was_never_stopped(folder: Path, tmp_path: Path) -> None:
    options = ("--epochs", 3, "--threads", 1, "--labels-per-class", 10)
    stopped = (
        "import hyperline.train.run as run\nfrom hyperline.cli import main\n"
        "train = run.train\n"
        "def stop(epoch, curves):\n    if epoch == 2: raise KeyboardInterrupt\n"
        "run.train = lambda *a: train(*a[:-1], stop)\nmain()"
    )
    arguments = [*map(str, ("train", folder / "fields.npz", "--out", tmp_path / "run", *options))]
    done = subprocess.run([sys.executable, "-c", stopped, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "interrupted" in done.stderr, done.stderr
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    refused(hyperline(*arguments), "--resume")
    refused(hyperline("export", tmp_path / "run", "--out", tmp_path / "x.hlb"), "unfinished run")
    refused(hyperline(*arguments, "--resume", "--seed", 5), "another split and train")
    assert hyperline(*arguments, "--resume").code == 0
    for name in ("model.safetensors", "excerpt.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / "run" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"labels": None}, ("no labels", "--labels PATH")),
        ({"labels": np.zeros((29, 21), np.uint8)}, ("0 training",)),
        ({"labels": np.ones((5, 5), np.uint8)}, ("labels", "5")),
        ({"class_names": np.array(["one"])}, ("class_names",)),
        ({"cube": np.zeros((29, 21), np.float32)}, ("cube",)),
    ],
)
def test_train_refuses_a_scene_that_cannot_teach(
    tmp_path: Path, changes: dict[str, object], fragments: tuple[str, ...]
) -> None:
    scene = save_scene(tmp_path / "bad.npz", **changes)
    refused(hyperline("train", scene, "--out", tmp_path / "run", "--epochs", 1), *fragments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_train_refuses_pixels_that_are_not_finite_unless_told_to_mask_them(tmp_path: Path, value: float) -> None:
    with np.load(save_scene(tmp_path / "good.npz")) as good:
        cube = good["cube"].copy()
    cube[3, 4, 5] = value
    scene = save_scene(tmp_path / "holed.npz", cube=cube)
    arguments = ("train", scene, "--out", tmp_path / "run", "--epochs", 1, "--threads", 1)
    refused(hyperline(*arguments), "line 3, sample 4, band 5", "--invalid mask")
    assert not (tmp_path / "run").exists()
    done = hyperline(*arguments, "--invalid", "mask")
    assert done.code == 0, done.err


def test_a_truncated_cube_is_refused_with_both_sizes(tmp_path: Path) -> None:
    (tmp_path / "cube.hdr").write_text(
        "ENVI\nsamples = 4\nlines = 3\nbands = 5\ndata type = 4\ninterleave = bil\nbyte order = 0\n"
    )
    (tmp_path / "cube.img").write_bytes(bytes(100))
    refused(hyperline("train", tmp_path / "cube.hdr", "--out", tmp_path / "run"), "240", "100")


def test_another_band_count_is_refused_by_evaluate_and_run(folder: Path, tmp_path: Path) -> None:
    other = save_scene(tmp_path / "other.npz", cube=np.ones((29, 21, 9), np.float32), wavelengths_nm=None)
    refused(hyperline("evaluate", folder / "run", other), "9 bands", "12")
    refused(hyperline("evaluate", folder / "fields.hlb", other), "9", "12")
    out = tmp_path / "strip"
    refused(hyperline("run", folder / "fields.hlb", "--source", other, "--out", out), "9", "12")
    assert not out.exists()


def test_other_classes_are_refused_by_evaluate(folder: Path, tmp_path: Path) -> None:
    other = save_scene(tmp_path / "other.npz", class_names=np.array(["soil", "grass", "water"]))
    refused(hyperline("evaluate", folder / "run", other), "water", "roof")


def test_a_scene_without_class_names_gets_numbered_ones_from_training_to_flight(tmp_path: Path) -> None:
    scene, run, bundle = (tmp_path / name for name in ("fields.npz", "run", "fields.hlb"))
    save_scene(scene, class_names=None)
    options = ("--epochs", 1, "--threads", 1, "--labels-per-class", 10)
    for command in (("train", scene, "--out", run, *options), ("export", run, "--out", bundle)):
        done = hyperline(*command)
        assert done.code == 0, done.err
    for model in (run, bundle):
        done = hyperline("evaluate", model, scene, "--threads", 1)
        assert done.code == 0, done.err
        classes = [line for line in done.out.splitlines() if line.startswith("  ")]
        assert [line.split("  ")[1] for line in classes] == ["class 1", "class 2", "class 3"]
    # A model that knows numbers alone takes labels with names; it cannot know a fourth class.
    named = save_scene(tmp_path / "named.npz")
    assert hyperline("evaluate", run, named, "--threads", 1).code == 0
    other = np.ones((29, 21, 12), np.float32)
    more = save_scene(tmp_path / "more.npz", class_names=None, cube=other, labels=np.full((29, 21), 4, np.uint8))
    refused(hyperline("evaluate", run, more), "class 4", "the model knows 3")


def test_a_bundle_with_one_flipped_byte_is_refused_everywhere(folder: Path, tmp_path: Path) -> None:
    damaged = bytearray((folder / "fields.hlb").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path = tmp_path / "damaged.hlb"
    path.write_bytes(damaged)
    refused(hyperline("verify", path), "damaged.hlb")
    refused(hyperline("run", path, "--source", folder / "fields.npz", "--out", tmp_path / "strip"), "damaged.hlb")
    assert not (tmp_path / "strip").exists()


def test_a_folder_in_use_is_not_overwritten_unasked(folder: Path, tmp_path: Path) -> None:
    before = (folder / "run" / "model.safetensors").read_bytes()
    refused(hyperline("train", folder / "fields.npz", "--out", folder / "run"), "--overwrite")
    (tmp_path / "thesis.txt").write_text("years of work")
    refused(hyperline("train", folder / "fields.npz", "--out", tmp_path, "--overwrite"), "something else")
    assert (folder / "run" / "model.safetensors").read_bytes() == before
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("train",),
        ("train", "no-such-scene.npz", "--out", "run"),
        ("train", "x.npz", "--out", "run", "--block-lines", "12"),
        ("fly",),
        ("export", "no-such-run", "--out", "x.hlb"),
        ("verify", "no-such-file.hlb"),
    ],
)
def test_bad_usage_is_one_error_and_exit_code_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    refused(hyperline(*(tmp_path / a if a in ("run", "x.hlb") else a for a in arguments)))


def test_the_commands_that_fly_load_neither_torch_nor_the_training_code(folder: Path, tmp_path: Path) -> None:
    check = (
        "import sys\nfrom hyperline.cli.main import hyperline\n"
        "hyperline.main(sys.argv[1:], standalone_mode=False)\n"
        "heavy = {'torch', 'onnx', 'scipy', 'sklearn', 'h5py', 'matplotlib', 'hyperline.train', 'hyperline.export'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    flight = ("run", folder / "fields.hlb", "--source", folder / "fields.npz", "--out", tmp_path / "o", "--no-picture")
    for arguments in (flight, ("verify", folder / "fields.hlb"), ("inspect", folder / "fields.hlb"), ("--help",)):
        done = subprocess.run(
            [sys.executable, "-c", check, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not DATA.is_dir(), reason=f"real scenes are not at {DATA}")
def test_plantcv_headers_without_a_byte_order_are_read_and_the_assumption_is_said(folder: Path, tmp_path: Path) -> None:
    raw = next((DATA / "plantcv_corn_raw").glob("4-22-22*.hdr"))
    done = hyperline("train", raw, "--out", tmp_path / "run")
    refused(done, "no labels")
    assert "byte order" in done.err and "assumed" in done.err
