"""The functions of domain hyperline.fused, as bodies and as native operators, against the reference."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.plugins import DOMAIN, FUSED_DOMAIN, reference
from hyperline.plugins.fused_functions import expand_fused, fused_functions
from hyperline.plugins.native import find_library
from hyperline.plugins.onnx_functions import OPSET, add_functions
from hyperline.plugins.onnxruntime_ops import ORT_LIBRARY, register_native_ops

EPSILON = 1e-5
WAYS = (
    "body",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(find_library(ORT_LIBRARY) is None, reason=f"{ORT_LIBRARY} is not installed"),
    ),
)
TYPES = {"valid": onnx.TensorProto.BOOL, "labels": onnx.TensorProto.UINT8}


def model_of(name, ranks, attributes=None):
    """One node of the function ``name``, whose inputs have these ranks and no sizes."""
    (function,) = (one for one in fused_functions() if one.name == name)

    def info(value):
        shape = [None] * ranks[value] if value in ranks else None
        return onnx.helper.make_tensor_value_info(value, TYPES.get(value, onnx.TensorProto.FLOAT), shape)

    node = onnx.helper.make_node(name, list(function.input), list(function.output), domain=FUSED_DOMAIN, **attributes)
    graph = onnx.helper.make_graph([node], "one", [info(i) for i in function.input], [info(o) for o in function.output])
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in (("", OPSET), (FUSED_DOMAIN, 1))]
    return add_functions(onnx.helper.make_model(graph, opset_imports=imports, ir_version=10))


def session_of(model, way, threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what is refused here is refused on purpose
    if way == "native":
        register_native_ops(options)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


MODELS = {
    "Norm": model_of("Norm", {"x": 2, "scale": 1, "bias": 1}, {"epsilon": EPSILON}),
    "NormRelu": model_of("NormRelu", {"x": 2, "scale": 1, "bias": 1, "keep": 2}, {"epsilon": EPSILON}),
    "NormSilu": model_of("NormSilu", {"x": 2, "scale": 1, "bias": 1}, {"epsilon": EPSILON}),
    "SumNormGated": model_of(
        "SumNormGated", {"x": 3, "scale": 1, "bias": 1, "addend": 3, "gate": 2}, {"epsilon": EPSILON}
    ),
    "CentredLinear": model_of("CentredLinear", {"x": 2, "mean": 1, "weight": 2, "bias": 1}, {}),
    "ProjectedScan": model_of(
        "ProjectedScan",
        {"u": 3, "projected": 3, "A": 2, "D": 1, "delta_bias": 1, "h0": 3, "mask": 2},
        {"reverse": 1},
    ),
    "Pool": model_of("Pool", {"x": 2, "mask": 2}, {}),
    "Decide": model_of("Decide", {"logits": 3, "valid": 2}, {}),
}


@pytest.fixture(scope="module")
def sessions():
    ways = ["body", *(["native"] if find_library(ORT_LIBRARY) else [])]
    return {(name, way): session_of(model, way) for name, model in MODELS.items() for way in ways}


def normal(generator, *shape, scale=1.0):
    return generator.normal(0, scale, shape).astype(np.float32)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(expected).max(initial=0)))


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(["Norm", "NormRelu", "NormSilu", "SumNormGated"]),
    rows=st.integers(0, 30),
    width=st.integers(1, 150),
    seed=st.integers(0, 2**31),
)
def test_a_norm_is_the_reference(sessions, way, name, rows, width, seed):
    generator = np.random.default_rng(seed)
    shape = (rows, 2, width) if name == "SumNormGated" else (rows, width)
    x = normal(generator, *shape) + normal(generator, 1)
    feeds = {"x": x, "scale": normal(generator, width), "bias": normal(generator, width)}
    expected = dict(feeds)
    if name == "NormRelu":
        feeds["keep"] = expected["keep"] = (generator.random((rows, 1)) < 0.7).astype(np.float32)
        x[feeds["keep"][:, 0] == 0] = np.nan  # whatever stands there
    if name == "SumNormGated":
        feeds["addend"] = normal(generator, *shape)
        feeds["gate"] = normal(generator, rows, 2 * width, scale=4.0)
        expected |= {"addend": feeds["addend"], "gate": feeds["gate"]}
    (y,) = sessions[name, way].run(None, feeds)
    expected = reference.norm(**expected, epsilon=EPSILON, activation="silu" if name == "NormSilu" else None)
    assert y.shape == expected.shape
    # where a row's numbers are all but equal, the digits of their differences are what is left of x
    spread = np.nan_to_num(np.std(x + feeds.get("addend", 0), axis=-1), nan=1.0).clip(0.05)
    gate = np.abs(feeds.get("gate", np.ones(1))).max(initial=1.0)
    bar = (2e-6 / spread * np.abs(feeds["scale"]).max(initial=0) + 1e-5) * gate
    assert np.all(np.abs(y - expected).reshape(x.shape) <= bar[..., None])


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=100, deadline=None)
@given(rows=st.integers(0, 60), inputs=st.integers(1, 70), outputs=st.integers(1, 100), seed=st.integers(0, 2**31))
def test_the_first_product_is_the_reference(sessions, way, rows, inputs, outputs, seed):
    generator = np.random.default_rng(seed)
    mean = normal(generator, inputs, scale=1000.0)
    feeds = {
        "x": mean + normal(generator, rows, inputs),
        "mean": mean,
        "weight": normal(generator, inputs, outputs),
        "bias": normal(generator, outputs),
    }
    if rows:
        feeds["x"][0] = np.nan  # of one pixel, and stays there
    (y,) = sessions["CentredLinear", way].run(None, feeds)
    close(y[1:], reference.centred_linear(**feeds)[1:])


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=60, deadline=None)
@given(
    sequences=st.integers(1, 20),
    length=st.integers(1, 12),
    channels=st.integers(1, 20),
    states=st.sampled_from([4, 8, 16, 32]),
    broadcast=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_the_scan_reads_its_projections_in_place(sessions, way, sequences, length, channels, states, broadcast, seed):
    generator = np.random.default_rng(seed)
    feeds = {
        "u": normal(generator, sequences, length, channels),
        "projected": normal(generator, sequences, length, channels + 2 * states),
        "A": -generator.uniform(0.5, 16, (channels, states)).astype(np.float32),
        "D": normal(generator, channels),
        "delta_bias": normal(generator, channels) - 2,
        "h0": normal(generator, 1 if broadcast else sequences, channels, states),
        "mask": (generator.random((1 if broadcast else sequences, length)) < 0.7).astype(np.float32),
    }
    y, h = sessions["ProjectedScan", way].run(None, feeds)
    delta, B, C = np.split(feeds["projected"], [channels, channels + states], axis=-1)
    parts = {name: feeds[name] for name in ("u", "A", "D", "delta_bias", "h0")}
    mask = np.broadcast_to(feeds["mask"], (sequences, length))
    for actual, expected in zip(
        (y, h), reference.selective_scan(**parts, delta=delta, B=B, C=C, mask=mask, reverse=True), strict=True
    ):
        close(actual, expected)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=60, deadline=None)
@given(lines=st.integers(1, 6), samples=st.integers(1, 20), channels=st.integers(1, 70), seed=st.integers(0, 2**31))
def test_pooling_is_the_reference(sessions, way, lines, samples, channels, seed):
    generator = np.random.default_rng(seed)
    mask = (generator.random((2 * lines, 2 * samples)) < 0.4).astype(np.float32)
    x = normal(generator, mask.size, channels) * mask.reshape(-1, 1)
    y, coarse = sessions["Pool", way].run(None, {"x": x, "mask": mask})
    expected = reference.pool(x, mask)
    close(y, expected[0])
    np.testing.assert_array_equal(coarse, expected[1])


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=100, deadline=None)
@given(lines=st.integers(1, 4), samples=st.integers(0, 20), classes=st.integers(1, 255), seed=st.integers(0, 2**31))
def test_the_decision_is_the_reference(sessions, way, lines, samples, classes, seed):
    generator = np.random.default_rng(seed)
    # halves: ties are common, and the first of equals wins
    logits = np.round(2 * normal(generator, lines, samples, classes, scale=3.0)) / 2
    valid = generator.random((lines, samples)) < 0.8
    feeds = {"logits": logits.astype(np.float32), "valid": valid}
    labels, confidence, uncertainty = sessions["Decide", way].run(None, feeds)
    expected = reference.decide(logits, valid)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected[0])
    np.testing.assert_allclose(confidence, expected[1], rtol=1e-5)
    np.testing.assert_allclose(uncertainty, expected[2], rtol=1e-5, atol=1e-6)
    assert np.all((uncertainty >= 0) & (uncertainty <= 1))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("classes", [1, 2, 16, 17, 255])
def test_uncertainty_is_0_of_one_sure_class_and_1_of_equal_ones(sessions, way, classes):
    logits = np.full((1, 3, classes), -5.0, np.float32)
    logits[0, 1, classes // 2] = 200.0  # no other class has a share that float32 can hold
    logits[0, 2, classes // 2] = 25.0  # others have shares below its digits
    _, _, uncertainty = sessions["Decide", way].run(None, {"logits": logits, "valid": np.ones((1, 3), bool)})
    assert uncertainty[0, 0] == pytest.approx(float(classes > 1), abs=1e-6)
    assert uncertainty[0, 1] == pytest.approx(0, abs=1e-30)
    expected = reference.decide(logits, np.ones((1, 3), bool))[2]
    assert uncertainty[0, 2] == pytest.approx(expected[0, 2], rel=0.05)


@pytest.mark.skipif(find_library(ORT_LIBRARY) is None, reason=f"{ORT_LIBRARY} is not installed")
def test_a_decision_over_no_numbers_is_no_number():
    logits = np.full((1, 2, 5), np.nan, np.float32)
    labels, confidence, uncertainty = session_of(MODELS["Decide"], "native").run(
        None, {"logits": logits, "valid": np.ones((1, 2), bool)}
    )
    assert not labels.any() and np.isnan(confidence).all() and np.isnan(uncertainty).all()


@pytest.mark.parametrize("way", WAYS)
def test_a_decision_of_a_model_from_before_there_was_an_uncertainty_is_as_it_was(way):
    old = onnx.ModelProto()
    old.CopyFrom(MODELS["Decide"])
    for named in (*old.graph.node, *old.functions):
        del named.output[2:]
    del old.graph.output[2:]
    generator = np.random.default_rng(0)
    feeds = {"logits": normal(generator, 3, 7, 16, scale=3.0), "valid": generator.random((3, 7)) < 0.8}
    labels, confidence = session_of(old, way).run(None, feeds)
    expected = reference.decide(**feeds)
    np.testing.assert_array_equal(labels, expected[0])
    np.testing.assert_allclose(confidence, expected[1], rtol=1e-5)


@pytest.mark.skipif(find_library(ORT_LIBRARY) is None, reason=f"{ORT_LIBRARY} is not installed")
@pytest.mark.parametrize("threads", [2, 3])
def test_results_do_not_depend_on_the_threads_to_the_bit(threads):
    generator = np.random.default_rng(0)
    feeds = {"x": normal(generator, 3000, 64), "scale": normal(generator, 64), "bias": normal(generator, 64)}
    one, many = (session_of(MODELS["NormSilu"], "native", count).run(None, feeds)[0] for count in (1, threads))
    np.testing.assert_array_equal(one, many)
    feeds = {
        "x": normal(generator, 3000, 64),
        "mean": normal(generator, 64),
        "weight": normal(generator, 64, 40),
        "bias": normal(generator, 40),
    }
    one, many = (session_of(MODELS["CentredLinear"], "native", count).run(None, feeds)[0] for count in (1, threads))
    np.testing.assert_array_equal(one, many)


@pytest.mark.skipif(find_library(ORT_LIBRARY) is None, reason=f"{ORT_LIBRARY} is not installed")
@pytest.mark.parametrize(
    ("name", "feeds", "message"),
    [
        ("Norm", {"x": (2, 4), "scale": (3,), "bias": (4,)}, r"Norm: scale must be \(4\)"),
        ("NormRelu", {"x": (2, 4), "scale": (4,), "bias": (4,), "keep": (1, 1)}, r"NormRelu: keep must be \(2, 1\)"),
        ("CentredLinear", {"x": (2, 4), "mean": (3,), "weight": (4, 2), "bias": (2,)}, r"mean must be \(4\)"),
        ("Pool", {"x": (6, 1), "mask": (2, 3)}, r"Pool: mask must be \(K, W\), both even"),
        ("Pool", {"x": (6, 1), "mask": (2, 2)}, r"Pool: x must be \(4, C\)"),
        ("Decide", {"logits": (1, 2, 3), "valid": (2, 1)}, r"Decide: valid must be \(1, 2\)"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(name, feeds, message):
    arrays = {key: np.zeros(shape, bool if key == "valid" else np.float32) for key, shape in feeds.items()}
    with pytest.raises(Exception, match=message):
        session_of(MODELS[name], "native").run(None, arrays)


@pytest.mark.skipif(find_library(ORT_LIBRARY) is None, reason=f"{ORT_LIBRARY} is not installed")
def test_on_a_gpu_they_run_as_bodies():
    model = MODELS["Norm"]
    (body,) = (function for function in model.functions if function.name == "Norm")
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    next(one for one in wrong.functions if one.name == body.name).node[0].attribute[0].i = 0  # the axis
    feeds = {"x": np.eye(2, dtype=np.float32), "scale": np.ones(2, np.float32), "bias": np.arange(2, dtype=np.float32)}
    answers = []
    for gpu in (False, True):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        register_native_ops(options, gpu)
        try:
            session = onnxruntime.InferenceSession(wrong.SerializeToString(), options)
            answers.append(session.run(None, feeds)[0])
        except Exception as error:  # onnxruntime's errors share no base class
            answers.append(error)
    close(answers[0], reference.norm(**feeds, epsilon=EPSILON))
    assert isinstance(answers[1], Exception) or not np.allclose(answers[0], answers[1])


def test_expanding_leaves_no_function_of_the_domain_and_changes_no_result():
    model = MODELS["ProjectedScan"]
    expanded = expand_fused(model)
    assert {function.domain for function in expanded.functions} == {DOMAIN}
    assert "Constant" not in {node.op_type for node in expanded.graph.node}
    names = [node.name for node in expanded.graph.node]
    assert all(names) and len(set(names)) == len(names)
    generator = np.random.default_rng(0)
    feeds = {
        "u": normal(generator, 2, 3, 4),
        "projected": normal(generator, 2, 3, 20),
        "A": -np.ones((4, 8), np.float32),
        "D": normal(generator, 4),
        "delta_bias": normal(generator, 4),
        "h0": normal(generator, 2, 4, 8),
        "mask": np.ones((1, 1), np.float32),
    }
    for before, after in zip(*(session_of(one, "body").run(None, feeds) for one in (model, expanded)), strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-6, atol=1e-6)
