"""Export refuses a graph that is not the network."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from hyperline.errors import HyperlineError
from hyperline.export import parity
from hyperline.export.excerpt import cut_excerpt
from hyperline.export.parity import check_parity
from hyperline.plugins import onnxruntime_ops
from hyperline.plugins.native import find_library
from hyperline.plugins.onnxruntime_ops import ORT_LIBRARY


def broken(model, breakage):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    breakage(copy)
    return copy.SerializeToString()


def scan_body(model):
    return next(function for function in model.functions if function.name == "SelectiveScan")


def drop_the_skip(model):
    """Leave D u out of the scan's output."""
    node = next(node for node in scan_body(model).node if node.output[0] == "y")
    node.op_type = "Sub"


def forget_the_reverse(model):
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "reverse":
                attribute.i = 0


def nudge_a_weight(model):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "stem.bias")
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[0] += 0.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def spoil_a_weight(model):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "stem.bias")
    array = np.full_like(onnx.numpy_helper.to_array(tensor), np.nan)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def cut_a_state(model):
    """Let one carried state come in and go out unused."""
    name = "state.encoder0.along_track.scan"
    for node in model.graph.node:
        node.input[:] = ["zero_state" if value == name else value for value in node.input]
    zero = onnx.numpy_helper.from_array(np.zeros((1, 16, 16), np.float32), "zero_state")
    model.graph.initializer.append(zero)


@pytest.mark.parametrize("breakage", [drop_the_skip, forget_the_reverse, nudge_a_weight, spoil_a_weight, cut_a_state])
def test_a_graph_that_is_not_the_network_is_refused(network, model, excerpt, breakage):
    with pytest.raises(HyperlineError, match="differs from the trained network: logits by up to"):
        check_parity(network, broken(model, breakage), excerpt, 8)


def rename(model, name):
    """Let what the graph gave under a name be called ``before``."""
    for node in model.graph.node:
        node.input[:] = ["before" if value == name else value for value in node.input]
        node.output[:] = ["before" if value == name else value for value in node.output]


def give_the_confidence_as_uncertainty(model):
    rename(model, "uncertainty")
    model.graph.node.append(onnx.helper.make_node("Identity", ["confidence"], ["uncertainty"], name="wrong"))


def turn_the_scales_around(model):
    """Give the experts of the coarsest scale first."""
    rename(model, "experts")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 1, 0]), "coarsest_first"))
    model.graph.node.append(onnx.helper.make_node("Gather", ["before", "coarsest_first"], ["experts"], name="wrong"))


@pytest.mark.parametrize("breakage", [give_the_confidence_as_uncertainty, turn_the_scales_around])
def test_a_graph_whose_uncertainty_or_experts_are_wrong_is_refused(network, model, excerpt, breakage):
    with pytest.raises(HyperlineError, match="differs from the trained network"):
        check_parity(network, broken(model, breakage), excerpt, 8)


def test_a_graph_without_a_body_for_our_operators_is_refused(network, model, excerpt):
    with pytest.raises(HyperlineError, match="does not run in onnxruntime"):
        check_parity(network, broken(model, lambda copy: copy.ClearField("functions")), excerpt, 8)


def test_too_few_lines_are_no_proof(network, model, scene):
    with pytest.raises(HyperlineError, match="parity needs 96 lines"):
        check_parity(network, model.SerializeToString(), cut_excerpt(scene, 16), 8)


def test_native_operators_are_checked_where_they_are_installed(network, model, excerpt, monkeypatch):
    native = find_library(ORT_LIBRARY) is not None
    both = check_parity(network, model.SerializeToString(), excerpt, 8)
    monkeypatch.setattr(onnxruntime_ops, "find_library", lambda name: None)
    bodies = check_parity(network, model.SerializeToString(), excerpt, 8)
    assert both.pixels == (2 if native else 1) * bodies.pixels


@pytest.mark.skipif(find_library(ORT_LIBRARY) is None, reason=f"{ORT_LIBRARY} is not installed")
def test_native_operators_that_are_wrong_are_not_hidden_by_bodies_that_are_right(network, model, excerpt, monkeypatch):
    taken = []

    def answer(network, session, *arguments):
        answer = stream(network, session, *arguments)
        taken.append(session)
        wrong = len({id(one) for one in taken}) == 2  # the second session is the native one
        return replace(answer, logits=answer.logits + np.float32(0.01)) if wrong else answer

    stream = parity._stream
    monkeypatch.setattr(parity, "_stream", answer)
    with pytest.raises(HyperlineError, match=r"differs from the trained network: logits by up to 0\.01"):
        check_parity(network, model.SerializeToString(), excerpt, 8)
