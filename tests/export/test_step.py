"""The exported graph: its contract, and that it is the network."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hyperline.errors import InputError
from hyperline.export.arithmetic import step_arithmetic
from hyperline.export.parity import check_parity, classify
from hyperline.export.step import export_step, state_tensors
from hyperline.plugins import DOMAIN, FUSED_DOMAIN
from hyperline.plugins.onnx_functions import OPSET
from hyperline.train.ops import TorchOps
from hyperline.train.ugcl import uncertainty


@pytest.fixture(scope="module")
def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def random_states(network, samples, seed=0):
    generator = np.random.default_rng(seed)
    return {
        state.input: generator.standard_normal(state.shape_for(samples, 8)).astype(np.float32)
        for state in state_tensors(network)
    }


def network_state(states):
    return {name.removeprefix("state."): torch.from_numpy(array) for name, array in states.items()}


def run(session, lines, valid, states):
    names = [output.name for output in session.get_outputs()]
    outputs = session.run(names, {"lines": lines, "valid": valid, **states})
    return dict(zip(names, outputs, strict=True))


def test_the_graph_equals_the_network_over_blocks_of_8_lines(network, model, excerpt):
    parity = check_parity(network, model.SerializeToString(), excerpt, 8)
    assert parity.equal_labels == 1.0
    assert parity.pixels > 1000


@pytest.mark.parametrize("block_lines", [16, 32])
def test_the_graph_equals_the_network_over_blocks_of(block_lines, one_scale_network, excerpt):
    model = export_step(one_scale_network, block_lines, ("a", "b", "c"))
    parity = check_parity(one_scale_network, model.SerializeToString(), excerpt, block_lines)
    assert parity.equal_labels == 1.0


@pytest.mark.parametrize("samples", [8, 16, 40])
def test_one_graph_takes_any_multiple_of_8_samples(network, session, excerpt, samples):
    lines, valid = excerpt.lines[:8, :samples], excerpt.valid[:8, :samples]
    states = random_states(network, samples)
    outputs = run(session, lines, valid, states)
    expected = classify(network, lines, valid, 8, network_state(states))
    np.testing.assert_allclose(outputs["logits"], expected.logits, atol=1e-4)


def test_states_given_go_into_the_answer_as_they_do_in_the_network(network, session, excerpt):
    states = random_states(network, 48)
    outputs = run(session, excerpt.lines[8:16], excerpt.valid[8:16], states)
    expected = classify(network, excerpt.lines[8:16], excerpt.valid[8:16], 8, network_state(states))
    from_zero = classify(network, excerpt.lines[8:16], excerpt.valid[8:16], 8)
    assert np.abs(expected.logits - from_zero.logits).max() > 0.01
    np.testing.assert_allclose(outputs["logits"], expected.logits, atol=1e-4)
    for name, array in expected.state.items():
        np.testing.assert_allclose(outputs[f"next_state.{name}"], array, rtol=1e-4, atol=1e-4)


def test_labels_and_confidence_are_those_of_the_logits_and_zero_where_invalid(network, session, excerpt):
    valid = excerpt.valid[:8]
    outputs = run(session, excerpt.lines[:8], valid, random_states(network, 48))
    softmax = torch.softmax(torch.from_numpy(outputs["logits"]), -1).numpy()
    assert outputs["labels"].dtype == np.uint8
    assert not valid.all()
    np.testing.assert_array_equal(outputs["labels"], np.where(valid, softmax.argmax(-1) + 1, 0))
    np.testing.assert_allclose(outputs["confidence"], np.where(valid, softmax.max(-1), 0), rtol=1e-6)
    entropy = uncertainty(torch.from_numpy(outputs["logits"])).numpy()
    np.testing.assert_allclose(outputs["uncertainty"], np.where(valid, entropy, 0), rtol=1e-5, atol=1e-6)
    assert np.ptp(outputs["uncertainty"][valid]) > 0.1


def test_the_experts_weights_are_those_of_every_scales_router_the_finest_first(network, session, excerpt):
    outputs = run(session, excerpt.lines[:8], excerpt.valid[:8], random_states(network, 48))
    expected = classify(network, excerpt.lines[:8], excerpt.valid[:8], 8).experts[0]
    np.testing.assert_allclose(outputs["experts"], expected, atol=1e-5)
    assert outputs["experts"].shape == (3, 4)
    np.testing.assert_array_equal((outputs["experts"] > 0).sum(axis=1), network.config.top_k)
    assert len(np.unique(outputs["experts"].round(6), axis=0)) == 3  # no scale says what another says


def test_a_lost_block_holds_the_scan_state_to_the_bit(network, session, excerpt):
    states = random_states(network, 48)
    outputs = run(session, excerpt.lines[:8], np.zeros_like(excerpt.valid[:8]), states)
    scans = [state for state in state_tensors(network) if state.input.endswith(".scan")]
    assert len(scans) == 3
    for state in scans:
        np.testing.assert_array_equal(outputs[state.output], states[state.input])
    assert not outputs["labels"].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_stands_in_an_invalid_pixel_changes_nothing(network, session, excerpt, value):
    states = random_states(network, 48)
    valid = excerpt.valid[:8]
    spoilt = np.where(valid[..., None], excerpt.lines[:8], np.float32(value))
    clean, dirty = (run(session, lines, valid, states) for lines in (excerpt.lines[:8], spoilt))
    for name in clean:
        np.testing.assert_array_equal(dirty[name], clean[name], err_msg=name)


def test_two_runs_of_one_input_are_equal_to_the_bit(network, session, excerpt):
    states = random_states(network, 48)
    first, second = (run(session, excerpt.lines[:8], excerpt.valid[:8], states) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_every_operator_of_ours_has_a_body_and_all_others_are_standard(model):
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    bodies = {(function.domain, function.name) for function in model.functions}
    assert {(node.domain, node.op_type) for node in nodes if node.domain} == bodies
    assert {name for domain, name in bodies if domain == DOMAIN} == {"SelectiveScan", "ExpertGate"}
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {
        ("", OPSET),
        (DOMAIN, 1),
        (FUSED_DOMAIN, 1),
    }


def test_inputs_and_outputs_follow_the_contract(network, model):
    def shapes(values):
        return {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
        }

    inputs, outputs = shapes(model.graph.input), shapes(model.graph.output)
    states = state_tensors(network)
    assert list(inputs) == ["lines", "valid", *(state.input for state in states)]
    fixed = ["labels", "confidence", "logits", "uncertainty", "experts"]
    assert list(outputs) == [*fixed, *(state.output for state in states)]
    samples = "8*eighth_samples"
    assert inputs["lines"] == [8, samples, 24]
    assert inputs["valid"] == outputs["labels"] == outputs["confidence"] == outputs["uncertainty"] == [8, samples]
    assert outputs["logits"] == [8, samples, 3]
    assert outputs["experts"] == [3, 4]
    for state in states:
        assert inputs[state.input] == outputs[state.output]
        fixed = [size for axis, size in enumerate(inputs[state.input]) if axis != state.sample_axis]
        assert fixed == [size for axis, size in enumerate(state.shape) if axis != state.sample_axis]


def test_metadata_says_what_a_bare_file_needs(network, model):
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    arithmetic = step_arithmetic(network, 8)
    assert metadata == {
        "hyperline.multiply_adds": str(arithmetic.multiply_adds),
        "hyperline.state_updates": str(arithmetic.state_updates),
        "hyperline.ops_version": "1",
        "hyperline.block_lines": "8",
        "hyperline.bands": "24",
        "hyperline.sample_multiple": "8",
        "hyperline.class_names": '["corn", "Wald", "水"]',
    }


def test_nodes_are_named_after_their_layer_each_once(model):
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert "encoder.2.experts.along_track/ProjectedScan" in names
    assert "refine.0.first/Conv" in names


def test_the_file_does_not_tell_of_the_machine_that_wrote_it(model):
    data = model.SerializeToString()
    for folder in (Path(torch.__file__).parent, Path(__file__).parents[2], Path.home()):
        assert str(folder).encode() not in data
    assert b"site-packages" not in data


def test_a_last_state_that_nobody_reads_is_not_computed(network, model):
    scans = [node for node in model.graph.node if node.op_type == "ProjectedScan"]
    carried = [node.output[1] for node in scans if node.output[1]]
    assert len(scans) == 18
    assert sorted(carried) == sorted(state.output for state in state_tensors(network) if state.output.endswith(".scan"))


def test_the_weights_that_only_train_are_left_out(model):
    # the coarser heads supervise; the finest one answers
    names = {tensor.name for tensor in model.graph.initializer}
    assert any(name.startswith("heads.0.") for name in names)
    assert not any(name.startswith(("heads.1.", "heads.2.", "mnf_")) for name in names)


def test_exporting_leaves_the_network_as_it_was(network, model):
    assert isinstance(network.encoder[0].ops, TorchOps)
    assert network.encoder[0].experts["along_track"].ops is network.encoder[0].ops


@pytest.mark.parametrize("block_lines", [-8, 0, 4, 12])
def test_a_block_length_that_cannot_be_halved_is_refused(network, block_lines):
    with pytest.raises(InputError, match="use a multiple of 8"):
        export_step(network, block_lines, ("a", "b", "c"))


def test_the_model_passes_the_checker(model):
    onnx.checker.check_model(model, full_check=True)
