import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.plugins import QUANTIZED_DOMAIN, reference
from hyperline.plugins.onnx_functions import OPSET
from hyperline.plugins.quantized_functions import add_quantized_functions

NAMES = {
    "Linear": ("x", "x_scale", "weight", "weight_scale", "bias"),
    "BlockConv": ("past", "x", "x_scale", "weight", "weight_scale", "bias"),
    "BlockConvRelu": ("past", "x", "x_scale", "weight", "weight_scale", "bias"),
    "LinearSilu": ("x", "x_scale", "weight", "weight_scale", "bias"),
    "LinearGelu": ("x", "x_scale", "weight", "weight_scale", "bias"),
    "LinearAdd": ("x", "x_scale", "weight", "weight_scale", "bias", "residual"),
    "BlockConvAdd": ("past", "x", "x_scale", "weight", "weight_scale", "bias", "residual"),
}
ACTIVATIONS = {"LinearSilu": "silu", "LinearGelu": "gelu"}
TYPES = {"weight": onnx.TensorProto.INT8}
RANKS = {"x_scale": 0, "weight_scale": 1}


def session(op):
    ranks = RANKS | ({"x": 2, "weight": 2} if op.startswith("Linear") else {"past": 3, "x": 3, "weight": 4, "bias": 1})

    def info(name):
        shape = [None] * ranks[name] if name in ranks else None
        return onnx.helper.make_tensor_value_info(name, TYPES.get(name, onnx.TensorProto.FLOAT), shape)

    node = onnx.helper.make_node(op, NAMES[op], ["y"], domain=QUANTIZED_DOMAIN)
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([node], "one", [info(name) for name in NAMES[op]], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=10)
    add_quantized_functions(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def sessions():
    return {op: session(op) for op in NAMES}


def close(actual, expected):
    # float32 sums of rounded products beside the reference's whole numbers
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(expected).max()))


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 40),
    inputs=st.integers(1, 130),
    outputs=st.integers(1, 70),
    bias_of_rows=st.booleans(),
    op=st.sampled_from(["Linear", "LinearAdd", "LinearSilu", "LinearGelu"]),
    seed=st.integers(0, 2**31),
)
def test_the_body_of_a_linear_layer_is_the_reference(sessions, rows, inputs, outputs, bias_of_rows, op, seed):
    generator = np.random.default_rng(seed)
    feeds = {
        "x": generator.normal(0, 2, (rows, inputs)).astype(np.float32),
        "x_scale": np.array(generator.uniform(0.001, 0.05), np.float32),  # some values saturate
        "weight": generator.integers(-127, 128, (inputs, outputs), np.int8),
        "weight_scale": generator.uniform(1e-4, 1e-2, outputs).astype(np.float32),
        "bias": generator.normal(size=(rows, outputs) if bias_of_rows else outputs).astype(np.float32),
    }
    if op == "LinearAdd":
        feeds["residual"] = generator.normal(size=(rows, outputs)).astype(np.float32)
    (y,) = sessions[op].run(None, feeds)
    close(y, reference.quantized_linear(**feeds, activation=ACTIVATIONS.get(op)))


@settings(max_examples=100, deadline=None)
@given(
    lines=st.integers(1, 9),
    samples=st.integers(1, 20),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    op=st.sampled_from(["BlockConv", "BlockConvRelu", "BlockConvAdd"]),
    seed=st.integers(0, 2**31),
)
def test_the_body_of_a_convolution_is_the_reference(sessions, lines, samples, inputs, outputs, op, seed):
    generator = np.random.default_rng(seed)
    feeds = {
        "past": generator.normal(size=(1, samples, inputs)).astype(np.float32),
        "x": generator.normal(size=(lines, samples, inputs)).astype(np.float32),
        "x_scale": np.array(generator.uniform(0.005, 0.05), np.float32),
        "weight": generator.integers(-127, 128, (outputs, inputs, 3, 3), np.int8),
        "weight_scale": generator.uniform(1e-4, 1e-2, outputs).astype(np.float32),
        "bias": generator.normal(size=outputs).astype(np.float32),
    }
    if op == "BlockConvAdd":
        feeds["residual"] = generator.normal(size=(lines, samples, outputs)).astype(np.float32)
    (y,) = sessions[op].run(None, feeds)
    close(y, reference.quantized_block_conv(**feeds, relu=op == "BlockConvRelu"))


def test_ties_go_to_even_and_large_values_saturate():
    x = np.array([0.5, 1.5, -0.5, -2.5, 127.4, 200.0, -127.5, -128.4, -1000.0])
    assert reference.quantize(x, 1.0).tolist() == [0, 2, 0, -2, 127, 127, -128, -128, -128]
