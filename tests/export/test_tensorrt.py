"""The graph that TensorRT's parser takes; and the real parser and builder of TensorRT-RTX, which need no GPU, on it."""

import importlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from hyperline.calibration.half import half_model
from hyperline.calibration.int8 import int8_model
from hyperline.calibration.layers import find_layers
from hyperline.errors import HyperlineError
from hyperline.export.step import untrained_card
from hyperline.export.tensorrt import GraphForm, graph_form, tensorrt_graph
from hyperline.plugins import DOMAIN, QUANTIZED_DOMAIN
from hyperline.runtime.tensorrt.build import Samples, build_engine, input_shapes
from hyperline.runtime.tensorrt.cache import EngineCache, EngineKey

RTX = Path(__file__).resolve().parents[2] / "build/tensorrt-rtx"
KEY = EngineKey("0" * 64, "1.7.1", "RTX A2000, sm_86", None)
SAMPLES = Samples(8, 64, 128)


@pytest.fixture(scope="module")
def step(model):
    """The ONNX file of the exported step, three scales."""
    return model.SerializeToString(deterministic=True)


@pytest.fixture(scope="module")
def half_step(step):
    return half_model(step)


@pytest.fixture(scope="module")
def card(network):
    return untrained_card(network, 8, ("a", "b", "c"), composite_bands=(2, 1, 0))


@pytest.fixture(scope="module")
def rtx():
    """The module ``tensorrt_rtx``. No Runtime of it may be made here: without a GPU that ends the process."""
    if not (RTX / "tensorrt_rtx_bindings").is_dir():
        pytest.skip(f"no TensorRT-RTX in {RTX}: make native-cuda")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(RTX))
        try:
            return importlib.import_module("tensorrt_rtx_bindings")
        except ImportError as error:
            pytest.skip(f"TensorRT-RTX in {RTX} is for another Python or machine: {error}")


def ours(graph):
    return [node for node in onnx.load_from_string(graph).graph.node if node.domain == DOMAIN]


