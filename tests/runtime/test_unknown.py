"""Pixels unlike anything trained on are a class of their own where that is asked for, and change nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import spectral

from hyperline.bundle import Bundle, Confidence, encode_golden, write_bundle
from hyperline.bundle.card import UnknownScore
from hyperline.errors import InputError
from hyperline.report.inputs import read_inputs
from hyperline.report.sections import maps
from hyperline.runtime.engines import Outputs
from hyperline.runtime.links import Links
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import RUN_FILES, RunSummary, run_strip
from hyperline.runtime.unknown import UnknownPixels, card_of_map, unknown_threshold
from hyperline.scenes import Scene, valid_pixels

RATES = (0.01, 0.1, 0.5)


def energies(tiny, scene: Scene) -> np.ndarray:
    """(line, sample), NaN where not valid."""
    valid = valid_pixels(scene.cube, -1)
    _, _, logits = tiny.reference(scene.cube.astype(np.float32), valid, 4)
    highest = logits.max(-1)
    energy = -highest - np.log(np.exp(logits - highest[..., None]).sum(-1))
    return np.where(valid, energy, np.nan)


@pytest.fixture
def told(tiny, scene: Scene, tmp_path: Path) -> Bundle:
    """A bundle whose card knows the energies of the scene."""
    energy = energies(tiny, scene)
    energy = energy[~np.isnan(energy)]
    scores = tuple(np.quantile(energy, 1 - np.array(RATES), method="higher").tolist())
    table = UnknownScore(score="energy", rates=RATES, scores=scores, pixels=energy.size)
    confidence = Confidence(temperature=1.5, held_out_pixels=9, ece_before=0.1, ece_after=0.05, unknown=table)
    card = tiny.card(4).model_copy(update={"confidence": confidence})
    return write_bundle(
        tmp_path / "told.hlb",
        {"card.json": card.to_json(), "model.onnx": tiny.model(4), **encode_golden(tiny.golden(4))},
    )


def flown(bundle: Bundle, scene: Scene, out: Path, **options) -> tuple[RunSummary, np.ndarray]:
    summary = run_strip(bundle, SceneSource(scene), out, threads=1, **options)
    return summary, np.asarray(spectral.open_image(str(out / "classes.hdr")).load())[..., 0].astype(int)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_share_asked_for_of_the_known_pixels_is_called_unknown(
    told: Bundle, tiny, scene: Scene, tmp_path: Path, rate: float
) -> None:
    _, plain = flown(told, scene, tmp_path / "plain")
    summary, labels = flown(told, scene, tmp_path / "unknown", unknown=rate)
    unknown = labels == tiny.classes + 1
    assert summary.unknown is not None
    assert summary.unknown["pixels"] == unknown.sum() > 0
    assert unknown.sum() / (plain > 0).sum() == pytest.approx(rate, abs=0.02)
    assert np.array_equal(labels[~unknown], plain[~unknown])
    energy = energies(tiny, scene)
    assert np.nanmin(energy[unknown]) > np.nanmax(energy[~unknown & (plain > 0)])
    assert json.loads((tmp_path / "unknown" / "summary.json").read_text())["unknown"]["rate"] == rate


def test_without_it_every_file_is_what_it_was_to_the_byte(told: Bundle, bundle: Bundle, scene: Scene, tmp_path) -> None:
    for name, one in (("told", told), ("before", bundle)):
        run_strip(one, SceneSource(scene), tmp_path / name, threads=1)
    images = [name for name in RUN_FILES if name.endswith((".img", ".hdr"))]
    kept = [name for name in images if (tmp_path / "told" / name).exists()]
    assert "classes.img" in kept
    for name in kept:
        assert (tmp_path / "told" / name).read_bytes() == (tmp_path / "before" / name).read_bytes()


def test_confidence_and_uncertainty_are_those_of_the_models_class(told: Bundle, scene: Scene, tmp_path: Path) -> None:
    for name, rate in (("plain", None), ("unknown", 0.5)):
        run_strip(told, SceneSource(scene), tmp_path / name, threads=1, unknown=rate)
    for name in ("confidence.img", "uncertainty.img", "experts.img", "quicklook.img"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "unknown" / name).read_bytes()


def test_the_map_names_the_unknown_after_the_models_classes_in_grey(told: Bundle, scene: Scene, tmp_path: Path) -> None:
    _, plain = flown(told, scene, tmp_path / "plain")
    flown(told, scene, tmp_path / "unknown", unknown=0.5)
    before, after = (
        spectral.io.envi.read_envi_header(str(tmp_path / name / "classes.hdr")) for name in ("plain", "unknown")
    )
    assert after["class names"] == [*before["class names"], "unknown"]
    assert after["classes"] == "6"
    assert after["class lookup"] == [*before["class lookup"], "150", "150", "150"]
    spectra = json.loads((tmp_path / "unknown" / "spectra.json").read_text())["classes"]
    assert spectra[-1]["name"] == "unknown"
    assert plain.max() <= 4


def test_the_report_shows_the_unknown_and_judges_the_models_classes(told: Bundle, scene: Scene, tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="needs pillow, of hyperline[report]")
    _, labels = flown(told, replace(scene, labels=None), tmp_path / "run", unknown=0.5)
    truth = tmp_path / "truth.npy"
    np.save(truth, scene.labels)
    inputs = read_inputs(tmp_path / "run", bundle=told.path, truth=str(truth))
    assert inputs.class_names == told.card.class_names
    drawn = maps.make(inputs)
    assert drawn is not None
    assert (drawn.legend[-1].name, drawn.legend[-1].colour) == ("unknown", "#969696")
    assert inputs.scored is not None and scene.labels is not None
    assert sum(row[-1] for row in inputs.scored.confusion) == ((labels == 5) | (labels == 0))[scene.labels > 0].sum()


def test_an_unknown_pixel_of_the_truth_counts_as_one_without_a_class(told: Bundle, scene: Scene, tmp_path) -> None:
    summary, labels = flown(told, scene, tmp_path, unknown=0.5)
    assert summary.accuracy is not None and scene.labels is not None
    labelled = scene.labels > 0
    no_class = sum(row[-1] for row in summary.accuracy.confusion)
    assert no_class == ((labels == 5) | (labels == 0))[labelled].sum()


def test_the_unknown_can_make_an_event(told: Bundle, scene: Scene, tmp_path: Path) -> None:
    links = [f"jsonl:{tmp_path / 'events.jsonl'}"]
    _, labels = flown(
        told,
        scene,
        tmp_path / "run",
        unknown=0.5,
        make_links=lambda: Links(links, card_of_map(told.card), scene.samples, events=["unknown:0:1"]),
    )
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert {event["class"] for event in events} == {told.card.class_names.index("Stone {steel}") + 2}
    assert sum(event["pixels"] for event in events) == (labels == 5).sum()


def test_a_run_goes_on_with_the_same_rate_alone(told: Bundle, scene: Scene, tmp_path: Path) -> None:
    whole, labels = flown(told, scene, tmp_path / "whole", unknown=0.5)
    half = replace(scene, cube=scene.cube[:12], labels=scene.labels[:12])
    flown(told, half, tmp_path / "run", unknown=0.5)
    with pytest.raises(InputError, match=r"flown with unknown 0\.5, not None"):
        flown(told, scene, tmp_path / "run", resume=True)
    summary, resumed = flown(told, scene, tmp_path / "run", resume=True, unknown=0.5)
    assert np.array_equal(resumed, labels)
    assert summary.unknown == whole.unknown


def test_a_bundle_that_cannot_tell_is_refused(told: Bundle, bundle: Bundle, scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not say from which score on a pixel is unknown"):
        flown(bundle, scene, tmp_path / "run", unknown=0.1)
    for rate in (0.001, 0.6):
        with pytest.raises(InputError, match=f"knows the score of 0.01 to 0.5 of the known pixels.*{rate} is outside"):
            unknown_threshold(told.card, rate)
    full = told.card.model_copy(update={"class_names": tuple(map(str, range(255)))})
    with pytest.raises(InputError, match="leaves no number for the unknown"):
        unknown_threshold(full, 0.1)
    with pytest.raises(InputError, match="a class 'unknown' of its own"):
        unknown_threshold(told.card.model_copy(update={"class_names": ("a", "Unknown")}), 0.1)
    assert not (tmp_path / "run").exists()


def test_the_answer_of_the_engine_is_left_as_it_is_and_odd_numbers_are_survived(told: Bundle) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(4, 8, 4)).astype(np.float32)
    labels = (logits.argmax(-1) + 1).astype(np.uint8)
    labels[0] = 0
    confidence = generator.uniform(size=(4, 8)).astype(np.float32) * (labels > 0)
    logits[0, 0], logits[1, 1], confidence[2, 2] = np.nan, np.inf, np.nan
    outputs = Outputs(labels.copy(), confidence, logits)
    unknown = UnknownPixels(told.card, 0.1, 8)
    unknown.threshold = -np.inf
    marked, pixels = unknown.mark(outputs)
    assert np.array_equal(outputs.labels, labels)
    assert not marked.labels[0].any()
    assert pixels == (marked.labels == 5).sum()
    assert np.array_equal(unknown.known(marked.labels)[marked.labels < 5], labels[marked.labels < 5])
