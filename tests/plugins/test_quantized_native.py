import gc

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hyperline.errors import HyperlineError, InputError
from hyperline.plugins import QUANTIZED_DOMAIN, QUANTIZED_VERSION, reference
from hyperline.plugins.native import OPS_LIBRARY, find_library
from hyperline.plugins.native_quantized import QuantizedLibrary
from hyperline.plugins.onnx_functions import OPSET
from hyperline.plugins.onnxruntime_ops import ORT_LIBRARY, register_native_ops
from hyperline.plugins.quantized_functions import add_quantized_functions

needs_ops = pytest.mark.skipif(find_library(OPS_LIBRARY) is None, reason=f"{OPS_LIBRARY} is not installed")
needs_ort = pytest.mark.skipif(find_library(ORT_LIBRARY) is None, reason=f"{ORT_LIBRARY} is not installed")

NAMES = {
    "Linear": ("x", "x_scale", "weight", "weight_scale", "bias"),
    "BlockConv": ("past", "x", "x_scale", "weight", "weight_scale", "bias"),
    "BlockConvRelu": ("past", "x", "x_scale", "weight", "weight_scale", "bias"),
    "LinearSilu": ("x", "x_scale", "weight", "weight_scale", "bias"),
    "LinearGelu": ("x", "x_scale", "weight", "weight_scale", "bias"),
    "LinearAdd": ("x", "x_scale", "weight", "weight_scale", "bias", "residual"),
    "BlockConvAdd": ("past", "x", "x_scale", "weight", "weight_scale", "bias", "residual"),
}
ACTIVATIONS = ("past", "x", "bias", "residual")  # what a graph may compute
ACTIVATIONS = {"LinearSilu": "silu", "LinearGelu": "gelu"}


@pytest.fixture(scope="module")
def library():
    return QuantizedLibrary()


def twin(op, feeds):
    if op.startswith("Linear"):
        return reference.quantized_linear(**feeds, activation=ACTIVATIONS.get(op))
    return reference.quantized_block_conv(**feeds, relu=op == "BlockConvRelu")


def assert_twin(op, y, feeds):
    expected = twin(op, feeds)
    assert y.shape == expected.shape and y.dtype == np.float32
    # sums are exact: what is left is one rounding of each scale's product, of the product with it and of the result
    if op in ACTIVATIONS:  # whose slope is at most 1.2
        before = reference.quantized_linear(**feeds)
        bound = 1.2 * 4e-7 * (np.abs(before - feeds["bias"]) + np.abs(feeds["bias"])) + 6e-7 * np.abs(expected)
        np.testing.assert_array_less(np.abs(y - expected), bound + 1e-30)
        return
    added = feeds["bias"] + feeds.get("residual", 0)
    size = np.abs(expected - added) + np.abs(feeds["bias"]) + np.abs(feeds.get("residual", 0))
    np.testing.assert_array_less(np.abs(y - expected), 4e-7 * size + 1e-30)


def draw(generator, shapes):
    """Activations of which some saturate and some are exact ties, and weights of all values."""
    x_scale = np.array(generator.choice([0.0078125, generator.uniform(0.001, 0.05)]), np.float32)
    made = {"x_scale": x_scale}
    for name, shape in shapes.items():
        if name == "weight":
            made[name] = generator.integers(-128, 128, shape, np.int8)
        elif name == "weight_scale":
            made[name] = generator.uniform(1e-4, 1e-2, shape).astype(np.float32)
        elif name in ("bias", "residual"):
            made[name] = generator.normal(size=shape).astype(np.float32)
        else:
            ties = (generator.integers(-270, 270, shape) / 2).astype(np.float32) * x_scale
            made[name] = np.where(generator.random(shape) < 0.5, ties, generator.normal(0, 2, shape)).astype(np.float32)
    return made


