"""The FP16 step: what type everything is, and that it says what the float32 step says."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from hyperline.calibration.half import half_model
from hyperline.errors import HyperlineError
from hyperline.export.step import export_step
from hyperline.plugins import DOMAIN, reference
from hyperline.plugins.native import find_library
from hyperline.plugins.onnxruntime_ops import ORT_LIBRARY, register_native_ops
from hyperline.scenes import Scene
from hyperline.train.first_layer import unlabelled
from hyperline.train.models.mambamoe import MambaMoE, MambaMoEConfig

FULL, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
PRODUCTS = {"Conv", "Gemm", "MatMul"}
LINES, SAMPLES, BANDS = 48, 40, 24


@pytest.fixture(scope="module")
def scene():
    """Counts around 50000, where FP16 knows only multiples of 32, with structure and noise."""
    generator = np.random.default_rng(0)
    line, sample = np.mgrid[0:LINES, 0:SAMPLES] / 10
    abundance = np.stack([np.sin(line + sample), np.cos(line - 2 * sample), np.sin(3 * sample)], axis=-1)
    cube = 50000 + abundance @ generator.uniform(100, 600, (3, BANDS)) + generator.normal(0, 10, (*line.shape, BANDS))
    return Scene("made-up", cube.round().astype(np.uint16))


@pytest.fixture(scope="module")
def full(scene):
    """A float32 step, random weights, three scales, blocks of 8 lines."""
    torch.manual_seed(0)
    network = MambaMoE(MambaMoEConfig(bands=BANDS, classes=3, components=8, channels=32))
    network.fit_first_layer(unlabelled(scene))
    with torch.no_grad():
        for parameter in network.parameters():  # as initialised it says nearly the same everywhere
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return export_step(network, 8, ("a", "b", "c"))


@pytest.fixture(scope="module")
def half(full):
    return onnx.load_from_string(half_model(full.SerializeToString()))


@pytest.fixture(scope="module")
def types(half):
    """The element type of every tensor, as the nodes' own rules infer it from inputs and weights alone."""
    bare = onnx.ModelProto.FromString(half.SerializeToString())
    del bare.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True).graph
    described = (*graph.value_info, *graph.input, *graph.output)
    found = {info.name: info.type.tensor_type.elem_type for info in described}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def nodes_of(model, *operators):
    nodes = [node for node in model.graph.node if node.op_type in operators]
    assert nodes, f"the step has no {operators}: nothing is tested"
    return nodes


def producers(model):
    return {name: node for node in model.graph.node for name in node.output}


def test_inputs_outputs_and_metadata_are_those_of_the_float32_step(full, half):
    assert list(half.graph.input) == list(full.graph.input)
    assert list(half.graph.output) == list(full.graph.output)
    assert half.metadata_props == full.metadata_props
    assert {entry.domain for entry in half.opset_import} == {"", DOMAIN}


def test_products_are_fp16_but_for_the_first_layers_the_routers_and_the_last(half, types):
    exact = set()
    for node in nodes_of(half, *PRODUCTS):
        (found,) = {types[name] for name in (*node.input, *node.output) if name}
        if found == FULL:
            exact.add(node.name)
        else:
            assert found == HALF
    routers = {f"encoder.{scale}/{operator}" for scale in range(3) for operator in ("MatMul", "Gemm")}
    centred = {node.output[0] for node in nodes_of(half, "Sub")}
    (first,) = (node.name for node in nodes_of(half, "MatMul") if node.input[0] in centred)
    assert exact == routers | {first, "stem/Gemm", "heads.0.4/Gemm"}


def test_norms_softmax_sums_and_gates_are_float32(half, types):
    for node in nodes_of(half, "LayerNormalization", "Softmax", "LogSoftmax", "ReduceSum", "ExpertGate"):
        assert {types[name] for name in (*node.input, *node.output)} <= {FULL, TensorProto.INT64}, node.name


def test_scans_read_and_write_fp16_and_keep_a_float32_state(half, types):
    for node in nodes_of(half, "SelectiveScan"):
        u, delta, A, B, C, D, delta_bias, h0, mask = (types[name] for name in node.input)
        assert {u, delta, B, C, types[node.output[0]]} == {HALF}
        assert {A, D, delta_bias, h0, mask} == {FULL}
        if node.output[1]:
            assert types[node.output[1]] == FULL


def test_between_products_no_tensor_goes_back_to_float32(half, types):
    """An activation function of an FP16 product is FP16, and so is what is made of it up to the next product."""
    makers = producers(half)
    for node in nodes_of(half, "Sigmoid", "Relu", "Tanh", "Pow"):
        maker = makers[node.input[0]]
        if maker.op_type in PRODUCTS:
            assert types[node.output[0]] == types[maker.output[0]] != FULL, node.name


def test_a_weight_is_there_once_in_the_type_that_is_read(full, half):
    sizes = {tensor.name: len(tensor.raw_data) for tensor in full.graph.initializer}
    weights = [tensor for tensor in half.graph.initializer if max(tensor.dims, default=1) > 1]
    assert {tensor.data_type for tensor in weights} == {FULL, HALF, TensorProto.INT64}
    for tensor in weights:
        if tensor.data_type == HALF:
            assert 2 * len(numpy_helper.to_array(tensor).tobytes()) == sizes[tensor.name]
    read = {name for node in half.graph.node for name in node.input}
    assert {tensor.name for tensor in half.graph.initializer} <= read


