"""A flight from source to files: the right map whatever the strip, and every line accounted for."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import spectral
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.bundle import Bundle
from hyperline.errors import HyperlineError, InputError
from hyperline.metrics import Metrics
from hyperline.radiometry import fit_scene
from hyperline.runtime import flight, strip
from hyperline.runtime.engines.ort_cpu import OrtCpuEngine
from hyperline.runtime.sources import Line
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import RUN_FILES, run_strip
from hyperline.scenes import Scene, valid_pixels
from hyperline.sensor import resample_bands


class Unruly(SceneSource):
    """A scene some of whose lines arrive with the wrong size."""

    bad = frozenset({0, 5, 6, 21})

    def __iter__(self) -> Iterator[Line]:
        for line in super().__iter__():
            yield replace(line, values=line.values[:-1]) if line.index in self.bad else line


BESIDE = ("uncertainty", "experts")


def maps(out: Path) -> tuple[np.ndarray, np.ndarray]:
    labels, confidence = (
        np.asarray(spectral.open_image(str(out / f"{name}.hdr")).load())[..., 0] for name in ("classes", "confidence")
    )
    return labels, confidence


def accounted(summary: strip.RunSummary) -> bool:
    return summary.received == summary.classified + summary.dropped + summary.rejected


@settings(max_examples=15, deadline=None)
@given(
    lines=st.integers(1, 40),
    samples=st.integers(1, 21),
    block_lines=st.sampled_from([1, 4, 8]),
    repeat=st.integers(1, 2),
    seed=st.integers(0, 2**32),
)
def test_the_map_is_that_of_one_call_on_the_strip(
    tiny, lines: int, samples: int, block_lines: int, repeat: int, seed: int
) -> None:
    cube = tiny.cube(lines, samples, seed)
    source = SceneSource(Scene("field", cube, nodata=-1.0), repeat=repeat)
    with tempfile.TemporaryDirectory() as folder:
        summary = run_strip(tiny.bundle(block_lines), source, Path(folder), threads=1)
        labels, confidence = maps(Path(folder))
        uncertainty, experts = (np.asarray(spectral.open_image(f"{folder}/{name}.hdr").load()) for name in BESIDE)
    whole = np.tile(cube, (repeat, 1, 1))
    expected = tiny.expected_map(whole, block_lines)
    np.testing.assert_array_equal(labels, expected[0])
    np.testing.assert_allclose(confidence, expected[1], rtol=1e-5)
    valid = valid_pixels(whole, -1)
    share = tiny.uncertainty(tiny.reference(whole.astype(np.float32), valid, block_lines)[2], valid)
    np.testing.assert_allclose(uncertainty[..., 0], 255 * share, atol=0.51)
    seen = [np.count_nonzero(valid[start : start + block_lines]) for start in range(0, len(whole), block_lines)]
    np.testing.assert_array_equal(experts, np.multiply.outer(seen, tiny.gates().T))
    assert accounted(summary)
    assert summary.classified == summary.lines == lines * repeat
    assert summary.invalid_pixels == repeat * np.count_nonzero((cube == -1).all(axis=-1))


def test_values_that_are_not_finite_are_no_class_and_do_not_reach_the_pixels_after_them(
    tiny, bundle: Bundle, tmp_path: Path
) -> None:
    cube = tiny.cube(22, 13)
    broken = cube.astype(np.float32)
    broken[cube == -1] = np.nan
    broken[3] = np.inf  # a whole line
    cube[3] = -1
    summary = run_strip(bundle, SceneSource(Scene("field", broken)), tmp_path, threads=1)
    labels, confidence = maps(tmp_path)
    np.testing.assert_array_equal(labels, tiny.expected_map(cube, 4)[0])
    assert not labels[3].any()
    assert np.isfinite(confidence).all()
    assert summary.invalid_pixels == np.count_nonzero(labels == 0)


def test_the_summary_on_disk_has_the_keys_that_scripts_rely_on(bundle: Bundle, scene: Scene, tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    summary = run_strip(bundle, SceneSource(scene), out, threads=1)
    written = json.loads((out / "summary.json").read_text())
    assert written == json.loads(json.dumps(summary.as_dict()))
    assert {
        "received": 22,
        "classified": 22,
        "dropped": 0,
        "rejected": 0,
        "interrupted": False,
        "block_lines": 4,
        "engine": "ort-cpu",
        "precision": "fp32",
        "threads": 1,
        "native_ops": False,
        "bundle_sha256": bundle.sha256,
        "source": "field",
    }.items() <= written.items()
    assert 0 < written["latency_ms"]["p50"] <= written["latency_ms"]["p99"] <= written["latency_ms"]["p999"]
    assert written["latency_ms"]["p999"] <= written["seconds"] * 1e3
    assert 0 < written["first_block_ms"] <= written["seconds"] * 1e3
    assert written["lines_per_second"] == pytest.approx(22 / written["seconds"])
    assert sum(written["latency_histogram"]["lines"]) == 22
    assert len(written["latency_histogram"]["edges_ms"]) == len(written["latency_histogram"]["lines"]) + 1
    (point,) = written["time_line"]
    assert point["second"] == 0 and point["dropped"] == 0
    assert written["latency_ms"]["p50"] <= point["latency_ms_max"] * 1.01
    spectra = json.loads((out / "spectra.json").read_text())
    assert sum(one["pixels"] for one in spectra["classes"]) <= 6 * 13  # a line of each block
    assert {len(one[key]) for one in spectra["classes"] for key in ("mean", "std")} == {5}
    not_asked_for = {"classes.png", "classes.tif", "classes.tif.aux.xml"}
    assert {path.name for path in out.iterdir()} == set(RUN_FILES) - not_asked_for


def test_accuracy_counted_block_by_block_is_that_of_the_whole_map(bundle: Bundle, scene: Scene, tmp_path: Path) -> None:
    summary = run_strip(bundle, SceneSource(scene, repeat=2), tmp_path, threads=1)
    assert summary.accuracy == Metrics.from_maps(np.tile(scene.labels, (2, 1)), maps(tmp_path)[0], 4)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["oa"] == summary.accuracy.oa
    assert {"oa", "aa", "kappa", "per_class", "pixels"} <= written.keys()
    assert written["confusion"] == [list(row) for row in summary.accuracy.confusion]


def test_a_strip_without_truth_has_no_accuracy(bundle: Bundle, scene: Scene, tmp_path: Path) -> None:
    summary = run_strip(bundle, SceneSource(replace(scene, labels=None)), tmp_path, threads=1)
    assert summary.accuracy is None
    assert "oa" not in summary.as_dict()


def test_lines_of_the_wrong_size_are_rejected_and_keep_their_place_in_the_map(
    tiny, bundle: Bundle, scene: Scene, tmp_path: Path
) -> None:
    summary = run_strip(bundle, Unruly(scene), tmp_path, threads=1)
    lost = scene.cube.copy()
    lost[sorted(Unruly.bad)] = -1
    np.testing.assert_array_equal(maps(tmp_path)[0], tiny.expected_map(lost, 4)[0])
    assert (summary.received, summary.classified, summary.rejected, summary.dropped) == (22, 18, 4, 0)
    assert summary.lines == 22
    good = [index for index in range(22) if index not in Unruly.bad]
    assert summary.accuracy.pixels == np.count_nonzero(scene.labels[good])


def test_maps_can_be_read_at_every_report_of_progress(tiny, bundle: Bundle, scene: Scene, tmp_path: Path) -> None:
    seen = []

    def look(received: int) -> None:
        np.testing.assert_array_equal(maps(tmp_path)[0], tiny.expected_map(scene.cube, 4)[0][:received])
        seen.append(received)

    run_strip(bundle, SceneSource(scene), tmp_path, threads=1, on_progress=look)
    assert seen == [4, 8, 12, 16, 20, 22]


def test_a_source_can_be_flown_again(bundle: Bundle, scene: Scene, tmp_path: Path) -> None:
    source = SceneSource(scene)
    both = [run_strip(bundle, source, tmp_path / name, threads=1) for name in "ab"]
    assert [summary.classified for summary in both] == [22, 22]


def test_a_paced_strip_takes_its_time_and_is_not_late(bundle: Bundle, scene: Scene, tmp_path: Path) -> None:
    summary = run_strip(bundle, SceneSource(scene, rate=100.0), tmp_path, threads=1)
    assert 0.21 <= summary.seconds < 2
    assert summary.late_lines == 0
    assert summary.rate == 100.0


def test_a_pipeline_that_cannot_keep_up_says_how_late_it_was(
    bundle: Bundle, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = OrtCpuEngine.step
    monkeypatch.setattr(OrtCpuEngine, "step", lambda *arguments: (time.sleep(0.02), step(*arguments))[1])
    summary = run_strip(bundle, SceneSource(scene, rate=1000.0), tmp_path, threads=1)
    # Blocks of 4 lines come every 4 ms and take 20: the last line waits for five steps.
    assert summary.late_lines >= 10
    assert summary.latest_ms > 60
    assert summary.latency_ms.p999 > 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_strip_classifies_what_it_took_in_and_says_interrupted(
    tiny, bundle: Bundle, scene: Scene, tmp_path: Path, number: int
) -> None:
    class Interrupted(SceneSource):
        def __iter__(self) -> Iterator[Line]:
            for line in super().__iter__():
                if line.index == 5:
                    os.kill(os.getpid(), number)
                yield line

    before = signal.getsignal(number)
    summary = run_strip(bundle, Interrupted(scene), tmp_path, threads=1)
    assert signal.getsignal(number) == before
    assert 6 <= summary.received == summary.classified == summary.lines <= 22
    assert json.loads((tmp_path / "summary.json").read_text())["interrupted"] is True
    np.testing.assert_array_equal(maps(tmp_path)[0], tiny.expected_map(scene.cube, 4)[0][: summary.lines])


def test_a_second_interruption_stops_at_once_and_still_accounts_for_every_line(
    bundle: Bundle, scene: Scene, tmp_path: Path
) -> None:
    class Impatient(SceneSource):
        def __iter__(self) -> Iterator[Line]:
            for line in super().__iter__():
                if line.index == 5:
                    waiting = signal.getsignal(signal.SIGINT)
                    os.kill(os.getpid(), signal.SIGINT)
                    while signal.getsignal(signal.SIGINT) is waiting:  # two that come at once are one
                        time.sleep(0.01)
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.3)
                yield line

    # Tests that a shell runs in the background inherit a Ctrl-C that is ignored.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_strip(bundle, Impatient(scene), tmp_path, threads=1)
    finally:
        signal.signal(signal.SIGINT, inherited)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["received"] - 4 == written["dropped"] in (1, 2)  # with the line that was on its way, or without
    assert written["classified"] == 4
    assert written["interrupted"] is True
    assert len(maps(tmp_path)[0]) == 4


def test_a_strip_flown_outside_the_main_thread_runs_to_its_end(bundle: Bundle, scene: Scene, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        summary = pool.submit(run_strip, bundle, SceneSource(scene), tmp_path, threads=1).result()
    assert summary.classified == scene.lines


def test_an_engine_that_fails_in_flight_leaves_the_blocks_before_and_counts_the_rest_as_dropped(
    tiny, bundle: Bundle, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = OrtCpuEngine.step, iter(range(100))

    def fail_on_the_third_block(self, block):
        if next(calls) == 2:
            raise HyperlineError("out of memory")
        return step(self, block)

    monkeypatch.setattr(OrtCpuEngine, "step", fail_on_the_third_block)
    with pytest.raises(HyperlineError, match="out of memory"):
        run_strip(bundle, Unruly(scene), tmp_path, threads=1)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["interrupted"] is True
    assert (written["classified"], written["rejected"]) == (5, 3)
    assert written["received"] == 5 + 3 + written["dropped"] >= 12
    assert len(maps(tmp_path)[0]) == 8


def test_a_source_that_breaks_off_counts_its_unfinished_block_as_dropped(
    bundle: Bundle, scene: Scene, tmp_path: Path
) -> None:
    class Breaking(SceneSource):
        def __iter__(self) -> Iterator[Line]:
            for line in super().__iter__():
                if line.index == 6:
                    raise HyperlineError("the cable fell off")
                yield line

    with pytest.raises(HyperlineError, match="cable"):
        run_strip(bundle, Breaking(scene), tmp_path, threads=1)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert (written["received"], written["classified"], written["dropped"]) == (6, 4, 2)


def test_lines_that_vanish_inside_are_not_passed_over(
    bundle: Bundle, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight.LineRing, "settle", lambda self: (self.received + 1, self.dropped))
    with pytest.raises(HyperlineError, match="unaccounted for: received 23, classified 22, dropped 0, rejected 0"):
        run_strip(bundle, SceneSource(scene), tmp_path, threads=1)


def test_a_folder_that_holds_a_run_is_left_alone(bundle: Bundle, scene: Scene, tmp_path: Path) -> None:
    run_strip(bundle, SceneSource(scene), tmp_path, threads=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"already holds a run.*--overwrite"):
        run_strip(bundle, SceneSource(scene), tmp_path, threads=1)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_overwrite_replaces_a_run_with_its_picture_and_touches_nothing_else(
    bundle: Bundle, scene: Scene, tmp_path: Path
) -> None:
    for name in ("classes.png", "notes.txt"):
        (tmp_path / name).write_text("old")
    run_strip(bundle, SceneSource(scene), tmp_path, threads=1, overwrite=True)
    short = replace(scene, cube=scene.cube[:5], labels=None)
    assert run_strip(bundle, SceneSource(short), tmp_path, threads=1, overwrite=True).lines == 5
    assert len(maps(tmp_path)[0]) == 5
    assert not (tmp_path / "classes.png").exists()
    assert (tmp_path / "notes.txt").read_text() == "old"


@pytest.mark.parametrize("options", [{"engine": "warp"}, {"precision": "int8"}, {"precision": "fp7"}, {"threads": 0}])
def test_a_bad_option_is_refused_before_anything_is_written(
    bundle: Bundle, scene: Scene, tmp_path: Path, options: dict
) -> None:
    with pytest.raises(InputError):
        run_strip(bundle, SceneSource(scene), tmp_path / "run", **options)
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_fails_its_self_test_writes_nothing(tiny, scene: Scene, tmp_path: Path) -> None:
    golden = tiny.golden(4)
    golden["logits"] = golden["logits"] + np.float32(1)
    bundle = tiny.write_bundle(tmp_path / "wrong.hlb", golden=golden)
    with pytest.raises(HyperlineError, match="self-test"):
        run_strip(bundle, SceneSource(scene), tmp_path / "run", threads=1)
    assert not (tmp_path / "run").exists()


def test_a_file_where_the_folder_should_be_is_refused(bundle: Bundle, scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        run_strip(bundle, SceneSource(scene), tmp_path / "run", threads=1)
    assert (tmp_path / "run").read_text() == "mine"


def test_a_sensor_with_other_bands_flies_as_its_resampled_scene_does(tiny, scene: Scene, tmp_path: Path) -> None:
    model = np.asarray(tiny.card().wavelengths_nm)
    centres = np.append(model, model[-1] + 100) - 40.0
    cube = np.random.default_rng(5).integers(-8, 9, (20, 11, 6)).astype(np.float32)
    other = Scene("other", cube, wavelengths_nm=centres)
    summary = run_strip(tiny.bundle(8), SceneSource(other), tmp_path / "strip", threads=1)
    fitted = fit_scene(other, resample_bands("other", centres, "m", model))
    run_strip(tiny.bundle(8), SceneSource(fitted), tmp_path / "fitted", threads=1)
    for name in ("classes", "confidence"):
        assert (tmp_path / f"strip/{name}.img").read_bytes() == (tmp_path / f"fitted/{name}.img").read_bytes()
    assert summary.bands == 6
    written = json.loads((tmp_path / "strip/summary.json").read_text())["resampling"]
    assert written == {"method": "linear", "bands": 6, "used": 6, "model_bands": 5, "shift_nm": 40.0}
    assert json.loads((tmp_path / "fitted/summary.json").read_text())["resampling"] is None