@st.composite
def linear_layers(draw_from):
    rows = draw_from(st.sampled_from([(1,), (5,), (23,), (131,), (3, 7), (2, 0), (4, 1, 9)]))
    inputs, outputs = draw_from(st.integers(1, 140)), draw_from(st.integers(1, 140))
    bias = (*rows, outputs) if draw_from(st.booleans()) else (outputs,)
    shapes = {"x": (*rows, inputs), "weight": (inputs, outputs), "weight_scale": (outputs,), "bias": bias}
    op = draw_from(st.sampled_from(["Linear", "LinearAdd", "LinearSilu", "LinearGelu"]))
    if op == "LinearAdd":
        shapes["residual"] = (*rows, outputs)
    return op, draw(np.random.default_rng(draw_from(st.integers(0, 2**31))), shapes)


@st.composite
def convolutions(draw_from):
    lines, samples = draw_from(st.integers(1, 9)), draw_from(st.integers(1, 60))
    inputs, outputs = draw_from(st.integers(1, 40)), draw_from(st.integers(1, 70))
    shapes = {
        "past": (1, samples, inputs),
        "x": (lines, samples, inputs),
        "weight": (outputs, inputs, 3, 3),
        "weight_scale": (outputs,),
        "bias": (outputs,),
    }
    op = draw_from(st.sampled_from(["BlockConv", "BlockConvRelu", "BlockConvAdd"]))
    if op == "BlockConvAdd":
        shapes["residual"] = (lines, samples, outputs)
    return op, draw(np.random.default_rng(draw_from(st.integers(0, 2**31))), shapes)


def network_layer(op, **shapes):
    return op, draw(np.random.default_rng(0), shapes)


# of the network at 1024 samples: several tiles and panels, several parts
WIDE = network_layer("Linear", x=(2048, 64), weight=(64, 256), weight_scale=(256,), bias=(256,))
DEEP = network_layer("Linear", x=(2048, 256), weight=(256, 64), weight_scale=(64,), bias=(2048, 64))
CONVOLUTION = network_layer(
    "BlockConvRelu", past=(1, 512, 64), x=(4, 512, 64), weight=(64, 64, 3, 3), weight_scale=(64,), bias=(64,)
)

NARROW = network_layer(
    "LinearAdd", x=(2048, 256), weight=(256, 64), weight_scale=(64,), bias=(64,), residual=(2048, 64)
)
SECOND = network_layer(
    "BlockConvAdd",
    past=(1, 512, 64),
    x=(4, 512, 64),
    weight=(64, 64, 3, 3),
    weight_scale=(64,),
    bias=(64,),
    residual=(4, 512, 64),
)

GATE = network_layer("LinearSilu", x=(2048, 64), weight=(64, 128), weight_scale=(128,), bias=(128,))


@needs_ops
@settings(max_examples=200, deadline=None)
@given(layer=linear_layers())
@example(layer=WIDE)
@example(layer=DEEP)
@example(layer=NARROW)
@example(layer=GATE)
def test_a_linear_layer_called_through_the_c_interface_is_the_reference(library, layer):
    op, feeds = layer
    assert_twin(op, library.linear(**feeds, activation=ACTIVATIONS.get(op)), feeds)


@needs_ops
@settings(max_examples=200, deadline=None)
@given(layer=convolutions())
@example(layer=CONVOLUTION)
@example(layer=SECOND)
def test_a_convolution_called_through_the_c_interface_is_the_reference(library, layer):
    op, feeds = layer
    assert_twin(op, library.block_conv(**feeds, relu=op == "BlockConvRelu"), feeds)


@needs_ops
def test_every_tie_and_its_neighbours_round_as_the_reference_does(library):
    scale = np.float32(0.0371)  # no power of two: the quotient itself is rounded
    near = (np.arange(-131, 131, 0.5, dtype=np.float32) * scale)[:, None]
    x = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))], axis=1)
    one = np.ones(1, np.float32)
    y = library.linear(x.reshape(-1, 1), scale, np.ones((1, 1), np.int8), one, 0 * one)
    np.testing.assert_array_equal(np.rint(y.reshape(x.shape) / scale), reference.quantize(x, scale))


