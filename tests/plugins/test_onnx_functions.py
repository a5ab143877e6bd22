"""The operators in onnxruntime against the float64 reference: as function bodies, and native where installed."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.plugins import reference
from hyperline.plugins.native import find_library
from hyperline.plugins.onnx_functions import DOMAIN, OPSET, add_functions, functions
from hyperline.plugins.onnxruntime_ops import ORT_LIBRARY, register_native_ops

SCAN_INPUTS = ("u", "delta", "A", "B", "C", "D", "delta_bias", "h0", "mask")


def scan_model(reverse, number="float"):
    return onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : {OPSET}, "hyperline" : 1]>
        scan ({number}[s,l,d] u, {number}[s,l,d] delta, float[d,n] A, {number}[s,l,n] B, {number}[s,l,n] C, float[d] D,
              float[d] delta_bias, float[s0,d,n] h0, float[sm,lm] mask) => ({number}[s,l,d] y, float[s,d,n] h)
        {{ y, h = hyperline.SelectiveScan <reverse: int = {int(reverse)}> ({", ".join(SCAN_INPUTS)}) }}"""
    )


def gate_model(k):
    return onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : {OPSET}, "hyperline" : 1]>
        gate (float[r,e] logits) => (float[r,e] weights, float[r,e] active)
        {{ weights, active = hyperline.ExpertGate <k: int = {k}> (logits) }}"""
    )


def session(model, native=False):
    model = add_functions(model)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if native:
        register_native_ops(options)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


needs_library = pytest.mark.skipif(find_library(ORT_LIBRARY) is None, reason=f"{ORT_LIBRARY} is not installed")


@pytest.fixture(scope="module", params=["bodies", pytest.param("native", marks=needs_library)])
def native(request):
    return request.param == "native"


@pytest.fixture(scope="module")
def scan_sessions(native):
    return {reverse: session(scan_model(reverse), native) for reverse in (False, True)}


def scan_inputs(seed, S, L, D, N, initial_state=True, mask_rows=None, mask_steps=None, delta_mean=-4.0):
    generator = np.random.default_rng(seed)

    def normal(*shape):
        return generator.standard_normal(shape, dtype=np.float32)

    return {
        "u": normal(S, L, D),
        "delta": normal(S, L, D) + np.float32(delta_mean),
        "A": -np.tile(np.arange(1, N + 1, dtype=np.float32), (D, 1)),
        "B": normal(S, L, N),
        "C": normal(S, L, N),
        "D": normal(D),
        "delta_bias": normal(D),
        "h0": normal(S, D, N) if initial_state else np.zeros((1, D, N), np.float32),
        "mask": (generator.random((mask_rows or 1, mask_steps or 1)) < 0.6).astype(np.float32)
        if mask_rows or mask_steps
        else np.ones((1, 1), np.float32),
    }


BASE = {"S": 5, "L": 9, "D": 7, "N": 16}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {},  # odd sizes
        {"L": 1},  # first step is also the last
        {"S": 1},
        {"D": 1},
        {"N": 4},
        {"N": 8},
        {"N": 32},
        {"L": 300},  # a full cross-track line
        {"initial_state": False},  # one zero row broadcasts over the sequences
        {"mask_rows": 5, "mask_steps": 9},
        {"mask_steps": 9},  # a lost line: all sequences hold
        {"mask_rows": 5},  # an expert that is off: all steps hold
        {"delta_mean": -14.0},  # steps near 1e-6, where log(1 + z) would have lost its digits
        {"delta_mean": 30.0},  # softplus is the identity
    ],
    ids=str,
)
def test_the_scan_equals_the_reference(scan_sessions, assert_scan_equals_reference, change, reverse):
    inputs = scan_inputs(seed=0, **(BASE | change))
    assert_scan_equals_reference(*scan_sessions[reverse].run(["y", "h"], inputs), inputs, reverse)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    S=st.integers(1, 17),
    L=st.integers(1, 20),
    D=st.integers(1, 9),
    N=st.sampled_from([1, 4, 8, 16, 32]),
    initial_state=st.booleans(),
    mask=st.sampled_from(["none", "sequences", "steps", "both"]),
    reverse=st.booleans(),
)
def test_the_scan_equals_the_reference_for_any_shape(
    scan_sessions, assert_scan_equals_reference, seed, S, L, D, N, initial_state, mask, reverse
):
    mask_rows = S if mask in ("sequences", "both") else None
    mask_steps = L if mask in ("steps", "both") else None
    inputs = scan_inputs(seed, S, L, D, N, initial_state, mask_rows, mask_steps)
    assert_scan_equals_reference(*scan_sessions[reverse].run(["y", "h"], inputs), inputs, reverse)


@pytest.fixture(scope="module")
def half_scan_sessions(native):
    return {reverse: session(scan_model(reverse, "float16"), native) for reverse in (False, True)}


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    S=st.integers(1, 17),
    L=st.integers(1, 20),
    D=st.integers(1, 9),
    N=st.sampled_from([1, 4, 8, 16, 32]),
    initial_state=st.booleans(),
    mask=st.sampled_from(["none", "sequences", "steps", "both"]),
    reverse=st.booleans(),
)
def test_an_fp16_scan_of_any_shape_equals_the_reference_and_keeps_a_float32_state(
    half_scan_sessions, scan_case, seed, S, L, D, N, initial_state, mask, reverse
):
    case = scan_case(
        seed,
        **{"S": S, "L": L, "D": D, "N": N},
        dtype=np.float16,
        reverse=reverse,
        initial_state=initial_state,
        mask_rows=S if mask in ("sequences", "both") else 1,
        mask_steps=L if mask in ("steps", "both") else 1,
        masked=0.4 if mask != "none" else 0.0,
    )
    y, h = half_scan_sessions[reverse].run(["y", "h"], case.inputs)
    assert (y.dtype, h.dtype) == (np.float16, np.float32)
    case.assert_close(y, h)


def test_a_float32_step_pays_nothing_for_serving_fp16_too(tmp_path):
    """The casts of the body are gone once onnxruntime has optimized it."""
    optimized = tmp_path / "optimized.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(optimized)
    model = add_functions(scan_model(False))
    scan = model.graph.node[0]  # between two others, as in a step: at the end a cast would stay to name the output
    scan.output[0] = "inner"
    model.graph.node.append(onnx.parser.parse_node("y = Neg (inner)"))
    assert {"Cast", "CastLike"} <= {node.op_type for function in model.functions for node in function.node}
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    operators = {node.op_type for node in onnx.load(optimized).graph.node}
    assert "Scan" in operators and not operators & {"Cast", "CastLike"}


@pytest.mark.parametrize("reverse", [False, True])
def test_masked_steps_hold_the_state_to_the_bit(scan_sessions, reverse):
    inputs = scan_inputs(seed=1, **BASE)
    inputs["mask"] = np.zeros((1, 1), np.float32)
    _, h = scan_sessions[reverse].run(None, inputs)
    np.testing.assert_array_equal(h, inputs["h0"])


def test_small_steps_keep_their_relative_accuracy(scan_sessions):
    inputs = scan_inputs(seed=2, **(BASE | {"S": 64, "L": 1, "delta_mean": -9.0}), initial_state=False)
    _, actual = scan_sessions[False].run(None, inputs)
    _, expected = reference.selective_scan(**inputs, reverse=False)
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=0)


def test_a_reverse_scan_is_a_forward_scan_of_flipped_steps(scan_sessions):
    inputs = scan_inputs(seed=3, **BASE)
    flipped = inputs | {name: inputs[name][:, ::-1] for name in ("u", "delta", "B", "C")}
    y, h = scan_sessions[True].run(None, inputs)
    y_flipped, h_flipped = scan_sessions[False].run(None, flipped)
    np.testing.assert_array_equal(y, y_flipped[:, ::-1])
    np.testing.assert_array_equal(h, h_flipped)


def test_a_scan_of_two_halves_that_carry_the_state_is_the_whole_scan(scan_sessions):
    inputs = scan_inputs(seed=4, **BASE)
    stepwise = ("u", "delta", "B", "C")
    whole_y, whole_h = scan_sessions[False].run(None, inputs)
    first_y, first_h = scan_sessions[False].run(None, inputs | {name: inputs[name][:, :4] for name in stepwise})
    second = inputs | {name: inputs[name][:, 4:] for name in stepwise} | {"h0": first_h}
    second_y, second_h = scan_sessions[False].run(None, second)
    np.testing.assert_array_equal(np.concatenate([first_y, second_y], axis=1), whole_y)
    np.testing.assert_array_equal(second_h, whole_h)


@pytest.fixture(scope="module")
def gate_sessions(native):
    return {k: session(gate_model(k), native) for k in (1, 2, 3)}


@settings(max_examples=60, deadline=None)
@given(
    # few distinct values: most rows hold ties
    rows=st.lists(st.lists(st.integers(-2, 2), min_size=4, max_size=4), min_size=1, max_size=6),
    k=st.sampled_from([1, 2, 3]),
)
def test_the_gate_equals_the_reference_also_where_logits_tie(gate_sessions, rows, k):
    logits = np.array(rows, np.float32)
    weights, active = gate_sessions[k].run(None, {"logits": logits})
    expected_weights, expected_active = reference.expert_gate(logits, k)
    np.testing.assert_array_equal(active, expected_active)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-6)


def test_a_tie_goes_to_the_lower_index(gate_sessions):
    _, active = gate_sessions[2].run(None, {"logits": np.zeros((1, 4), np.float32)})
    np.testing.assert_array_equal(active, [[1, 1, 0, 0]])


def test_the_gate_ranks_logits_whose_softmax_rounds_to_the_same(gate_sessions):
    # exp(-200) and exp(-150) are both zero in float32
    logits = np.array([[-200.0, -150.0, 0.0, -300.0]], np.float32)
    _, active = gate_sessions[2].run(None, {"logits": logits})
    np.testing.assert_array_equal(active, [[0, 1, 1, 0]])


def test_the_bodies_use_standard_operators_alone():
    def domains(nodes):
        for node in nodes:
            yield node.domain
            for attribute in node.attribute:
                yield from domains(attribute.g.node)

    assert {domain for function in functions() for domain in domains(function.node)} == {""}


def test_adding_functions_twice_changes_nothing_more():
    once = add_functions(scan_model(False))
    assert add_functions(once).SerializeToString() == once.SerializeToString()
    assert [(entry.domain, entry.version) for entry in once.opset_import] == [("", OPSET), (DOMAIN, 1)]
