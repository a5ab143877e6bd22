"""Sections: the figures that they show are those of the files."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.metrics import Metrics
from hyperline.report.documents import Accuracy
from hyperline.report.inputs import Inputs, read_inputs
from hyperline.report.sections import (
    accounting,
    accuracy,
    environment,
    experts,
    latency,
    maps,
    precisions,
    provenance,
    spectra,
    speed,
)
from hyperline.report.sections.accuracy import judge
from hyperline.splits import random_split


def test_the_legend_counts_every_pixel_of_the_strip(strips) -> None:
    folder = strips.make(lines=900, samples=12)
    shown = maps.make(read_inputs(folder))
    assert shown is not None and shown.layout.line_step == 1
    labels = np.fromfile(folder / "classes.img", np.uint8)
    counted = [int(entry.pixels.replace(",", "")) for entry in shown.legend]
    assert counted == np.bincount(labels, minlength=4).tolist()
    assert [entry.name for entry in shown.legend] == ["no class", *strips.names]


def test_maps_stand_side_by_side_in_one_order_and_those_that_are_missing_are_left_out(strips, tmp_path) -> None:
    keys = ["composite", "classes", "truth", "confidence", "uncertainty"]
    truth = tmp_path / "truth.npy"
    np.save(truth, np.ones((40, 24), np.uint8))
    shown = maps.make(read_inputs(strips.make(), truth=str(truth)))
    assert shown is not None and [panel.key for panel in shown.segments[0].panels] == keys and not shown.lacking
    old = maps.make(read_inputs(strips.make("old", only_maps_of_old=True)))
    assert old is not None and [panel.key for panel in old.segments[0].panels] == ["classes", "confidence"]
    assert "--truth" in old.lacking[0]


def test_the_composite_is_spread_over_what_the_strip_shows_and_holes_stay_black(strips) -> None:
    seen = np.linspace(60, 120, 300).astype(np.uint8).reshape(10, 10, 3)
    seen[0, 0] = 0
    spread = maps.stretched(seen)
    assert spread[0, 0].tolist() == [0, 0, 0]
    assert spread[spread > 0].min() == 1 and spread.max() == 255
    assert (np.diff(spread.reshape(-1, 3)[1:].astype(int), axis=0) >= 0).all()
    assert not maps.stretched(np.zeros((3, 3, 3), np.uint8)).any()


def test_segments_cover_a_long_strip_and_say_their_lines(strips) -> None:
    shown = maps.make(read_inputs(strips.make(lines=20_001, samples=30)))
    assert shown is not None and shown.layout.sideways and len(shown.segments) > 1
    edges = [(segment.first_line, segment.last_line) for segment in shown.segments]
    assert edges[0][0] == 0 and edges[-1][1] == 20_000
    assert all(one[1] + 1 == following[0] for one, following in itertools.pairwise(edges))


def test_confusion_rows_add_up_and_the_largest_confusion_comes_first() -> None:
    truth = np.repeat([1, 2, 3], [50, 30, 20])
    predicted = truth.copy()
    predicted[:7] = 2
    predicted[50:53] = 0
    metrics = Metrics.from_maps(truth, predicted, 3)
    shown = judge("x", "y", Accuracy.model_validate(metrics.as_dict()), ("corn", "woods", "stone"))
    assert shown.oa == "90.00 %" and shown.pixels == "100"
    assert shown.confusions[0] == "corn taken for woods: 7 pixels, 14.0 % of the class"
    assert shown.confusions[1] == "woods taken for no class: 3 pixels, 10.0 % of the class"
    assert len(shown.confusions) == 2
    assert [row.recall for row in shown.rows] == ["86.0 %", "90.0 %", "100.0 %"]
    assert [row.precision for row in shown.rows] == ["100.0 %", "79.4 %", "100.0 %"]
    for row in shown.rows:
        assert sum(int(cell.pixels or 0) for cell in row.cells) == int(row.pixels)
    assert [cell.shade for cell in shown.rows[0].cells] == [8, 2, 0, 0]
    assert [cell.right for cell in shown.rows[1].cells] == [False, True, False, False]


def test_of_many_classes_no_matrix_is_drawn_but_its_confusions_are_said() -> None:
    classes = 200
    confusion = np.eye(classes, classes + 1, dtype=int) * 10
    confusion[0, 199] = 4
    held = Metrics.from_confusion(confusion)
    shown = judge("x", "y", Accuracy.model_validate(held.as_dict()), tuple(f"class {n}" for n in range(1, 201)))
    assert shown.too_many and not shown.numbers and not any(row.cells for row in shown.rows)
    assert shown.confusions == ("class 1 taken for class 200: 4 pixels, 28.6 % of the class",)


def test_a_strip_with_a_truth_but_no_accuracy_of_its_own_is_scored(strips, tmp_path) -> None:
    folder = strips.make()
    labels = np.fromfile(folder / "classes.img", np.uint8).reshape(40, 24)
    truth = np.where(labels > 0, labels, 1).astype(np.uint8)
    np.save(tmp_path / "truth.npy", truth)
    shown = accuracy.make(read_inputs(folder, truth=str(tmp_path / "truth.npy")))
    assert shown is not None and "trained on or not" in shown[0].setting
    assert shown[0].oa == f"{100 * (labels > 0).mean():.2f} %"


def test_pixels_that_the_model_was_trained_on_do_not_judge_the_strip(strips, make_bundle, tmp_path) -> None:
    folder = strips.make()
    truth = np.random.default_rng(7).integers(0, 4, (40, 24)).astype(np.uint8)
    np.save(tmp_path / "truth.npy", truth)
    split = random_split(truth, 15, seed=3)
    bundle = make_bundle(training={"split": split.as_dict()})
    inputs = read_inputs(folder, bundle=bundle, truth=str(tmp_path / "truth.npy"))
    assert inputs.truth is not None and inputs.truth.own and inputs.scored is not None
    assert inputs.scored.pixels == (split.test > 0).sum() == (truth > 0).sum() - 45
    shown = accuracy.make(inputs)
    assert shown is not None and "labelled pixels not trained on" in shown[0].setting
    other = np.where(truth == 1, 2, truth).astype(np.uint8)
    np.save(tmp_path / "other.npy", other)
    held = read_inputs(folder, bundle=bundle, truth=str(tmp_path / "other.npy")).truth
    assert held is not None and not held.own and (held.judged == other).all()


def test_a_truth_played_several_times_is_laid_along_the_strip_and_others_are_refused(strips, tmp_path) -> None:
    folder = strips.make()
    for name, shape in (("half", (20, 24)), ("longer", (50, 24)), ("narrow", (40, 23)), ("third", (13, 24))):
        np.save(tmp_path / f"{name}.npy", np.ones(shape, np.uint8))
    for name in ("half", "longer"):
        held = read_inputs(folder, truth=str(tmp_path / f"{name}.npy")).truth
        assert held is not None and held.labels.shape == (40, 24)
    for name in ("narrow", "third"):
        with pytest.raises(InputError, match="they must be as wide as the strip"):
            read_inputs(folder, truth=str(tmp_path / f"{name}.npy"))
    np.save(tmp_path / "more.npy", np.full((40, 24), 4, np.uint8))
    with pytest.raises(InputError, match="class 4, the strip has 3"):
        read_inputs(folder, truth=str(tmp_path / "more.npy"))


def test_experts_are_named_in_the_order_of_the_router() -> None:
    torch = pytest.importorskip("torch")
    assert torch
    from hyperline.train.ssm import Direction

    named = [name for name, _ in experts.EXPERTS]
    for direction, name in zip(Direction, named, strict=True):
        assert name.startswith(direction.value.split("_reverse")[0].replace("_", "-"))
        assert ("←" in name or "against" in name) == direction.reverse


def test_the_routing_says_how_many_blocks_an_expert_served(strips) -> None:
    folder = strips.make()
    weights = np.zeros((5, 4, 3), "<f4")
    weights[:4, 1, 0], weights[:2, 3, 0] = 0.5, 0.25  # the last block was not classified
    strips.write_map(folder, "experts", weights)
    shown = experts.make(read_inputs(folder))
    assert shown is not None and "5 blocks" in shown.caption
    finest = shown.scales[0].experts
    assert [one.served for one in finest] == ["0.0 %", "100.0 %", "0.0 %", "50.0 %"]
    assert [one.weight for one in finest] == ["–", "0.50", "–", "0.25"]
    assert [one.served for one in shown.scales[1].experts] == ["–"] * 4


def test_spectra_are_of_the_classes_that_were_seen(strips) -> None:
    shown = spectra.make(read_inputs(strips.make()))
    assert shown is not None
    assert [one.chart.title for one in shown.charts] == ["corn", "woods"] and shown.unseen == ("stone",)
    assert shown.charts[0].chart.x.low == 450 and shown.charts[0].chart.x.high == 850


def test_a_spectrum_is_broken_where_bands_are_left_out_and_sorted_where_spectrometers_overlap(strips) -> None:
    folder = strips.make()
    held = strips.spectra()
    held["wavelengths_nm"] = [450.0, 470.0, 460.0, 480.0, 900.0]
    (folder / "spectra.json").write_text(json.dumps(held))
    shown = spectra.make(read_inputs(folder))
    assert shown is not None
    curve = shown.charts[0].chart.paths[1].d
    assert curve.count("M") == 2
    across = [float(part.split()[0]) for part in curve.replace("M", "L").split("L")[1:]]
    assert across == sorted(across)


def test_the_deadline_is_the_time_in_which_a_block_arrives(strips) -> None:
    shown = latency.make(read_inputs(strips.make()))
    assert shown is not None and "every 24.2 ms" in shown.deadline and "finished later: 2." in shown.deadline
    assert [rule.at for chart in shown.charts for rule in chart.rules if rule.kind == "deadline"] == [
        pytest.approx(8e3 / 330)
    ] * 2
    unpaced = latency.make(read_inputs(strips.make("unpaced", rate=None)))
    assert unpaced is not None and "no deadline" in unpaced.deadline
    old = latency.make(read_inputs(strips.make("old", only_maps_of_old=True)))
    assert old is not None and not old.charts and old.lacking


def test_the_accounting_is_an_identity_that_can_fail(strips) -> None:
    good = accounting.make(read_inputs(strips.make()))
    assert good is not None and good.balanced
    assert [fate.words for fate in good.fates if not fate.good] == [
        "blocks that the model finished after their deadline"
    ]
    counters = {"lost": 1, "missed": 0}
    bad = accounting.make(read_inputs(strips.make("bad", dropped=3, counters=counters, interrupted=True)))
    assert bad is not None and not bad.balanced and "interrupted" in bad.state
    assert [(fate.words, fate.count) for fate in bad.fates] == [
        ("lines that never arrived, missing between others", "1")
    ]


def test_without_a_sensor_the_bench_says_so_and_with_one_it_has_energy(bench, tmp_path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(bench))
    shown = speed.make(read_inputs(benches=[path]))
    assert shown is not None and not shown[0].has_energy and shown[0].power[0].startswith("No power sensor")
    assert "1.10 times its arithmetic" in shown[0].points[0].floor
    bench["energy"] = {"source": "ina3221", "joules_per_line": 0.0123, "joules_per_pixel": 1.2e-5, "watts": 9.5,
                       "idle_watts": 4.25}  # fmt: skip
    path.write_text(json.dumps(bench))
    shown = speed.make(read_inputs(benches=[path]))
    assert shown is not None and "by ina3221" in shown[0].power[0]
    assert shown[0].points[0].rows[0].energy == ("12.3 mJ", "12.0 µJ", "–", "9.50 W, 4.25 W idle")


def test_the_runs_of_a_sweep_stand_under_their_points(bench, tmp_path) -> None:
    one = {key: value for key, value in bench.items() if key not in ("schema", "environment", "runs", "energy")}
    wide = one | {"samples": 2048}
    bench["runs"] = [
        one | {"path": "step", "rate": None},
        one | {"path": "strip", "rate": 330.0, "missed": 4, "memory": {"peak_bytes": 200 << 20}},
        wide | {"path": "step", "rate": None},
    ]
    bench["floors"] = [{"ms": 7.0, "ratio": 1.2}, None]
    bench["profile"] = {"blocks": 60, "operators": [{"name": "Conv", "nodes": 9, "ms": 2.5, "share": 0.31}]}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(bench))
    shown = speed.make(read_inputs(benches=[path]))
    assert shown is not None
    narrow, other = shown[0].points
    assert [row.how for row in narrow.rows] == ["engine alone, flat out", "source to maps, at 330 lines/s"]
    assert [(row.missed, row.memory) for row in narrow.rows] == [("–", "–"), ("4", "200 MiB")]
    assert "1.20 times" in narrow.floor and not other.floor
    assert "2,048 samples" in other.title
    assert shown[0].operators == (("Conv", "9", "2.50", "31.0 %"),)


def test_the_environment_is_laid_out_with_dotted_names(bench, tmp_path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(bench))
    shown = environment.make(read_inputs(benches=[path]))
    assert shown is not None
    assert shown[0].rows == (("hyperline", "0.1.0"), ("cpu · model", "a CPU"), ("cpu · usable", "2"), ("sensors", "–"))


def test_nothing_gives_no_section() -> None:
    empty = Inputs()
    for section in (maps, accuracy, spectra, experts, accounting, latency, speed, environment):
        assert section.make(empty) is None


def test_precisions_stand_beside_float32_on_the_same_pixels(make_bundle, calibration) -> None:
    path = make_bundle(**{"calibration/int8.json": json.dumps(calibration).encode()})
    shown = precisions.make(read_inputs(bundle=path))
    assert shown is not None and [row.name for row in shown.card] == ["streamed in blocks of 8 lines"]
    table = shown.tables[0]
    assert [(row.name, row.oa, row.size, row.speed) for row in table.rows] == [
        ("float32", "91.00 %", "2,600 kB", "966 lines/s"),
        ("INT8", "90.00 %", "900 kB (35 %)", "1,450 lines/s"),
    ]
    assert "lines 64 to 127" in table.setting and "(0.3 % allowed)" in table.verdict
    assert [(one.name, one.change) for one in table.changes] == [("corn", "-5.00")]


def test_the_provenance_says_signature_and_another_bundle(strips, make_bundle) -> None:
    path = make_bundle()
    inputs = read_inputs(strips.make(), bundle=path)
    shown = provenance.make(inputs, "hyperline report", "now")
    assert ("signature", "not signed") in shown.bundle
    assert len(shown.notes) == 1 and "ab" * 32 in shown.notes[0]
    assert [(one.what, one.sha256 is None) for one in shown.sources] == [("strip", True), ("bundle", False)]
    same = read_inputs(strips.make("same", bundle_sha256=inputs.bundle.sha256 if inputs.bundle else ""), bundle=path)
    assert not same.notes
