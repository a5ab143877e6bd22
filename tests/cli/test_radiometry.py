"""``hyperline radiometry``, and raw lines from training to flight with the file that it makes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hyperline.bundle import read_bundle
from hyperline.cli import main
from hyperline.radiometry import correct_scene
from hyperline.scenes import Scene
from hyperline.sensor import read_correction

LINES, SAMPLES, BANDS = 29, 21, 12

Hyperline = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hyperline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hyperline:
    """Run a command; give exit code, stdout and stderr."""

    def hyperline(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hyperline", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        return code, out, err.lstrip()

    return hyperline


@pytest.fixture
def sensor(tmp_path: Path) -> Path:
    """A folder with fields of three materials as a striped sensor of 12 bands sees them, its dark and its white."""
    generator = np.random.default_rng(0)
    fields = (np.arange(LINES)[:, None] // 7 + np.arange(SAMPLES)[None] // 6) % 3
    reflectance = generator.uniform(0.1, 0.6, (3, BANDS))[fields] + generator.normal(0, 0.01, (LINES, SAMPLES, BANDS))
    dark, gain = generator.uniform(80, 120, (SAMPLES, BANDS)), generator.uniform(2000, 3000, (SAMPLES, BANDS))

    def counts(reflectance: np.ndarray) -> np.ndarray:
        return generator.poisson(dark + gain * np.maximum(reflectance, 0)).astype(np.uint16)

    wavelengths = np.linspace(400, 900, BANDS)
    truth = {"labels": fields + 1, "class_names": ["soil", "grass", "roof"]}
    np.savez(tmp_path / "strip.npz", cube=counts(reflectance), wavelengths_nm=wavelengths, **truth)
    np.savez(tmp_path / "dark.npz", cube=counts(np.zeros((50, SAMPLES, BANDS))), wavelengths_nm=wavelengths)
    np.savez(tmp_path / "white.npz", cube=counts(np.ones((50, SAMPLES, BANDS))), wavelengths_nm=wavelengths)
    return tmp_path


def test_make_says_what_it_made_and_inspect_says_it_again(hyperline: Hyperline, sensor: Path) -> None:
    files = ["--dark", sensor / "dark.npz", "--white", sensor / "white.npz", "--saturation", 4095]
    made = sensor / "sensor.npz"
    code, out, err = hyperline("radiometry", "make", made, *files, "--bands", "0:8,10:12", "--bin", 2, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert (facts["samples"], facts["bands"], facts["model_bands"], facts["units"]) == (21, 12, 5, "reflectance")
    assert facts["ranges"] == [[0, 8], [10, 12]]
    assert 80 < facts["dark_median"] < 120
    assert 8 < facts["dark_noise_median"] < 12  # that of photons: the root of 100
    assert facts["dark_drift"] == 20
    assert facts["provenance"]["white"]["lines"] == 50
    assert str(sensor) not in json.dumps(facts)  # where a file lay on this machine is nobody's business
    assert hyperline("radiometry", "inspect", made, "--json")[1] == out
    code, out, _ = hyperline("radiometry", "inspect", made)
    assert code == 0
    binned = sensor / "binned.npz"
    code, shown, err = hyperline("radiometry", "make", binned, *files, "--bin-samples", 3)
    assert code == 0, err
    assert "21 samples × 12 bands of counts -> 7 samples × 12 bands of reflectance" in shown
    assert "21 samples × 12 bands of counts -> 5 bands of reflectance" in out
    assert "saturation at 4095 counts makes a pixel invalid" in out
    assert "counts, may drift by 20 times that" in out
    assert "dark: dark.npz, lines: 50, SHA-256 " in out


def test_make_refuses_to_replace_a_file_unasked(hyperline: Hyperline, sensor: Path) -> None:
    made = sensor / "sensor.npz"
    made.write_bytes(b"precious")
    code, _, err = hyperline("radiometry", "make", made, "--dark", sensor / "dark.npz")
    assert code == 2
    assert "sensor.npz exists; choose another name, or give --overwrite" in err
    assert made.read_bytes() == b"precious"
    assert hyperline("radiometry", "make", made, "--dark", sensor / "dark.npz", "--overwrite")[0] == 0


@pytest.mark.parametrize("bands", ["3", "a:b", "3:", "1:2:3", "-1:4", ""])
def test_bands_that_are_no_ranges_are_refused_with_an_example(hyperline: Hyperline, sensor: Path, bands: str) -> None:
    code, _, err = hyperline("radiometry", "make", sensor / "s.npz", "--dark", sensor / "dark.npz", f"--bands={bands}")
    assert code == 2
    assert "is no START:STOP, such as 0:100 or 3:100,120:200" in err


def test_raw_lines_are_trained_on_evaluated_exported_and_calibrated_in_the_units_of_their_correction(
    hyperline: Hyperline, sensor: Path
) -> None:
    pytest.importorskip("torch", reason="needs torch, of hyperline[train]")
    strip, made, run = (sensor / name for name in ("strip.npz", "sensor.npz", "RUN"))
    options = ["--dark", sensor / "dark.npz", "--white", sensor / "white.npz", "--bands", "0:10", "--bin", 2]
    assert hyperline("radiometry", "make", made, *options)[0] == 0
    train = ["--labels-per-class", 10, "--epochs", 1, "--threads", 1]
    code, _, err = hyperline("train", strip, "--out", run, "--radiometry", made, *train)
    assert code == 0, err
    record = json.loads((run / "run.json").read_text())
    assert (record["scene"]["bands"], record["scene"]["units"]) == (5, "reflectance")
    code, out, err = hyperline("evaluate", run, strip, "--radiometry", made, "--threads", 1, "--json")
    assert code == 0, err
    assert json.loads(out)["oa"] == record["streamed"]["oa"]
    assert json.loads(out)["pixels"] == LINES * SAMPLES - 30  # known as the training scene
    bundle = sensor / "fields.hlb"
    export = ["export", run, "--out", bundle, "--json"]
    code, _, err = hyperline(*export, "--radiometry", made)
    assert code == 2
    assert "sensor.npz corrects raw lines, and none are given: name them with --lines SCENE" in err
    code, _, err = hyperline(*export, "--lines", strip)
    assert code == 2
    assert "the model was trained on reflectance, and strip stores uint16 without a scale" in err
    code, out, err = hyperline(*export, "--lines", strip, "--radiometry", made)
    assert code == 0, err
    with np.load(strip) as raw:
        corrected = correct_scene(Scene("strip", raw["cube"]), read_correction(made))
    golden = read_bundle(bundle).golden()
    np.testing.assert_array_equal(golden["lines"][:, :SAMPLES], corrected.cube[:8])
    calibrate = ["calibrate", bundle, "--lines", strip, "--precision", "fp16", "--threads", 1]
    code, _, err = hyperline(*calibrate)
    assert code == 2
    assert "strip stores uint16 without a scale: raw counts; give their correction with --radiometry" in err
    code, _, err = hyperline(*calibrate, "--radiometry", made)
    assert code == 2
    assert "has 29 lines; calibration needs at least 64" in err  # the units and bands are right
    assert hyperline("radiometry", "make", made, *options[:2], *options[4:], "--overwrite")[0] == 0
    for command in (["evaluate", run, strip, "--threads", 1], [*export, "--lines", strip], [*calibrate]):
        code, _, err = hyperline(*command, "--radiometry", made)
        assert code == 2
        assert "the radiometry makes counts of strip, the model was trained on reflectance" in err
