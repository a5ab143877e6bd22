"""Raw lines are corrected on the way into the blocks, and the map is that of the corrected scene."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from hyperline.bundle import encode_golden, write_bundle
from hyperline.cli import main
from hyperline.errors import InputError
from hyperline.radiometry import correct_scene
from hyperline.runtime.sources import Line
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.sources.framing import LineReader, read_header
from hyperline.runtime.sources.sender import Shutter
from hyperline.runtime.strip import run_strip
from hyperline.scenes import Scene, scene_hash
from hyperline.sensor import SensorCorrection, write_correction
from hyperline.splits import random_split

LINES, SAMPLES, RAW_BANDS = 22, 13, 12


@pytest.fixture
def ground(tiny) -> np.ndarray:
    """What is on the ground (line, sample, model band), in whole numbers; the spectrum of sample 3 is flat."""
    ground = np.random.default_rng(0).integers(0, 8, (LINES, SAMPLES, tiny.bands))
    ground[:, 3] = ground[:, 3, :1]
    return ground


@pytest.fixture
def correction() -> SensorCorrection:
    dark = np.random.default_rng(1).integers(90, 110, (SAMPLES, RAW_BANDS)).astype(np.float32)
    bad = np.zeros((SAMPLES, RAW_BANDS), bool)
    bad[3, 5] = True
    gain = np.full((SAMPLES, RAW_BANDS), 0.5, np.float32)
    return SensorCorrection(
        SAMPLES, RAW_BANDS, units="radiance", dark=dark, gain=gain, bad=bad, saturation=4095, ranges=((1, 11),), bin=2
    )


@pytest.fixture
def strip(ground: np.ndarray, correction: SensorCorrection) -> Scene:
    """The ground as counts, with a hot element that is known as bad and one saturated pixel."""
    assert correction.dark is not None
    raw = np.full((LINES, SAMPLES, RAW_BANDS), 4095.0)  # bands 0 and 11 are not used
    raw[..., 1:11] = np.repeat(2 * ground, 2, axis=2) + correction.dark[:, 1:11]
    raw[:, 3, 5] = 4095
    raw[4, 7, 2] = 4095
    return Scene("raw", raw.astype(np.uint16))


def test_the_map_of_raw_lines_is_that_of_what_they_show(
    tiny, bundle, ground: np.ndarray, correction: SensorCorrection, strip: Scene, tmp_path: Path
) -> None:
    summary = run_strip(bundle, SceneSource(strip), tmp_path / "run", threads=1, correction=correction)
    assert (summary.classified, summary.saturated_pixels, summary.invalid_pixels) == (LINES, 1, 1)
    seen = ground.astype(np.int16)
    seen[4, 7] = -1
    expected, _ = tiny.expected_map(seen, bundle.card.block_lines)
    found = np.fromfile(tmp_path / "run" / "classes.img", np.uint8).reshape(LINES, SAMPLES)
    np.testing.assert_array_equal(found, expected)


def test_a_source_that_is_not_of_that_sensor_is_refused_before_anything_is_written(
    bundle, correction: SensorCorrection, strip: Scene, tmp_path: Path
) -> None:
    for cube, message in (
        (strip.cube[..., :11], r"lines of 13 samples × 11 bands, the radiometry is for 13 × 12"),
        (strip.cube[:, :12], r"lines of 12 samples × 12 bands, the radiometry is for 13 × 12"),
    ):
        with pytest.raises(InputError, match=message):
            run_strip(bundle, SceneSource(Scene("raw", cube)), tmp_path / "run", threads=1, correction=correction)
    centres = np.linspace(1400, 2000, RAW_BANDS)
    with pytest.raises(InputError, match=r"raw reaches from .* would have to be extrapolated"):
        source = SceneSource(Scene("raw", strip.cube, wavelengths_nm=centres))
        run_strip(bundle, source, tmp_path / "run", threads=1, correction=correction)
    assert not (tmp_path / "run").exists()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tiny,
    correction: SensorCorrection,
    strip: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a model that was trained on the corrected strip, 2 pixels a class; give exit code, stdout and stderr."""
    labels = np.random.default_rng(2).integers(1, tiny.classes + 1, (LINES, SAMPLES)).astype(np.uint8)
    np.savez(tmp_path / "raw.npz", cube=strip.cube, labels=labels)
    write_correction(tmp_path / "sensor.npz", correction)
    assert correction.dark is not None and correction.gain is not None and correction.bad is not None
    for name, table in (("dark", correction.dark[None]), ("gain", correction.gain), ("bad", correction.bad)):
        np.save(tmp_path / f"{name}.npy", table)
    training = {
        "scene": {"sha256": scene_hash(correct_scene(strip, correction)), "units": "radiance"},
        "split": random_split(labels, 2, 0).as_dict(),
    }
    card = tiny.card(4).model_copy(update={"training": training})
    members = {"card.json": card.to_json(), "model.onnx": tiny.model(4), **encode_golden(tiny.golden(4))}
    bundle = write_bundle(tmp_path / "trained.hlb", members)

    def run(*options: object) -> tuple[int, str, str]:
        arguments = [bundle.path, "--source", tmp_path / "raw.npz", "--out", tmp_path / "run", "--threads", 1, *options]
        monkeypatch.setattr(sys, "argv", ["hyperline", "run", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        return code, out, err.lstrip()

    return run


def test_a_file_and_the_options_that_make_it_give_the_same_run(run: Run, tmp_path: Path) -> None:
    options = ["--dark", tmp_path / "dark.npy", "--gain", tmp_path / "gain.npy", "--bad", tmp_path / "bad.npy"]
    options += ["--saturation", 4095, "--bands", "1:11", "--bin", 2]
    maps = []
    for given in (["--radiometry", tmp_path / "sensor.npz"], options):
        code, out, err = run(*given, "--overwrite", "--json")
        assert code == 0, err
        summary = json.loads(out)
        assert (summary["classified"], summary["saturated_pixels"], summary["invalid_pixels"]) == (LINES, 1, 1)
        assert summary["pixels"] == LINES * SAMPLES - 8  # the strip is known as the training scene
        maps.append((tmp_path / "run" / "classes.img").read_bytes())
    assert maps[0] == maps[1]
    code, out, _ = run(*options, "--overwrite")
    assert "1 pixels saturated" in out


def test_samples_are_binned_from_the_sensors_width_to_that_of_the_model(
    tiny, bundle, ground: np.ndarray, correction: SensorCorrection, strip: Scene, run: Run, tmp_path: Path
) -> None:
    """Two samples see each pixel; one of them is often lost, and the labels are as wide as the sensor."""
    tables = {name: np.repeat(getattr(correction, name), 2, axis=0) for name in ("dark", "gain", "bad")}
    wide = replace(correction, samples=2 * SAMPLES, bin_samples=2, **tables)
    cube = np.repeat(strip.cube, 2, axis=1)
    cube[:, 1::2][np.random.default_rng(3).random((LINES, SAMPLES)) < 0.3] = 0
    with np.load(tmp_path / "raw.npz") as raw:
        labels = np.repeat(raw["labels"], 2, axis=1)
    np.savez(tmp_path / "raw.npz", cube=cube, labels=labels, nodata=0)
    write_correction(tmp_path / "sensor.npz", wide)
    code, out, err = run(
        "--radiometry",
        tmp_path / "sensor.npz",
        "--json",
        "--link",
        f"jsonl:{tmp_path / 'events'}",
        "--events",
        "Corn:0.1:1",
    )
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["samples"], summary["saturated_pixels"], summary["invalid_pixels"]) == (SAMPLES, 1, 1)
    seen = ground.astype(np.int16)
    seen[4, 7] = -1
    found = np.fromfile(tmp_path / "run" / "classes.img", np.uint8).reshape(LINES, SAMPLES)
    np.testing.assert_array_equal(found, tiny.expected_map(seen, bundle.card.block_lines)[0])
    # Known as the training scene, for its corrected values are the same; and drawn, truth beside the map.
    assert summary["pixels"] == LINES * SAMPLES - 8
    assert (tmp_path / "run" / "classes.png").exists() == (find_spec("matplotlib") is not None)


def test_what_cannot_be_right_is_refused_before_the_run(run: Run, tmp_path: Path) -> None:
    made, dark = tmp_path / "sensor.npz", tmp_path / "dark.npy"
    for options, message in (
        (["--radiometry", made, "--dark", dark], "sensor.npz says all of the sensor; leave out --dark, or the file"),
        (["--radiometry", made, "--bands", "1:11"], "leave out --bands, or the file"),
        (["--dark", dark, "--bands", "1:11", "--bin", 2], "makes counts of raw, the model was trained on radiance"),
        (["--gain", tmp_path / "gain.npy"], "raw has 12 bands, the model tiny takes 5"),
        ([], "trained on radiance, and raw stores uint16 without a scale: raw counts; give their correction"),
        (["--radiometry", tmp_path / "nowhere.npz"], "nowhere.npz: cannot be read as a radiometry file"),
    ):
        code, _, err = run(*options)
        assert code == 2
        assert message in err
        assert not (tmp_path / "run").exists()


class WithShutter(SceneSource):
    """A sensor whose shutter closes."""

    def __init__(self, scene: Scene, shutter: Shutter) -> None:
        super().__init__(scene)
        self._shutter = shutter

    def __iter__(self) -> Iterator[Line]:
        for line in super().__iter__():
            dark = self._shutter.sees(line.index)
            yield line if dark is None else replace(line, values=dark, truth=None, dark=True)


def test_a_dark_that_drifts_is_followed_by_the_lines_that_the_shutter_hides(
    bundle, correction: SensorCorrection, strip: Scene, tmp_path: Path
) -> None:
    cube = np.concatenate([strip.cube] * 3)
    darks = np.repeat(correction.dark[None], 16, axis=0).astype(np.uint16)
    drift = np.zeros_like(cube[0])
    drift[:, 1:11] = 6

    def fly(name: str, cube: np.ndarray, darks: np.ndarray):
        source = WithShutter(Scene("raw", cube), Shutter(darks, every=40, lines=16))
        summary = run_strip(bundle, source, tmp_path / name, threads=1, correction=correction)
        return summary, np.fromfile(tmp_path / name / "classes.img", np.uint8).reshape(-1, SAMPLES)

    summary, still = fly("still", cube, darks)
    assert (summary.received, summary.classified, summary.lines) == (66, 66, 66)
    assert (summary.counters.dark, summary.counters.dark_updates, summary.counters.dark_refusals) == (32, 2, 0)
    hidden = np.arange(66) % 40 < 16
    assert not still[hidden].any() and still[~hidden].any(axis=1).all()
    _, followed = fly("followed", cube + drift, darks + drift)
    np.testing.assert_array_equal(followed, still)
    _, ignored = fly("ignored", cube + drift, darks)
    assert (ignored != still).any()


def test_dark_lines_that_cannot_be_any_are_refused_and_those_without_a_dark_to_replace_are_places_in_the_map(
    bundle, correction: SensorCorrection, strip: Scene, ground: np.ndarray, tmp_path: Path, caplog
) -> None:
    open_shutter = Shutter(np.full((16, SAMPLES, RAW_BANDS), 3000, np.uint16), every=20, lines=16)
    summary = run_strip(bundle, WithShutter(strip, open_shutter), tmp_path / "open", threads=1, correction=correction)
    assert (summary.counters.dark, summary.counters.dark_updates, summary.counters.dark_refusals) == (18, 0, 1)
    converted = WithShutter(Scene("field", ground.astype(np.float32)), Shutter(ground.astype(np.float32), 20, 16))
    summary = run_strip(bundle, converted, tmp_path / "converted", threads=1)
    assert (summary.counters.dark, summary.classified, summary.lines) == (18, LINES, LINES)
    assert caplog.text.count("no dark that they could replace") == 1


def test_replay_closes_a_shutter(strip: Scene, correction: SensorCorrection, tmp_path: Path) -> None:
    np.savez(tmp_path / "raw.npz", cube=strip.cube)
    np.savez(tmp_path / "dark.npz", cube=np.repeat(correction.dark[None], 3, axis=0).astype(np.uint16))
    hyperline = Path(sys.executable).with_name("hyperline")
    command = [hyperline, "replay", tmp_path / "raw.npz", "--to", "-", "--shutter", "10:4"]
    sent = subprocess.run([*command, "--dark", tmp_path / "dark.npz"], capture_output=True, check=True).stdout
    fill = io.BytesIO(sent).readinto
    reader, lines = LineReader(read_header(fill), fill), []
    while (line := reader.read()) is not None:
        lines.append((line.index, line.dark, line.values.copy()))
    assert [dark for _, dark, _ in lines] == [index % 10 < 4 for index in range(LINES)]
    for index, dark, values in lines:
        np.testing.assert_array_equal(values, correction.dark if dark else strip.cube[index])
    assert (reader.total, reader.counters.damaged) == (LINES, 0)
    alone = subprocess.run(command, capture_output=True, text=True)
    assert alone.returncode == 2 and "--shutter EVERY:LINES and --dark PATH go together" in alone.stderr
    wrong = subprocess.run([*command[:-1], "4:4", "--dark", tmp_path / "dark.npz"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "closes for 1 to 3 lines of 4, not 4" in wrong.stderr
