"""``hyperline run`` as a person or a script meets it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_model import save_npz

from hyperline.bundle import Bundle
from hyperline.cli import main
from hyperline.runtime.sinks import FILES
from hyperline.runtime.strip import PICTURE, SUMMARY
from hyperline.scenes import Scene

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle, tmp_path: Path) -> Run:
    """Run the tiny model on a scene into tmp_path/run; give exit code, stdout and stderr."""

    def run(source: Path | str, *options: object) -> tuple[int, str, str]:
        arguments = [bundle.path, "--source", source, "--out", tmp_path / "run", "--threads", 1, *options]
        monkeypatch.setattr(sys, "argv", ["hyperline", "run", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        return code, out, err.lstrip()  # the bar that was there leaves an empty line

    return run


def test_a_run_ends_with_speed_accuracy_and_the_files_that_it_wrote(run: Run, npz: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib, of hyperline[pictures]")
    code, out, err = run(npz)
    assert (code, err) == (0, "")
    assert "field: 22 of 22 lines classified" in out
    assert "lines/s" in out
    assert "p99.9" in out
    assert "labelled pixels" in out
    for name in (SUMMARY, *FILES, PICTURE):
        assert str(tmp_path / "run" / name) in out
        assert (tmp_path / "run" / name).stat().st_size > 0


def test_json_is_the_summary_and_nothing_else(run: Run, npz: Path, tmp_path: Path) -> None:
    code, out, _ = run(npz, "--json", "--no-picture", "--repeat", 3, "--rate", 5000)
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert json.loads(out)["received"] == 66
    assert not (tmp_path / "run" / "classes.png").exists()


def test_without_matplotlib_the_run_works_and_says_how_to_get_the_picture(
    run: Run, npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = run(npz)
    assert code == 0
    assert "22 of 22 lines" in out
    assert err == "no picture: matplotlib is not installed; it comes with: pip install 'hyperline[pictures]'\n"
    assert not (tmp_path / "run" / "classes.png").exists()


def test_a_run_imports_neither_torch_nor_onnx_nor_anything_that_an_extra_brings(
    bundle: Bundle, npz: Path, tmp_path: Path
) -> None:
    program = (
        "import sys; from hyperline.cli import main; main(); "
        "extras = {'torch', 'onnx', 'scipy', 'h5py', 'rasterio', 'sklearn', 'matplotlib', 'hyperline.train'}; "
        "sys.exit(str(extras & sys.modules.keys()) if extras & sys.modules.keys() else 0)"
    )
    arguments = [bundle.path, "--source", npz, "--out", tmp_path / "run", "--threads", "1", "--no-picture"]
    done = subprocess.run(
        [sys.executable, "-c", program, "run", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_labels_in_other_classes_are_left_out_with_a_note_and_refused_where_asked_for(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    path = save_npz(tmp_path / "field.npz", scene, class_names=["Corn", "Water", "Road", "Roof"])
    code, out, err = run(path, "--no-picture")
    assert code == 0
    assert "no accuracy, class 2 of field is Water, the model's is Woods" in err
    assert "labelled pixels" not in out

    labels = tmp_path / "labels.npy"
    np.save(labels, np.full(scene.cube.shape[:2], 9, np.uint8))
    code, _, err = run(path, "--no-picture", "--overwrite", "--labels", labels)
    assert code == 2
    assert "up to class 9" in err


def test_a_scene_of_another_sensor_is_refused_with_one_line_and_leaves_nothing(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    path = save_npz(tmp_path / "other.npz", replace(scene, wavelengths_nm=scene.wavelengths_nm + 500))
    code, out, err = run(path)
    assert (code, out) == (2, "")
    assert err.startswith("error: other reaches from 950.00 to ") and "would have to be extrapolated" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--engine", "warp"),
        ("--precision", "int8"),
        ("--rate", "0"),
        ("--rate", "nan"),
        ("--repeat", "0"),
        ("--threads", "0"),
    ],
)
def test_a_bad_option_is_bad_usage_and_leaves_nothing(
    run: Run, npz: Path, tmp_path: Path, option: str, value: str
) -> None:
    code, out, err = run(npz, option, value)
    assert (code, out) == (2, "")
    assert value in err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_refused_until_told_to_overwrite(run: Run, npz: Path) -> None:
    assert run(npz, "--no-picture")[0] == 0
    code, _, err = run(npz, "--no-picture")
    assert code == 2
    assert "--overwrite" in err
    assert run(npz, "--no-picture", "--overwrite")[0] == 0


def test_an_interrupted_run_says_so_draws_what_it_has_and_fails(bundle: Bundle, npz: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib, of hyperline[pictures]")
    out = tmp_path / "run"
    command = [sys.executable, "-c", "from hyperline.cli import main; main()", "run", str(bundle.path)]
    command += ["--source", str(npz), "--out", str(out), "--threads", "1", "--rate", "20", "--repeat", "100", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (out / "confidence.hdr").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    summary = json.loads(stdout)
    assert process.returncode == 1
    assert summary["interrupted"] is True
    assert 4 <= summary["received"] == summary["classified"] < 2200
    assert f"interrupted after {summary['received']} lines" in stderr
    assert (out / "classes.png").exists()


def test_events_and_a_geotiff_leave_with_the_strip(run: Run, npz: Path, tmp_path: Path) -> None:
    pytest.importorskip("rasterio", reason="needs rasterio, of hyperline[geo]")
    events = tmp_path / "events.jsonl"
    code, _, err = run(npz, "--events", "Stone {steel}:0.0:2", "--link", f"jsonl:{events}", "--geotiff", "--no-picture")
    assert code == 0, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["links"]["blocks"] == {"offered": 6, "dropped": 0, "failed": 0, "queued": 0}
    sent = [json.loads(line) for line in events.read_text().splitlines()]
    assert len(sent) == summary["links"]["events"]["found"] > 0
    assert (tmp_path / "run" / "classes.tif").stat().st_size > 0


@pytest.mark.parametrize("options", [("--link", "pigeon://loft"), ("--events", "nothing")])
def test_a_link_that_cannot_be_is_refused(run: Run, npz: Path, options: tuple[str, ...]) -> None:
    code, _, err = run(npz, *options)
    assert code == 2 and "error:" in err.lower(), err


@pytest.mark.parametrize(("options", "tests"), [(("--self-test-every", 2), 2), ((), 1), (("--self-test-every", 0), 0)])
def test_the_self_test_is_repeated_as_often_as_asked(
    run: Run, npz: Path, options: tuple[object, ...], tests: int
) -> None:
    """Six blocks, and a test at the end of the strip."""
    code, out, _ = run(npz, "--json", *options)
    assert code == 0
    assert tests <= json.loads(out)["counters"]["self_tests"] <= max(tests, 3 * (tests > 1))


def test_a_bundle_that_cannot_tell_the_unknown_is_refused_before_the_first_line(
    run: Run, npz: Path, tmp_path: Path
) -> None:
    code, out, err = run(npz, "--unknown", 0.05)
    assert (code, out) == (2, "")
    assert "does not say from which score on a pixel is unknown" in err
    assert not (tmp_path / "run").exists()
