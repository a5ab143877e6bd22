"""The page of results lists what was measured and what was not, and a failure costs no result."""

import shlex
from pathlib import Path

import pytest
import results as results_page

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def results(monkeypatch, tmp_path):
    monkeypatch.setattr(results_page, "RESULTS", tmp_path)
    monkeypatch.setattr(results_page, "_circumstances", lambda: "a day, a commit; a machine")
    return results_page


def test_every_command_names_a_file_of_the_repository(results):
    assert len({one.name for one in results.MEASUREMENTS}) == len(results.MEASUREMENTS)
    for one in results.MEASUREMENTS:
        files = [word for word in shlex.split(one.command) if word.endswith(".py")]
        assert files or one.command.startswith("hyperline "), one.command
        assert all((ROOT / file).is_file() for file in files), one.command


def test_an_output_stands_behind_its_command_and_machine(results, tmp_path):
    measured = results.Measurement("step", "How fast", "echo 999 lines/s")
    assert results._measure(measured)
    first, second, *rest = (tmp_path / "step.txt").read_text().splitlines()
    assert first == "$ echo 999 lines/s"
    assert second.startswith("# a day, a commit; a machine; took ")
    assert rest == ["", "999 lines/s"]
    assert "    999 lines/s\n" in results.page()


def test_a_measurement_that_fails_leaves_what_was_measured_before(results, tmp_path, capsys):
    (tmp_path / "step.txt").write_text("before")
    assert not results._measure(results.Measurement("step", "How fast", "echo half; exit 3"))
    assert (tmp_path / "step.txt").read_text() == "before"
    assert "half" in capsys.readouterr().out


def test_what_it_needs_is_made_first_and_what_is_missing_is_said(results, tmp_path, capsys):
    lacking = results.Measurement("gpu", "Kernels", "exit 1", lacks=lambda: "an NVIDIA GPU")
    assert results._measure(lacking)
    assert "needs an NVIDIA GPU" in capsys.readouterr().out
    assert not (tmp_path / "gpu.txt").exists()
    made = tmp_path / "made"
    assert results._measure(results.Measurement("step", "…", f"cat {made}", before=(f"echo made > {made}",)))
    assert (tmp_path / "step.txt").read_text().endswith("made\n")


def test_the_page_of_the_repository_is_the_one_that_its_outputs_make(results, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", ROOT / "docs" / "results")
    monkeypatch.setattr(results, "_reason", lambda one: "")
    page = (ROOT / "docs" / "results" / "README.md").read_text()
    for one in results.MEASUREMENTS:
        assert f"## {one.title}\n" in page
        file = ROOT / "docs" / "results" / f"{one.name}.txt"
        if file.exists():
            assert file.read_text().splitlines()[0] in page