@needs_ops
def test_infinities_saturate_and_what_is_not_a_number_becomes_the_least(library):
    x = np.array([[np.inf], [-np.inf], [3e38], [np.nan], [-np.nan]], np.float32)
    one = np.ones(1, np.float32)
    y = library.linear(x, np.float32(1e-3), np.ones((1, 1), np.int8), 1000 * one, 0 * one)
    np.testing.assert_allclose(y[:, 0], [127, -128, 127, -128, -128], rtol=1e-6)


@needs_ops
def test_silu_is_exact_to_a_millionth_at_every_size(library):
    v = np.concatenate([np.linspace(-87, 87, 20001), np.geomspace(1e-30, 80, 999)]).astype(np.float32)
    nothing = (np.zeros((1, 1), np.float32), np.float32(1), np.zeros((1, len(v)), np.int8), np.ones(len(v), np.float32))
    y = library.linear(*nothing, v, activation="silu")[0]
    exact = v.astype(np.float64)
    exact *= np.exp(-np.logaddexp(0.0, -exact))
    assert np.all(np.abs(y - exact) <= 6e-7 * np.abs(exact))
    beyond = np.array([-88, -1e4, -3e38, 0.0, 3e38, np.inf, np.nan], np.float32)
    y = library.linear(nothing[0], nothing[1], nothing[2][:, :7], nothing[3][:7], beyond, activation="silu")[0]
    np.testing.assert_allclose(y[[0, 1]], 0, atol=1e-33)
    assert y[3] == 0 and y[4] == beyond[4] and y[5] == np.inf and np.isnan(y[6])


@needs_ops
def test_the_largest_sums_do_not_overflow_and_larger_layers_are_refused(library):
    one = np.ones(1, np.float32)
    widest = 131071
    x = np.full((1, widest), -128, np.float32)
    y = library.linear(x, one[0], np.full((widest, 1), -128, np.int8), one, 0 * one)
    assert y[0, 0] == np.float32(widest * 128 * 128)
    with pytest.raises(HyperlineError, match="sum"):
        library.linear(np.zeros((1, widest + 1)), one[0], np.zeros((widest + 1, 1), np.int8), one, one)


@needs_ops
@pytest.mark.parametrize(
    "change", [{"x": (3, 5)}, {"weight_scale": (4,)}, {"bias": (3, 1)}, {"weight": (4,)}, {"residual": (6,)}]
)
def test_a_shape_that_does_not_fit_is_refused(library, change):
    shapes = {"x": (3, 4), "weight": (4, 6), "weight_scale": (6,), "bias": (6,)} | change
    with pytest.raises(InputError, match=str(next(iter(change.values()))).replace("(", r"\(").replace(")", r"\)")):
        library.linear(**draw(np.random.default_rng(0), shapes))


@needs_ops
def test_weights_of_another_type_are_refused(library):
    _, feeds = network_layer("Linear", x=(3, 4), weight=(4, 6), weight_scale=(6,), bias=(6,))
    with pytest.raises(InputError, match="weight is int16; it must be int8"):
        library.linear(**feeds | {"weight": feeds["weight"].astype(np.int16)})


# ------------------------------------------------------------------------------------------------- in onnxruntime ---


