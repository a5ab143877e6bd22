"""The INT8 graph: what stands in it, that it runs, and that runtimes can take its bodies."""

import numpy as np
import onnx
import onnx.inliner
import pytest

from hyperline.calibration.costs import layer_costs
from hyperline.calibration.equalise import smooth, smoothing_factors
from hyperline.calibration.int8 import int8_model, quantize_weight
from hyperline.calibration.layers import After, Kind, find_layers
from hyperline.calibration.lines import read_lines
from hyperline.calibration.stream import open_session, stream
from hyperline.plugins import QUANTIZED_DOMAIN
from hyperline.plugins.onnx_functions import OPSET


@pytest.fixture
def layers(model):
    return find_layers(model)[0]


@pytest.fixture
def ranges(model, bundle, scene, layers):
    largest = {}

    def look(index, tensors):
        for layer in layers:
            seen = float(np.abs(tensors[layer.inputs[-1]]).max())
            largest[layer.name] = max(seen, largest.get(layer.name, 0.0))

    stream(model, bundle.card, read_lines(scene, bundle.card), 1, [layer.inputs[-1] for layer in layers], look)
    return largest


def test_every_product_is_found_and_those_that_stay_say_why(model, layers):
    floats = find_layers(model)[1]
    products = [node for node in model.graph.node if node.op_type in ("CentredLinear", "Gemm", "MatMul", "Conv")]
    assert len(layers) + len(floats) == len(products)
    names = {layer.name for layer in layers}
    assert {"encoder.0.widen", "encoder.0.narrow", "refine.0.first", "refine.0.second", "heads.0.1"} <= names
    reasons = {one.name: one.reason for one in floats}
    assert "spectra" in reasons["CentredLinear"] and "spectra" in reasons["stem/Gemm"]
    assert "experts" in reasons["encoder.0/MatMul"] and "depthwise" in reasons["encoder.0/Conv"]
    assert any("scan" in reason for reason in reasons.values())
    after = {layer.name: layer.after for layer in layers if layer.after is not After.AS_IS}
    assert after == {
        "encoder.0.around": After.ADD,
        "encoder.0.spectral.v": After.SILU,
        "encoder.0.z": After.SILU,
        "encoder.0.widen": After.GELU,
        "encoder.0.narrow": After.ADD,
        "refine.0.first": After.RELU,
        "refine.0.second": After.ADD,
    }
    assert {layer.name for layer in layers if layer.kind is Kind.CONVOLUTION} == {"refine.0.first", "refine.0.second"}
    names = [name for layer in layers for name in layer.nodes]
    assert len(names) == len(set(names))


def add_model(change=None):
    """Two layers whose results are added: rows (R, 3) each."""
    make, floats = onnx.helper, onnx.TensorProto.FLOAT
    weights = {"weight": np.ones((3, 3), np.float32), "bias": np.ones(3, np.float32)}
    nodes = [
        make.make_node("Relu", ["lines"], ["x"], "Relu"),
        make.make_node("Gemm", ["x", "weight", "bias"], ["a"], "one/Gemm"),
        make.make_node("Gemm", ["x", "weight", "bias"], ["b"], "two/Gemm"),
        make.make_node("Add", ["a", "b"], ["y"], "Add"),
    ]
    infos = {name: make.make_tensor_value_info(name, floats, ["R", 3]) for name in ("a", "b", "y")}
    outputs = [infos["y"]]
    if change == "read elsewhere":
        nodes += [make.make_node("Relu", [name], [f"{name}_relu"], f"{name}/Relu") for name in "ab"]
    elif change == "given out":
        outputs += [infos["a"], infos["b"]]
    elif change == "another shape":
        infos["a"] = make.make_tensor_value_info("a", floats, [1, 3])
    graph = make.make_graph(
        nodes,
        "add",
        [make.make_tensor_value_info("lines", floats, ["R", 3])],
        outputs,
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
        value_info=[infos["a"], infos["b"]],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=10)


