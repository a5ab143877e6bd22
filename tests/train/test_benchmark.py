"""A benchmark asks for what exists, compares on the same splits, and goes on where it stopped."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import ttest_1samp

from hyperline.cli.benchmark_speed import measure_speed, speed_name
from hyperline.cli.main import hyperline
from hyperline.errors import InputError
from hyperline.train.benchmark import fingerprint as fingerprint_module
from hyperline.train.benchmark.contestants import CONTESTANTS
from hyperline.train.benchmark.protocol import narrowed, read_protocol
from hyperline.train.benchmark.table import judgement, markdown, paired_difference
from hyperline.train.benchmark.work import Cell, cells, code_of, read_task, run_cell

PROTOCOLS = Path(__file__).resolve().parents[2] / "bench" / "protocols"
PROTOCOL = """
name = "A try"
role = "tuning"

[[experiment]]
title = "Random"
scene = "scene.npz"
split = "random"
labels_per_class = 4
seeds = 2
epochs = 1
models = ["mambamoe", "lda-mnf"]
"""


@pytest.fixture
def protocol_file(tmp_path):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(1, 4, dtype=np.uint8), 8)[:, None].repeat(16, 1)
    spectra = generator.normal(size=(4, 40)).cumsum(axis=1)
    np.savez(tmp_path / "scene.npz", cube=spectra[labels] + 0.05 * generator.normal(size=(24, 16, 40)), labels=labels)
    (tmp_path / "p.toml").write_text(PROTOCOL)
    return tmp_path / "p.toml"


def test_a_protocol_is_read_with_paths_from_its_folder(protocol_file):
    protocol = read_protocol(protocol_file)
    (experiment,) = protocol.experiments
    assert protocol.role == "tuning"
    assert experiment.scene == str(protocol_file.parent / "scene.npz")
    assert [(cell.model, cell.seed) for cell in cells(protocol)] == [
        ("mambamoe", 0), ("lda-mnf", 0), ("mambamoe", 1), ("lda-mnf", 1),
    ]  # fmt: skip
    protocol_file.write_text(PROTOCOL.replace("scene.npz", "indian-pines"))
    assert read_protocol(protocol_file).experiments[0].scene == "indian-pines"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('"lda-mnf"', '"perceptron"', "no model is called 'perceptron'; there are: mambamoe"),
        ('"lda-mnf"', '"mambamoe"', "named twice"),
        ("seeds = 2", "seeds = 0", r"experiment\.0\.seeds"),
        ("seeds = 2", "sedes = 2", r"experiment\.0\.se"),
        ('"random"', '"diagonal"', r"experiment\.0\.split"),
        ("name =", "name", "no TOML"),
        ('role = "tuning"', 'role = "secret"', "role"),
    ],
)
def test_a_protocol_that_asks_for_what_is_not_there_says_where(protocol_file, before, after, says):
    protocol_file.write_text(PROTOCOL.replace(before, after, 1))
    with pytest.raises(InputError, match=says):
        read_protocol(protocol_file)


def test_cells_of_other_settings_have_other_names(protocol_file):
    protocol = read_protocol(protocol_file)
    (experiment,) = protocol.experiments
    names = {cell.name for cell in cells(protocol)}
    for changed in ({"epochs": 2}, {"labels_per_class": 5}, {"split": "halves"}, {"block_lines": 16}):
        other = replace(protocol, experiments=(replace(experiment, **changed),))
        others = {cell.name for cell in cells(other)}
        # a shallow classifier has no epochs: its cells stay
        assert len(others & names) == (2 if "epochs" in changed else 0)


def test_a_part_of_a_protocol_can_be_asked_for(protocol_file):
    protocol = read_protocol(protocol_file)
    assert [(one.model, one.seed) for one in cells(narrowed([protocol], 1, ["lda-mnf"])[0])] == [("lda-mnf", 0)]
    with pytest.raises(InputError, match="no model 'svm-mnf'"):
        narrowed([protocol], None, ["svm-mnf"])
    with pytest.raises(InputError, match="same name"):
        narrowed([protocol, protocol], None, [])


def test_intervals_of_differences_are_students():
    generator = np.random.default_rng(0)
    one, other = generator.normal(1, 1, 10), generator.normal(0, 1, 10)
    found = paired_difference(one.tolist(), other.tolist())
    low, high = ttest_1samp(one - other, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.mean == pytest.approx((one - other).mean())
    assert math.isnan(paired_difference([1.0], [0.5]).low)


def test_a_benchmark_is_measured_once_and_reported_twice(protocol_file, tmp_path):
    pytest.importorskip("distributed", reason="needs hyperline[cluster]")
    arguments = ["benchmark", str(protocol_file), "--out", str(tmp_path / "out"), "--workers", "1", "--no-speed"]
    first = CliRunner().invoke(hyperline, arguments, catch_exceptions=False)
    assert first.exit_code == 0
    held = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cells").glob("*.json")}
    assert len(held) == 4
    again = CliRunner().invoke(hyperline, arguments, catch_exceptions=False)
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cells").glob("*.json")} == held
    assert "MambaMoE less each other" in first.stdout and "LDA on MNF" in first.stdout
    with (tmp_path / "out" / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["split_hash"] for row in rows if row["seed"] == "0"} != {
        row["split_hash"] for row in rows if row["seed"] == "1"
    }
    assert len({row["split_hash"] for row in rows}) == 2  # the models of a seed saw the same pixels
    assert (tmp_path / "out" / "accuracy.png").stat().st_size > 5000


def test_every_contestant_names_its_source():
    assert all(one.source and one.title for one in CONTESTANTS.values())
    assert len({one.title for one in CONTESTANTS.values()}) == len(CONTESTANTS)


SITES = """
name = "Sites"
role = "reported"