def session(op, feeds, *, constants=True, native=True, threads=1, optimized=None):
    """One layer whose activations are inputs, and the rest constants or inputs too."""
    make, held = onnx.helper, [name for name in NAMES[op] if constants and name not in ACTIVATIONS]
    # sizes are left open, so that only the operator itself can look at them
    types = {"weight": onnx.TensorProto.INT8}
    inputs = [
        make.make_tensor_value_info(name, types.get(name, onnx.TensorProto.FLOAT), [None] * np.ndim(feeds[name]))
        for name in NAMES[op]
        if name not in held
    ]
    graph = make.make_graph(
        [make.make_node(op, NAMES[op], ["y"], domain=QUANTIZED_DOMAIN)],
        "one",
        inputs,
        [make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(feeds[name]), name) for name in held],
    )
    opsets = [make.make_opsetid("", OPSET), make.make_opsetid(QUANTIZED_DOMAIN, QUANTIZED_VERSION)]
    model = make.make_model(graph, opset_imports=opsets, ir_version=10)
    add_quantized_functions(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what is refused here is refused on purpose
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if native:
        register_native_ops(options)
    made = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda given: made.run(None, {one.name: given[one.name] for one in made.get_inputs()})[0]


@needs_ort
@settings(max_examples=200, deadline=None)
@given(layer=linear_layers() | convolutions(), constants=st.booleans())
@example(layer=WIDE, constants=True)
@example(layer=DEEP, constants=True)
@example(layer=CONVOLUTION, constants=True)
@example(layer=NARROW, constants=True)
@example(layer=GATE, constants=True)
@example(layer=SECOND, constants=True)
def test_a_layer_in_onnxruntime_is_the_reference(layer, constants):
    op, feeds = layer
    assert_twin(op, session(op, feeds, constants=constants)(feeds), feeds)


@needs_ort
@pytest.mark.parametrize(
    ("op", "feeds"),
    [WIDE, DEEP, CONVOLUTION, NARROW, SECOND, GATE],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_results_do_not_depend_on_the_threads_to_the_bit(op, feeds):
    one, two = (session(op, feeds, threads=threads)(feeds) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


@needs_ort
@pytest.mark.parametrize(
    ("op", "feeds"), [WIDE, CONVOLUTION, NARROW, SECOND, GATE], ids=lambda one: one if isinstance(one, str) else ""
)
def test_the_operator_takes_the_place_of_the_body_and_keeps_its_constants(op, feeds, tmp_path):
    types = {}
    for native in (True, False):
        session(op, feeds, native=native, optimized=tmp_path / "optimized.onnx")
        nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
        types[native] = [node.op_type for node in nodes]
    assert types[True] == [op]
    assert op not in types[False] and len(types[False]) > 1


@needs_ort
@pytest.mark.parametrize(("op", "feeds"), [WIDE, CONVOLUTION])
def test_the_packed_weights_of_a_session_are_found_and_are_those_that_it_reads(op, feeds):
    library = QuantizedLibrary(find_library(ORT_LIBRARY))
    first = library.packed
    run = session(op, feeds)
    (memory,) = library.packed_since(first)
    before = run(feeds)
    for position in range(0, memory.size, max(1, memory.size // 7)):
        memory[position] ^= np.uint64(0x4040404040404040)
    assert (run(feeds) != before).any()
    for position in range(0, memory.size, max(1, memory.size // 7)):
        memory[position] ^= np.uint64(0x4040404040404040)
    np.testing.assert_array_equal(run(feeds), before)
    del run
    gc.collect()
    assert library.packed_since(first) == [] and library.packed == first + 1


@needs_ort
@pytest.mark.parametrize(
    ("op", "name", "shape"),
    [
        ("Linear", "x", (2048, 63)),
        ("Linear", "bias", (1, 256)),
        ("Linear", "weight_scale", (255,)),
        ("Linear", "weight", (64, 256, 1)),
        ("BlockConvRelu", "past", (2, 512, 64)),
        ("BlockConvRelu", "x", (4, 512, 63)),
        ("BlockConvRelu", "bias", (1, 64)),
        ("BlockConvRelu", "weight", (64, 64, 3, 1)),
        ("LinearAdd", "residual", (1, 64)),
        ("BlockConvAdd", "residual", (1, 512, 64)),
    ],
)
@pytest.mark.parametrize("constants", [True, False])
def test_a_shape_that_does_not_fit_is_refused_in_onnxruntime(op, name, shape, constants):
    feeds = dict(dict([WIDE, CONVOLUTION, NARROW, SECOND])[op])
    feeds[name] = np.zeros(shape, feeds[name].dtype)
    with pytest.raises(Exception, match=f"{op}: .*{', '.join(map(str, shape))}"):
        session(op, feeds, constants=constants)(feeds)
