"""A benchmark asks for what exists, compares on the same splits, and goes on where it stopped."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import ttest_1samp

from hyperline.cli.main import hyperline
from hyperline.errors import InputError
from hyperline.train.benchmark.contestants import CONTESTANTS
from hyperline.train.benchmark.protocol import narrowed, read_protocol
from hyperline.train.benchmark.table import paired_difference
from hyperline.train.benchmark.work import cells

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
    assert [(one.model, one.seed) for one in cells(narrowed(protocol, 1, ["lda-mnf"]))] == [("lda-mnf", 0)]
    with pytest.raises(InputError, match="no model 'svm-mnf'"):
        narrowed(protocol, None, ["svm-mnf"])


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
    arguments = ["benchmark", str(protocol_file), "--out", str(tmp_path / "out"), "--workers", "1"]
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