def test_a_sum_of_two_layers_belongs_to_one_of_them():
    model = add_model()
    layers, _ = find_layers(model)
    assert [(layer.after, layer.residual, layer.output) for layer in layers] == [
        (After.ADD, "b", "y"),
        (After.AS_IS, None, "b"),
    ]
    changed = int8_model(model, layers, {"one": 4.0, "two": 4.0})
    x = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    before, after = (open_session(one, 1).run(None, {"lines": x})[0] for one in (model, changed))
    np.testing.assert_allclose(after, before, atol=0.2)


@pytest.mark.parametrize("change", ["read elsewhere", "given out", "another shape"])
def test_a_sum_stays_where_more_than_it_reads_the_result_or_it_broadcasts(change):
    layers, _ = find_layers(add_model(change))
    assert [(layer.after, layer.output) for layer in layers] == [(After.AS_IS, "a"), (After.AS_IS, "b")]


def silu_model(change=None):
    """A layer and v · sigmoid(v) of its result: rows (R, 3)."""
    make, floats = onnx.helper, onnx.TensorProto.FLOAT
    weights = {"weight": np.ones((3, 3), np.float32), "bias": np.ones(3, np.float32)}
    gate_of, outputs = ("x" if change == "gate of another" else "v"), ["y"]
    nodes = [
        make.make_node("Relu", ["lines"], ["x"], "Relu"),
        make.make_node("Gemm", ["x", "weight", "bias"], ["v"], "one/Gemm"),
        make.make_node("Sigmoid", [gate_of], ["gate"], "Sigmoid"),
        make.make_node("Mul", ["v", "gate"], ["y"], "Mul"),
    ]
    if change == "gate read elsewhere":
        nodes.append(make.make_node("Relu", ["gate"], ["more"], "more"))
    elif change is not None and change.endswith("given out"):
        outputs.append(change.split()[0])
    graph = make.make_graph(
        nodes,
        "silu",
        [make.make_tensor_value_info("lines", floats, ["R", 3])],
        [make.make_tensor_value_info(name, floats, ["R", 3]) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=10)


def test_a_silu_belongs_to_the_layer_before_it():
    model = silu_model()
    (layer,), _ = find_layers(model)
    assert (layer.after, layer.output, layer.nodes) == (After.SILU, "y", ("one/Gemm", "Sigmoid", "Mul"))
    changed = int8_model(model, [layer], {"one": 1.0})
    x = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    before, after = (open_session(one, 1).run(None, {"lines": x})[0] for one in (model, changed))
    np.testing.assert_allclose(after, before, atol=0.05)


@pytest.mark.parametrize("change", ["gate of another", "gate read elsewhere", "v given out", "gate given out"])
def test_a_silu_stays_where_it_is_not_of_the_result_alone(change):
    ((layer,), _) = find_layers(silu_model(change))
    assert (layer.after, layer.output) == (After.AS_IS, "v")


def test_a_layer_is_timed_with_what_comes_after_it(model, layers):
    some = [layer for layer in layers if layer.after is not After.AS_IS]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in some:
        lines = (64, layer.weight.shape[layer.input_axis]) if layer.kind is Kind.LINEAR else (2, 32, 32)
        shapes |= dict.fromkeys(layer.inputs, lines)
        if layer.kind is Kind.CONVOLUTION:
            shapes[layer.inputs[0]] = (1, 32, 32)
        if layer.residual:
            shapes[layer.residual] = (*lines[:-1], layer.weight.shape[1 - layer.input_axis])
    costs = layer_costs(model, some, shapes, 1)
    assert set(costs) == {layer.name for layer in some}
    assert all(cost.float32 > 0 and cost.int8 > 0 for cost in costs.values())


def test_the_graph_says_nearly_what_float32_says_and_is_smaller(model, bundle, scene, layers, ranges):
    lines = read_lines(scene, bundle.card)
    changed = int8_model(model, layers, ranges)
    before, after = (stream(one, bundle.card, lines) for one in (model, changed))
    assert np.mean(before.labels == after.labels) > 0.98
    assert 0 < np.abs(before.logits - after.logits).mean() < 0.05 * np.abs(before.logits).mean()
    weights = sum(layer.weight.nbytes for layer in layers)
    assert changed.ByteSize() < model.ByteSize() - 0.7 * weights
    assert [node.name for node in changed.graph.node if node.domain == QUANTIZED_DOMAIN] != []


def test_no_zero_point_is_anything_but_zero_and_every_pair_is_whole(model, layers, ranges):
    inlined = onnx.inliner.inline_local_functions(int8_model(model, layers, ranges))
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in inlined.graph.initializer}
    for node in inlined.graph.node:
        if node.op_type == "Constant":
            held = onnx.helper.get_attribute_value(node.attribute[0])
            if isinstance(held, onnx.TensorProto):
                constants[node.output[0]] = onnx.numpy_helper.to_array(held)
    consumers = {}
    for node in inlined.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    quantised = [node for node in inlined.graph.node if node.op_type == "QuantizeLinear"]
    dequantised = [node for node in inlined.graph.node if node.op_type == "DequantizeLinear"]
    assert len(quantised) == len(layers) and len(dequantised) == 2 * len(layers)
    made = {node.output[0]: node for node in quantised}
    for node in quantised:
        (reader,) = consumers[node.output[0]]
        assert reader.op_type == "DequantizeLinear" and list(reader.input) == [node.output[0], *node.input[1:]]
        assert constants[node.input[2]].dtype == np.int8 and not constants[node.input[2]].any()
    for node in dequantised:
        if len(node.input) > 2:
            assert not constants[node.input[2]].any()
        assert node.input[0] in made or constants[node.input[0]].dtype == np.int8  # an activation, or a weight
        (reader,) = consumers[node.output[0]]
        assert reader.op_type in ("MatMul", "Conv")
        if node.input[0] not in made:
            axis = next(entry.i for entry in node.attribute if entry.name == "axis")
            assert constants[node.input[1]].shape == (constants[node.input[0]].shape[axis],)
    scans = [node for node in inlined.graph.node if node.op_type == "Scan"]
    assert scans and not any("int8" in name for node in scans for name in node.input)