def test_no_cast_is_for_nothing(half, types):
    makers = producers(half)
    outputs = {output.name for output in half.graph.output}
    read = {name for node in half.graph.node for name in node.input} | outputs
    casts = [node for node in nodes_of(half, "Cast") if {types[node.input[0]], types[node.output[0]]} == {FULL, HALF}]
    for cast in casts:
        assert cast.output[0] in read, f"nobody reads {cast.name}"
        source = cast.input[0]
        while source in makers and makers[source].op_type in ("Reshape", "Squeeze", "Transpose", "Unsqueeze", "Slice"):
            source = makers[source].input[0]
        assert source not in makers or makers[source].op_type != "Cast", f"{cast.name} undoes {makers[source].name}"
    assert len({(cast.input[0], types[cast.output[0]]) for cast in casts}) == len(casts), "one tensor is cast twice"
    states = len(half.graph.input) - 2
    assert len(casts) < states + 2 * len(nodes_of(half, "LayerNormalization"))


@pytest.fixture(
    params=[
        False,
        pytest.param(True, marks=pytest.mark.skipif(find_library(ORT_LIBRARY) is None, reason=f"no {ORT_LIBRARY}")),
    ],
    ids=["bodies", "native"],
)
def native(request):
    return request.param


def session(model, native):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if native:
        register_native_ops(options)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


ANSWERS = ("labels", "logits", "uncertainty", "experts")


def stream(run, model, scene):
    """What a strip is answered, block after block, by ``run(names of the outputs, feed)``; the experts' scales too."""
    names = [value.name for value in model.graph.output]
    feed = {}
    for value in list(model.graph.input)[2:]:  # sizes are numbers, "eighth_samples" or "4*eighth_samples"
        sizes = value.type.tensor_type.shape.dim
        shape = [size.dim_value or SAMPLES // 8 * int(size.dim_param.rpartition("*")[0] or 1) for size in sizes]
        feed[value.name] = np.zeros(shape, np.float32)
    valid = np.ones((8, SAMPLES), bool)
    valid[:, 3] = False
    answers = []
    for start in range(0, LINES, 8):
        lines = scene.cube[start : start + 8].astype(np.float32)
        outputs = dict(zip(names, run(names, {"lines": lines, "valid": valid, **feed}), strict=True))
        feed = {name: outputs[f"next_{name}"] for name in feed}
        assert {array.dtype for array in feed.values()} == {np.dtype(np.float32)}
        answers.append([outputs[name] for name in ANSWERS])
    return [np.concatenate(blocks) for blocks in zip(*answers, strict=True)]


def assert_same_answer(expected, actual):
    labels, logits, uncertainty, experts = expected
    assert np.unique(labels).size > 2 and np.ptp(logits) > 0.5
    assert np.mean(labels == actual[0]) >= 0.999
    np.testing.assert_allclose(actual[1], logits, atol=0.01 * np.abs(logits).max())
    assert np.ptp(uncertainty) > 0.1
    np.testing.assert_allclose(actual[2], uncertainty, atol=0.02)
    np.testing.assert_allclose(actual[3], experts, atol=0.01)


def test_a_streamed_strip_gets_the_labels_of_the_float32_step(full, half, scene, native):
    expected, actual = (stream(session(model, native).run, model, scene) for model in (full, half))
    assert_same_answer(expected, actual)


class SelectiveScan(OpRun):
    op_domain = DOMAIN

    def _run(self, u, *others, reverse=None):
        y, h = reference.selective_scan(u, *others, reverse=bool(reverse))
        return y.astype(u.dtype), h.astype(np.float32)


class ExpertGate(OpRun):
    op_domain = DOMAIN

    def _run(self, logits, k=None):
        return tuple(array.astype(logits.dtype) for array in reference.expert_gate(logits, k))


def test_so_it_does_where_every_operation_rounds_to_fp16(full, half, scene):
    """NumPy does FP16 arithmetic in FP16, sums included; onnxruntime on a CPU does most of it in float32."""
    bare = onnx.ModelProto.FromString(half.SerializeToString())
    del bare.functions[:]
    actual = stream(ReferenceEvaluator(bare, new_ops=[SelectiveScan, ExpertGate]).run, half, scene)
    assert_same_answer(stream(session(full, native=False).run, full, scene), actual)


def test_the_same_model_gives_the_same_bytes(full):
    data = full.SerializeToString()
    assert half_model(data) == half_model(data)


def test_bodies_of_an_earlier_release_are_replaced(full, half):
    old = onnx.ModelProto.FromString(full.SerializeToString())
    del old.functions[0].node[-1]
    assert onnx.load_from_string(half_model(old.SerializeToString())).functions == half.functions


def test_what_is_no_onnx_file_is_one_clear_error():
    with pytest.raises(HyperlineError, match=r"no ONNX file.*export the bundle again"):
        half_model(b"\x08\x09not a model")


def test_a_model_that_is_fp16_already_is_refused(half):
    with pytest.raises(HyperlineError, match="FP16 already"):
        half_model(half.SerializeToString())


def small(nodes, weight=1.0):
    values = [helper.make_tensor_value_info(name, FULL, [4, 4]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(np.full((4, 4), weight, np.float32), "w")]
    graph = helper.make_graph([onnx.parser.parse_node(node) for node in nodes], "g", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def test_an_operator_without_a_rule_is_named():
    with pytest.raises(HyperlineError, match=r"no rule.*Sinh"):
        half_model(small(["a = MatMul (x, w)", "y = Sinh (a)"]))


def test_a_weight_beyond_fp16_is_named():
    with pytest.raises(HyperlineError, match=r"weight w reaches 7e\+04.*65504"):
        half_model(small(["y = MatMul (x, w)"], weight=7e4))


def test_a_float32_reader_beside_an_fp16_one_gets_the_float32_weight():
    model = onnx.load_from_string(half_model(small(["a = MatMul (x, w)", "b = Softmax (w)", "y = Add (a, b)"])))
    assert {tensor.name: tensor.data_type for tensor in model.graph.initializer} == {"w": FULL, "w.half": HALF}
