"""From a run folder to a bundle, or to nothing at all."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from hyperline.bundle import read_bundle
from hyperline.cli.main import hyperline
from hyperline.errors import HyperlineError, InputError
from hyperline.export import bundle as export_bundle
from hyperline.export.bundle import export_run
from hyperline.export.step import state_tensors


@pytest.fixture
def exported(monkeypatch, model):
    """Spare the tests of what surrounds the graph the half minute of exporting it."""
    monkeypatch.setattr(export_bundle, "export_step", lambda *_: model)
    return model


def test_the_command_writes_a_bundle_and_two_exports_are_equal_to_the_byte(one_scale_run_dir, tmp_path):
    bundles = []
    for out in (tmp_path / "first.hlb", tmp_path / "second.hlb"):
        arguments = ["export", str(one_scale_run_dir), "--out", str(out), "--json"]
        result = CliRunner().invoke(hyperline, arguments)
        assert result.exception is None, result.output
        report = json.loads(result.stdout)
        bundles.append(read_bundle(out))
        assert report["sha256"] == bundles[-1].sha256
        assert report["parity"] == bundles[-1].card.parity
    assert bundles[0].model() == bundles[1].model()


def test_the_card_says_what_the_runtime_must_know(run_dir, tmp_path, network, exported):
    card = read_bundle(export_run(run_dir, tmp_path / "made-up.hlb")).card
    assert (card.name, card.block_lines, card.bands, card.sample_multiple) == ("made-up", 8, 24, 8)
    assert card.class_names == ("corn", "Wald", "水")
    assert card.nodata == -1
    assert card.states == state_tensors(network)
    assert card.offline is not None and card.offline.per_class == (0.5, None, 0.5)
    assert card.streamed is not None
    assert card.training["scene"]["sha256"] == "0" * 64
    assert card.training["split"]["labels_per_class"] == 15
    assert card.parity["max_logit_difference"] <= 1e-4 and card.parity["equal_labels"] >= 0.9999


def test_accuracy_streamed_with_another_block_length_is_not_claimed(run_dir, tmp_path, exported):
    record = json.loads((run_dir / "run.json").read_text())
    record["streamed"]["block_lines"] = 16
    (run_dir / "run.json").write_text(json.dumps(record))
    assert read_bundle(export_run(run_dir, tmp_path / "made-up.hlb")).card.streamed is None


def test_the_golden_block_is_what_the_graph_says_from_zero_state(run_dir, tmp_path, exported):
    bundle = read_bundle(export_run(run_dir, tmp_path / "made-up.hlb"))
    golden = bundle.golden()
    session = onnxruntime.InferenceSession(bundle.model(), providers=["CPUExecutionProvider"])
    samples = golden["valid"].shape[1]
    states = {s.input: np.zeros(s.shape_for(samples, 8), np.float32) for s in bundle.card.states}
    feed = {"lines": golden["lines"], "valid": golden["valid"], **states}
    labels, logits = session.run(["labels", "logits"], feed)
    assert len(np.unique(golden["labels"][golden["valid"]])) > 1
    np.testing.assert_array_equal(labels, golden["labels"])
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)


def test_a_graph_that_differs_leaves_no_file_and_an_earlier_bundle_untouched(run_dir, tmp_path, model, monkeypatch):
    def export_wrongly(*_):
        wrong = onnx.ModelProto()
        wrong.CopyFrom(model)
        tensor = next(tensor for tensor in wrong.graph.initializer if tensor.name == "stem.bias")
        array = onnx.numpy_helper.to_array(tensor).copy()
        array[0] += 0.1
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        return wrong

    monkeypatch.setattr(export_bundle, "export_step", export_wrongly)
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(HyperlineError, match="no bundle was written"):
        export_run(run_dir, folder / "new.hlb")
    assert list(folder.iterdir()) == []
    (folder / "old.hlb").write_bytes(b"earlier")
    with pytest.raises(HyperlineError, match="no bundle was written"):
        export_run(run_dir, folder / "old.hlb")
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("old.hlb", b"earlier")]


def test_real_lines_can_come_from_a_scene(run_dir, tmp_path, scene, exported):
    (run_dir / "excerpt.npz").unlink()
    with pytest.raises(InputError, match=r"excerpt.npz does not exist.*--lines SCENE"):
        export_run(run_dir, tmp_path / "made-up.hlb")
    np.savez(tmp_path / "scene.npz", cube=scene.cube, nodata=-1)
    out = tmp_path / "made-up.hlb"
    arguments = ["export", str(run_dir), "--out", str(out), "--lines", str(tmp_path / "scene.npz")]
    result = CliRunner().invoke(hyperline, arguments)
    assert result.exception is None, result.output
    assert read_bundle(out).golden()["valid"].shape == (8, 48)


def test_lines_of_another_sensor_are_refused(run_dir, tmp_path, scene, exported):
    with pytest.raises(InputError, match="made-up has 20 bands, the model run takes 24"):
        export_run(run_dir, tmp_path / "x.hlb", 8, replace(scene, cube=scene.cube[..., :20]))


@pytest.mark.parametrize("out", ["nowhere/x.hlb", "."])
def test_a_place_that_cannot_be_written_is_said_at_once(run_dir, tmp_path, out, monkeypatch):
    def too_late(*_):
        raise AssertionError("exported before the path was looked at")

    monkeypatch.setattr(export_bundle, "export_step", too_late)
    with pytest.raises(InputError, match="cannot be written"):
        export_run(run_dir, tmp_path / out)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no run folder"):
        export_run(tmp_path, tmp_path / "x.hlb")


def test_a_block_length_that_is_no_multiple_of_8_is_refused(run_dir, tmp_path):
    with pytest.raises(InputError, match="use a multiple of 8"):
        export_run(run_dir, tmp_path / "x.hlb", 12)