def test_layers_not_chosen_are_left_as_they_were(model, layers, ranges):
    one = next(layer for layer in layers if layer.name == "encoder.0.narrow")
    changed = int8_model(model, [one], ranges)
    assert [node.name for node in changed.graph.node if node.domain == QUANTIZED_DOMAIN] == ["encoder.0.narrow"]
    untouched = [node for node in model.graph.node if node.name not in one.nodes]
    assert [node for node in changed.graph.node if node.domain != QUANTIZED_DOMAIN] == untouched
    assert QUANTIZED_DOMAIN not in {function.domain for function in int8_model(model, [], ranges).functions}


def test_weights_are_rounded_to_the_nearest_step_of_their_output():
    weight = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    weight[:, 2] = 0
    rounded, scale = quantize_weight(weight, output_axis=1)
    assert rounded.dtype == np.int8 and scale.shape == (7,) and scale[2] == 1 and not rounded[:, 2].any()
    assert np.abs(rounded).max(axis=0)[[0, 1, 3, 4, 5, 6]].tolist() == [127] * 6
    assert np.all(np.abs(rounded * scale - weight) <= scale / 2 + 1e-7)


def test_smoothing_changes_nothing_in_float32_and_mends_an_outlier_channel(model, bundle, scene, layers):
    layer = next(layer for layer in layers if layer.name == "encoder.0.narrow")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, layer.weight.shape[0])).astype(np.float32)
    x[:, 5] *= 500
    factors = smoothing_factors(layer, np.abs(x).max(axis=0).astype(np.float64))
    changed, smoothed = smooth(model, layer, factors)
    np.testing.assert_allclose((x / factors) @ smoothed.weight, x @ layer.weight, rtol=1e-3, atol=1e-3)

    def error(values, weight):
        scale = np.abs(values).max() / 127
        rounded, of_output = quantize_weight(weight, output_axis=1)
        return np.abs(np.rint(values / scale) * scale @ (rounded * of_output) - x @ layer.weight).mean()

    assert error(x / factors, smoothed.weight) < 0.3 * error(x, layer.weight)
    lines = read_lines(scene, bundle.card)
    ones = np.ones_like(factors)
    assert np.array_equal(
        stream(smooth(model, layer, ones)[0], bundle.card, lines).labels, stream(model, bundle.card, lines).labels
    )
    assert any(node.name == "encoder.0.narrow/Smooth" for node in changed.graph.node)