def answer(graph, card, samples=24):
    """Outputs of one step on the CPU, in function bodies, from random lines and states."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    feed = {
        name: generator.standard_normal(shape).astype(np.float32) for name, shape in input_shapes(card, samples).items()
    }
    feed["valid"] = feed["valid"] > -1
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize(
    ("version", "plugin", "form"),
    [
        ((10, 3, 0), True, GraphForm.PLUGIN),
        ((10, 6, 0), True, GraphForm.PLUGIN),
        ((10, 7, 0), True, GraphForm.PLUGIN_OR_BODY),
        ((11, 1, 0), True, GraphForm.PLUGIN_OR_BODY),
        ((10, 3, 0), False, GraphForm.INLINED),
        ((11, 1, 0), False, GraphForm.INLINED),
    ],
)
def test_the_form_follows_from_the_release_and_the_plugin(version, plugin, form):
    assert graph_form(version, plugin) is form


@pytest.mark.parametrize("form", [GraphForm.PLUGIN_OR_BODY, GraphForm.PLUGIN])
def test_every_node_of_ours_names_its_plugin_and_all_its_outputs(step, form):
    nodes = ours(tensorrt_graph(step, form))
    scans = [node for node in onnx.load_from_string(step).graph.node if node.op_type == "ProjectedScan"]
    assert Counter(node.op_type for node in nodes) == {"SelectiveScan": len(scans), "ExpertGate": 3}
    for node in nodes:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert (attributes["plugin_namespace"], attributes["plugin_version"]) == (b"hyperline", b"1")
        assert {"reverse", "k"} & attributes.keys()
        assert len(node.output) == 2 and all(node.output)
    assert any("" in node.output for node in scans), "the export names every output: the rewriting is not tested"


def test_bodies_stay_beside_a_plugin_and_go_where_they_would_win(step):
    def bodies(form):
        return {function.name for function in onnx.load_from_string(tensorrt_graph(step, form)).functions}

    assert bodies(GraphForm.PLUGIN_OR_BODY) == {"SelectiveScan", "ExpertGate"}
    assert bodies(GraphForm.PLUGIN) == set()


def test_an_inlined_graph_has_no_function_and_no_node_of_ours(step):
    inlined = onnx.load_from_string(tensorrt_graph(step, GraphForm.INLINED))
    assert not inlined.functions
    assert {node.domain for node in inlined.graph.node} == {""}


@pytest.mark.parametrize("form", [GraphForm.PLUGIN_OR_BODY, GraphForm.INLINED])
def test_rewriting_changes_no_result(step, card, form):
    before, after = answer(step, card), answer(tensorrt_graph(step, form), card)
    assert before.keys() == after.keys()
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)
    assert np.unique(before["labels"]).size > 1 and np.ptp(before["logits"]) > 0.1


@pytest.mark.parametrize("form", GraphForm)
def test_the_same_file_gives_the_same_bytes(step, form):
    assert tensorrt_graph(step, form) == tensorrt_graph(step, form)


@pytest.mark.parametrize("form", GraphForm)
def test_what_is_no_onnx_file_is_one_clear_error(form):
    with pytest.raises(HyperlineError, match=r"no ONNX file.*export the bundle again"):
        tensorrt_graph(b"\x08\x09not a model", form)


def test_the_parser_takes_the_body_where_no_plugin_is_loaded(rtx, step):
    assert _parses(rtx, tensorrt_graph(step, GraphForm.PLUGIN_OR_BODY))


def test_the_parser_refuses_the_bundles_own_file_for_its_unread_outputs(rtx, step):
    """Why the rewriting names them; should it pass one day, that can go."""
    attributes_alone = onnx.load_from_string(tensorrt_graph(step, GraphForm.PLUGIN_OR_BODY))
    for node in attributes_alone.graph.node:
        node.output[:] = ["" if "unread" in name else name for name in node.output]
    assert not _parses(rtx, attributes_alone.SerializeToString())


def _parses(rtx, graph):
    logger = rtx.Logger(rtx.ILogger.Severity.INTERNAL_ERROR)
    builder = rtx.Builder(logger)
    network = builder.create_network(0)
    return rtx.OnnxParser(network, logger).parse(graph)


def test_the_step_builds_for_a_gpu_of_compute_capability_8_6_and_is_found_again(rtx, step, card, tmp_path):
    calls = []

    def build(timing):
        calls.append(timing)
        graph = tensorrt_graph(step, GraphForm.INLINED)
        return build_engine(rtx, graph, card, SAMPLES, timing, compute_capability="SM86")

    cache = EngineCache(tmp_path / "engines")
    built = cache.find_or_build(KEY, SAMPLES, build)
    again = cache.find_or_build(KEY, SAMPLES, build)
    assert len(calls) == 1 and not built.found and again.found
    assert again.engine == built.engine and built.path == again.path
    assert len(built.engine) > len(step) / 2, "an engine holds the weights"
    assert cache.find(replace(KEY, gpu="RTX A2000, sm_89")) is None


def test_plugins_get_fp16_where_they_take_it(half_step):
    """docs/tensorrt.md, "The plugin". No body says here what an operator gives: the file does."""
    graph = onnx.load_from_string(tensorrt_graph(half_step, GraphForm.PLUGIN)).graph
    described = (*graph.value_info, *graph.input, *graph.output)
    types = {info.name: info.type.tensor_type.elem_type for info in described}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    f, h = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    scans = [node for node in graph.node if node.op_type == "SelectiveScan"]
    assert len(scans) == 18
    for scan in scans:
        assert [types[name] for name in scan.input] == [h, h, f, h, h, f, f, f, f]
        assert (types[scan.output[0]], types.get(scan.output[1], f)) == (h, f)
    assert {types[node.input[0]] for node in graph.node if node.op_type == "ExpertGate"} == {f}


def test_inlining_the_fp16_step_changes_no_result(half_step, card):
    before, after = answer(half_step, card), answer(tensorrt_graph(half_step, GraphForm.INLINED), card)
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_the_fp16_step_builds_strongly_typed(rtx, half_step, card):
    graph = tensorrt_graph(half_step, GraphForm.INLINED)
    logger = rtx.Logger(rtx.ILogger.Severity.INTERNAL_ERROR)
    network = rtx.Builder(logger).create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, logger)
    assert parser.parse(graph)
    found = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.num_outputs:
            found.setdefault(layer.type, set()).add(layer.get_output(0).dtype)
    assert found[rtx.LayerType.CONVOLUTION] == {rtx.float16}
    assert found[rtx.LayerType.NORMALIZATION] == found[rtx.LayerType.SOFTMAX] == {rtx.float32}
    assert rtx.float16 in found[rtx.LayerType.MATRIX_MULTIPLY]
    built = build_engine(rtx, graph, card, SAMPLES, compute_capability="SM86")
    assert len(built.engine) > len(half_step) / 2, "an engine holds the weights"


@pytest.fixture(scope="module")
def int8_step(model):
    layers, _ = find_layers(model)
    return int8_model(model, layers, {layer.name: 8.0 for layer in layers}).SerializeToString(deterministic=True)


@pytest.mark.parametrize("form", [GraphForm.PLUGIN, GraphForm.PLUGIN_OR_BODY])
def test_int8_layers_keep_their_bodies_where_operators_are_plugins(int8_step, form):
    graph = onnx.load_from_string(tensorrt_graph(int8_step, form))
    assert {"Linear", "LinearAdd", "BlockConvRelu", "BlockConvAdd"} <= {function.name for function in graph.functions}
    layers = [node for node in graph.graph.node if node.domain == QUANTIZED_DOMAIN]
    assert layers and not any(entry.name.startswith("plugin") for node in layers for entry in node.attribute)


def test_the_int8_step_builds_strongly_typed(rtx, int8_step, card):
    graph = tensorrt_graph(int8_step, GraphForm.INLINED)
    logger = rtx.Logger(rtx.ILogger.Severity.INTERNAL_ERROR)
    network = rtx.Builder(logger).create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, logger)
    assert parser.parse(graph)
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    layers = sum(node.domain == QUANTIZED_DOMAIN for node in onnx.load_from_string(int8_step).graph.node)
    assert kinds.count(rtx.LayerType.QUANTIZE) == layers
    assert kinds.count(rtx.LayerType.DEQUANTIZE) == 2 * layers
    built = build_engine(rtx, graph, card, SAMPLES, compute_capability="SM86")
    assert len(built.engine) > len(int8_step) / 2, "an engine holds the weights"


def test_a_node_that_tensorrt_does_not_know_is_named_and_no_file_is_left(rtx, step, card, tmp_path):
    broken = onnx.load_from_string(tensorrt_graph(step, GraphForm.INLINED))
    norm = next(node for node in broken.graph.node if node.op_type == "LayerNormalization")
    norm.op_type = "Levitation"
    cache = EngineCache(tmp_path / "engines")

    def build(timing):
        return build_engine(rtx, broken.SerializeToString(), card, SAMPLES, timing, compute_capability="SM86")

    with pytest.raises(HyperlineError, match=rf"{norm.name} \(Levitation\), of untrained.*Plugin not found") as caught:
        cache.find_or_build(KEY, SAMPLES, build)
    assert "\n" not in str(caught.value)
    assert not list(cache.folder.iterdir())


def test_a_plugin_that_is_not_loaded_is_missed_by_name(rtx, step, card):
    graph = tensorrt_graph(step, GraphForm.PLUGIN)
    with pytest.raises(HyperlineError, match=r"ExpertGate|SelectiveScan.*Plugin not found"):
        build_engine(rtx, graph, card, SAMPLES, compute_capability="SM86")


@pytest.mark.parametrize("graph", [b"", b"\x08\x09not a model"])
def test_the_builder_refuses_what_is_no_graph(rtx, card, graph):
    with pytest.raises(HyperlineError, match=r"TensorRT 1\.7\.1.*untrained"):
        build_engine(rtx, graph, card, SAMPLES, compute_capability="SM86")


def test_a_profile_that_the_graph_cannot_take_is_one_clear_error(rtx, step, card):
    """Half the state's samples: the sizes of the graph no longer fit each other."""
    states = [state.model_copy(update={"shape": tuple(size * 2 for size in state.shape)}) for state in card.states]
    wrong = card.model_copy(update={"states": tuple(states)})
    with pytest.raises(HyperlineError, match="cannot build untrained for 8:64:128 samples"):
        build_engine(rtx, tensorrt_graph(step, GraphForm.INLINED), wrong, SAMPLES, compute_capability="SM86")
