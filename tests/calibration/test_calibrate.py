"""The command: a variant inside the budget, or a bundle as it was."""

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from hyperline.bundle import Bundle
from hyperline.calibration.calibrate import Settings, calibrate
from hyperline.calibration.lines import read_lines
from hyperline.calibration.search import Budget
from hyperline.cli.main import hyperline
from hyperline.errors import HyperlineError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def scene_file(scene, tmp_path):
    path = tmp_path / "strip.npz"
    np.savez(path, cube=scene.cube, labels=scene.labels, class_names=np.array(scene.class_names))
    return path


def run(*arguments):
    result = CliRunner().invoke(hyperline, ["calibrate", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, (SystemExit, HyperlineError)):
        raise result.exception
    return result


WIDE = ("--budget", 5, "--agreement", 95, "--threads", 1, "--seconds", 0.1)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_command_adds_a_variant_that_keeps_the_budget(bundle, scene_file, tmp_path, precision):
    result = run(bundle.path, "--lines", scene_file, "--precision", precision, *WIDE, "--json")
    assert result.exception is None, result.output
    report = json.loads(result.stdout)
    after = Bundle.open(bundle.path)
    assert after.precisions == ("fp32", precision)
    assert json.loads(after.members[f"calibration/{precision}.json"]) == report
    assert {name: after.members[name] for name in bundle.members} == dict(bundle.members)
    assert report["loss"]["points"] <= 5 and report["loss"]["agreement"] >= 0.95
    assert report["bytes"][precision] == len(after.model(precision)) < 0.75 * len(after.model())
    assert report["speed"]["ratio"] > 0
    page = (tmp_path / f"small.{precision}.md").read_text()
    assert "worst" in page or "loses most" in page
    assert (tmp_path / f"small.{precision}.png").read_bytes()[:4] == b"\x89PNG"
    if precision == "int8":
        assert {layer["runs_in"] for layer in report["layers"]} == {"int8"}
        assert report["lines"]["set_ranges"] == [0, 48] and report["lines"]["judged"] == [48, 104]
        assert all(0 < step["low"] <= step["high"] for step in report["steps"]) and report["states"]
        assert "step size" in page and "Over the last quarter" in page


def test_a_budget_of_nothing_gives_a_model_that_spoils_nothing(bundle, scene_file):
    quick = ("--threads", 1, "--seconds", 0)
    result = run(bundle.path, "--lines", scene_file, "--precision", "int8", "--budget", 0, *quick)
    assert result.exception is None, result.output
    assert "stay in float32" in result.output or "stays in float32" in result.output
    report = json.loads(Bundle.open(bundle.path).members["calibration/int8.json"])
    assert report["loss"]["points"] == 0
    left = [layer for layer in report["layers"] if layer["runs_in"] == "float32"]
    assert left and all(layer["why_float"] for layer in left)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_impossible_is_refused_and_the_bundle_is_as_it_was(bundle, scene_file, precision):
    before = bundle.path.read_bytes()
    result = run(bundle.path, "--lines", scene_file, "--precision", precision, "--budget", -1, "--threads", 1)
    assert isinstance(result.exception, HyperlineError) and result.exception.exit_code == 1
    assert "budget" in str(result.exception)
    assert bundle.path.read_bytes() == before
    assert sorted(path.name for path in bundle.path.parent.iterdir() if path.suffix in (".md", ".png")) == []


def test_lines_of_another_sensor_are_refused(bundle, scene, tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, cube=scene.cube[..., :20])
    before = bundle.path.read_bytes()
    result = run(bundle.path, "--lines", path, "--precision", "int8")
    assert result.exception.exit_code == 2 and "20 bands" in str(result.exception)
    assert bundle.path.read_bytes() == before


def test_fine_tuned_weights_are_taken_where_they_save_more(bundle, scene):
    """The fine-tuning is made up; where nothing is left in float32, it is not asked."""
    lines = read_lines(scene, bundle.card)
    asked = []

    def fine_tune(layers, ranges, part):
        asked.append((len(layers), set(ranges) == {layer.name for layer in layers}, len(part.valid)))
        return {layer.weight_name: _as_stored(bundle, layer) * np.float32(1.0) for layer in layers}

    strict = Settings("int8", Budget(0.0, 0.0, 0.9), method="minmax", fine_tune=fine_tune)
    variant = calibrate(bundle, lines, strict)
    assert asked == [(len(variant.report["layers"]), True, 48)]  # the half that judges is not shown
    assert variant.report["loss"]["points"] == 0
    wide = Settings("int8", Budget(100.0, 100.0, 0.0), method="minmax", fine_tune=fine_tune)
    assert calibrate(bundle, lines, wide).report["fine_tuned"] is False and len(asked) == 1  # nothing to mend


def _as_stored(bundle, layer):
    graph = onnx.load_from_string(bundle.model()).graph
    return next(onnx.numpy_helper.to_array(one) for one in graph.initializer if one.name == layer.weight_name)


def test_fine_tuning_needs_the_run(bundle, scene_file):
    result = run(bundle.path, "--lines", scene_file, "--precision", "int8", "--qat", 2)
    assert result.exception.exit_code == 2 and "--run" in str(result.exception)


def test_the_lines_that_judge_set_no_range(bundle, scene):
    """What the second half holds changes its verdict, and no range, no layer and no weight."""

    def int8(changed):
        settings = Settings("int8", Budget(100.0, 100.0, 0.0), method="minmax")
        return calibrate(bundle, read_lines(changed, bundle.card), settings)

    cube = scene.cube.copy()
    cube[48:] = cube[48:] * 1.5
    one, other = int8(scene), int8(type(scene)("made-up", cube, scene.labels, scene.class_names))
    assert one.model == other.model
    ranges = [[layer["range"] for layer in variant.report["layers"]] for variant in (one, other)]
    assert ranges[0] == ranges[1]
    assert one.report["loss"] != other.report["loss"]


def test_a_second_calibration_finds_what_the_first_measured(bundle, scene, tmp_path):
    said = []
    settings = Settings("int8", Budget(5.0, 25.0, 0.9), method="minmax", cache=tmp_path / "c", on_step=said.append)
    lines = read_lines(scene, bundle.card)
    first = calibrate(bundle, lines, settings)
    said.clear()
    assert calibrate(bundle, lines, settings).model == first.model
    assert said[-1].startswith("search: 0 trials")