[[experiment]]
title = "Another site"
scene = "plots.npz"
split = "sites"
train_site = "HILL"
test_site = "DALE"
labels_per_class = 5
seeds = 1
models = ["lda-mnf", "weak"]

[[model]]
name = "weak"
network = "mambamoe"
settings = {dropout = 0.3}
train = {consistency = 1.0, ugcl = "off"}
"""


@pytest.fixture
def sites_file(tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, size=(6, 12, 4)).repeat(3, 2).astype(np.uint8) + 1
    spectra = generator.normal(size=(5, 10)).cumsum(axis=1)
    np.savez(
        tmp_path / "plots.npz",
        cube=spectra[labels] + 0.05 * generator.normal(size=(*labels.shape, 10)),
        labels=labels,
        plot_ids=np.array(["HILL_1", "HILL_2", "HILL_3", "HILL_4", "DALE_1", "DALE_2"]),
        class_names=np.array(["oak", "pine", "elm"]),
    )
    (tmp_path / "s.toml").write_text(SITES)
    return tmp_path / "s.toml"


def test_a_site_judges_what_another_site_trained(sites_file):
    (experiment,) = read_protocol(sites_file).experiments
    task = read_task(experiment, seed=0)
    assert [scene.name for scene, _ in task.strips] == ["HILL_1", "HILL_2", "HILL_3", "HILL_4"]
    assert [scene.name for scene, _ in task.judged] == ["DALE_1", "DALE_2"]
    assert sum((labels > 0).sum() for _, labels in task.strips) == 3 * 5
    result = run_cell(Cell(experiment, "lda-mnf", 0))
    assert result["streamed"]["oa"] > 0.9
    assert result["split"]["kind"] == "sites"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('test_site = "DALE"', 'test_site = "HILL"', "are the same"),
        ('test_site = "DALE"\n', "", "needs train_site and test_site"),
        ('split = "sites"', 'split = "random"', "goes with split = 'sites' alone"),
        ("labels_per_class = 5", "labels_per_class = 5\nguard = 2", "no guard band"),
        ("consistency = 1.0", "consistancy = 1.0", "there is no 'consistancy' to set; there are: epochs"),
        ("consistency = 1.0", 'consistency = "much"', "model weak: train: consistency"),
        ("consistency = 1.0", "seed = 1", "there is no 'seed' to set"),
        ("dropout = 0.3", "drop = 0.3", "settings: there is no 'drop' to set"),
        ('"mambamoe"', '"mamba"', "no network is called 'mamba'"),
        ('name = "weak"', 'name = "svm-mnf"', "there already"),
    ],
)
def test_a_protocol_that_asks_for_sites_or_models_that_cannot_be_says_why(sites_file, before, after, says):
    sites_file.write_text(SITES.replace(before, after, 1))
    with pytest.raises(InputError, match=says):
        read_protocol(sites_file)


def test_a_model_of_a_protocol_is_measured_with_its_settings(sites_file):
    (experiment,) = read_protocol(sites_file).experiments
    weak = experiment.models["weak"]
    assert (dict(weak.model), dict(weak.train)) == ({"dropout": 0.3}, {"consistency": 1.0, "ugcl": "off"})
    strong = replace(weak, train={"consistency": 3.0, "ugcl": "off"})
    other = replace(experiment, models={"weak": strong})
    assert Cell(experiment, "weak", 0).name != Cell(other, "weak", 0).name


def test_a_cell_is_named_by_the_code_it_can_reach(tmp_path, monkeypatch):
    package = tmp_path / "hyperline_code_under_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text('"""A model."""\nimport hyperline_code_under_test.part\nWIDTH = 1\n')
    (package / "part.py").write_text("DEPTH = 1\n")
    (package / "other.py").write_text("SIZE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(fingerprint_module, "_WITHIN", ("hyperline_code_under_test.",))

    def code():
        fingerprint_module.fingerprint.cache_clear()
        return fingerprint_module.fingerprint("hyperline_code_under_test.model")

    first = code()
    (package / "other.py").write_text("SIZE = 2\n")
    (package / "model.py").write_text(
        '"""Another word."""\nimport hyperline_code_under_test.part\nWIDTH = 1  # a comment\n'
    )
    assert code() == first
    (package / "part.py").write_text("DEPTH = 2\n")
    assert code() != first
    fingerprint_module.fingerprint.cache_clear()


def test_networks_depend_on_their_own_file_and_the_trainer_and_not_on_each_other():
    network, baseline = code_of(CONTESTANTS["mambamoe"]), code_of(CONTESTANTS["svm-mnf"])
    assert len({network, baseline, code_of(CONTESTANTS["liunet"])}) == 3
    assert code_of(CONTESTANTS["mambamoe-no-ugcl"]) == code_of(CONTESTANTS["mambamoe-no-spectral"])
    assert code_of(CONTESTANTS["mambamoe-no-ugcl"]) != network  # which fits a temperature besides


def held(experiment, accuracies):
    """Results of a made-up benchmark: streamed and offline OA by model and seed."""
    return {
        Cell(experiment, model, seed).name: {
            mode: {"oa": oa, "aa": oa, "kappa": oa, "per_class": []} for mode in ("offline", "streamed")
        }
        | {"split": {"guard": 0, "hash": "0" * 64}, "parameters": 7, "seconds": 1.0, "code": "c"}
        for model, found in accuracies.items()
        for seed, oa in enumerate(found)
    }


@pytest.mark.parametrize(
    ("ours", "says"),
    [
        ([0.91, 0.93], ["MambaMoE less it is +2.0 (-10.7 to +14.7) points", "MambaMoE is first of 2 models."]),
        ([0.888, 0.908], ["number 2 of 2 models, 0.2 points behind LDA", ": within one standard error"]),
        ([0.80, 0.805], ["number 2 of 2 models, 9.7 points behind LDA", "not within one standard error"]),
    ],
)
def test_the_judgement_says_who_is_first_and_how_surely(protocol_file, ours, says):
    (experiment,) = read_protocol(protocol_file).experiments
    text = " ".join(judgement(experiment, held(experiment, {"mambamoe": ours, "lda-mnf": [0.90, 0.90]})))
    assert "The best shallow baseline at the same latency is LDA on MNF + Gaussian scales with 90.0 %" in text
    assert all(one in text for one in says), text


def test_speeds_and_calibration_have_columns_where_they_were_measured(protocol_file):
    protocol = read_protocol(protocol_file)
    (experiment,) = protocol.experiments
    results = held(experiment, {"mambamoe": [0.9, 0.9], "lda-mnf": [0.8, 0.8]})
    plain = markdown([protocol], results, {}, "Here.", ["A scene is not there"])
    assert "ECE streamed" not in plain and "lines/s" not in plain and "- A scene is not there" in plain
    for cell in results.values():
        cell["streamed"]["ece"] = 0.05
    machine = {"machine": "a CPU", "lines": 24, "samples": 16, "bands": 40}
    models = {
        "mambamoe": {"lines_per_second": 1234.5, "path": "onnx"},
        "lda-mnf": {"lines_per_second": 9, "path": "numpy"},
    }
    full = markdown([protocol], results, {("A try", "Random"): {**machine, "models": models}}, "Here.", [])
    assert "| ECE streamed | parameters | lines/s |" in full and "ECE offline" not in full
    assert "| 7 | 1,234 |" in full and "| 7 | 9‡ |" in full
    assert "on one thread of a CPU" in full and "†" not in full


def test_every_kind_of_model_has_a_speed(protocol_file):
    protocol_file.write_text(
        PROTOCOL.replace('["mambamoe", "lda-mnf"]', '["small", "liunet", "lda-mnf"]')
        + '\n[[model]]\nname = "small"\nnetwork = "mambamoe"\n'
        + "settings = {channels = 16, experts = [4, 4, 4, 4], state = 4, spectral_groups = 4, spectral_inner = 4}\n"
    )
    (experiment,) = read_protocol(protocol_file).experiments
    found = measure_speed(experiment, "here", rounds=2)
    assert (found["lines"], found["samples"], found["bands"]) == (24, 16, 40)
    assert all(one["lines_per_second"] > 0 for one in found["models"].values())
    assert found["models"]["small"]["path"] == "onnx" and found["models"]["lda-mnf"]["path"] == "numpy"
    assert speed_name(experiment, "here") != speed_name(experiment, "there")


def test_a_scene_that_is_not_there_is_said_and_the_others_are_measured(protocol_file, tmp_path):
    pytest.importorskip("distributed", reason="needs hyperline[cluster]")
    other = PROTOCOL.replace("scene.npz", "missing.npz").replace('"A try"', '"Another"')
    (tmp_path / "other.toml").write_text(other)
    arguments = ["benchmark", str(protocol_file), str(tmp_path / "other.toml"), "--out", str(tmp_path / "out")]
    arguments += ["--page", str(tmp_path / "docs" / "page.md"), "--workers", "1", "--model", "lda-mnf", "--no-speed"]
    ended = CliRunner().invoke(hyperline, arguments)
    assert isinstance(ended.exception, InputError) and ended.exception.exit_code == 2, ended
    assert "1 experiments were skipped" in str(ended.exception)
    page = (tmp_path / "docs" / "page.md").read_text()
    assert "Not measured:" in page and "missing.npz is not there" in page
    assert "## A try" in page and "## Another" not in page and "![page](page.png)" in page
    assert (tmp_path / "docs" / "page.png").stat().st_size > 5000
    assert "[page.json](page.json)" in page
    alone = CliRunner().invoke(hyperline, ["benchmark", str(tmp_path / "other.toml"), "--out", str(tmp_path / "none")])
    assert "no experiment can be measured" in str(alone.exception) and not (tmp_path / "none").exists()


def test_cells_beside_a_page_are_not_measured_again(protocol_file, tmp_path):
    pytest.importorskip("distributed", reason="needs hyperline[cluster]")

    def interrupted(*_):
        raise KeyboardInterrupt

    protocol_file.write_text(PROTOCOL.replace('["mambamoe", "lda-mnf"]', '["lda-mnf", "svm-mnf"]'))
    page = tmp_path / "page.md"
    arguments = [
        "benchmark",
        str(protocol_file),
        "--page",
        str(page),
        "--workers",
        "1",
        "--model",
        "lda-mnf",
        "--no-speed",
    ]
    first = CliRunner().invoke(hyperline, [*arguments, "--out", str(tmp_path / "one")])
    assert first.exit_code == 0, first.exception
    cells = page.with_suffix(".json")
    held = json.loads(cells.read_text())
    assert {name.rpartition("-")[0] for name in held} == {"lda-mnf-0", "lda-mnf-1"}
    for one in held.values():  # what no run would give shows where a cell comes from
        one["streamed"]["oa"] = 0.125
    cells.write_text(json.dumps(held))
    again = CliRunner().invoke(hyperline, [*arguments, "--out", str(tmp_path / "two")])
    assert again.exit_code == 0 and "12.5 ± 0.0" in page.read_text()
    assert not list((tmp_path / "two" / "cells").glob("*.json"))
    # more of the protocol: those of before stay, and an interruption leaves those that were done
    more = [*arguments, "--model", "svm-mnf", "--out", str(tmp_path / "more")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hyperline.train.benchmark.table.markdown", interrupted)
        CliRunner().invoke(hyperline, more)
    assert set(held) < set(json.loads(cells.read_text()))
    cells.write_text('{"lda-mnf-0-1": 3}')
    refused = CliRunner().invoke(hyperline, [*arguments, "--out", str(tmp_path / "three")])
    assert isinstance(refused.exception, InputError) and "page.json holds no cells" in str(refused.exception)


def test_settings_are_chosen_on_no_scene_that_is_reported():
    protocols = [read_protocol(file) for file in sorted(PROTOCOLS.glob("*.toml"))]
    scenes = {
        role: {Path(one.scene).name for protocol in protocols if protocol.role == role for one in protocol.experiments}
        for role in ("tuning", "reported")
    }
    assert scenes["tuning"] == {"salinas_a.npz", "jasper_ridge.npz"}
    assert scenes["reported"] and not scenes["tuning"] & scenes["reported"]
    assert len({protocol.name for protocol in protocols}) == len(protocols)
