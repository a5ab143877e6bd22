"""What only the native operators in onnxruntime can get wrong; their arithmetic: test_onnx_functions.py."""

import logging

import numpy as np
import onnx.parser
import onnxruntime
import pytest

from hyperline.errors import HyperlineError
from hyperline.plugins import onnxruntime_ops, reference
from hyperline.plugins.native import find_library
from hyperline.plugins.onnx_functions import OPSET, add_functions
from hyperline.plugins.onnxruntime_ops import ORT_LIBRARY, register_native_ops, try_native_ops

needs_library = pytest.mark.skipif(find_library(ORT_LIBRARY) is None, reason=f"{ORT_LIBRARY} is not installed")
RANKS = {"u": 3, "delta": 3, "A": 2, "B": 3, "C": 3, "D": 1, "delta_bias": 1, "h0": 3, "mask": 2}


STEPWISE = ("u", "delta", "B", "C", "y")


def scan_model(outputs="y, h", number="float"):
    types = dict.fromkeys((*RANKS, "h"), "float") | dict.fromkeys(STEPWISE, number)
    # shapes are left open, so that only the operator itself can look at them
    inputs = ", ".join(
        f"{types[name]}[{', '.join(name + str(i) for i in range(rank))}] {name}" for name, rank in RANKS.items()
    )
    declared = ", ".join(f"{types[name]}[{name}0, {name}1, {name}2] {name}" for name in ("y", "h") if name in outputs)
    return onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : {OPSET}, "hyperline" : 1]>
        scan ({inputs}) => ({declared})
        {{ {outputs} = hyperline.SelectiveScan <reverse: int = 0> ({", ".join(RANKS)}) }}"""
    )


def scan_inputs(S=6, L=5, D=4, N=8):
    generator = np.random.default_rng(0)
    shapes = {"u": (S, L, D), "delta": (S, L, D), "B": (S, L, N), "C": (S, L, N), "D": (D,), "delta_bias": (D,)}
    made = {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    made["A"] = -generator.uniform(1, 16, (D, N)).astype(np.float32)
    made["h0"] = generator.standard_normal((S, D, N), dtype=np.float32)
    made["mask"] = (generator.random((S, L)) < 0.7).astype(np.float32)
    return made


def native_session(model, threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what is refused here is refused on purpose
    register_native_ops(options)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@needs_library
def test_a_registered_operator_wins_over_the_function_body_of_its_name():
    model = add_functions(scan_model())
    body = next(function for function in model.functions if function.name == "SelectiveScan")
    next(node for node in body.node if node.output[0] == "y").op_type = "Sub"  # a body that is wrong
    y, _ = native_session(model).run(None, scan_inputs())
    expected, _ = reference.selective_scan(**scan_inputs(), reverse=False)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


@needs_library
def test_a_last_state_that_nobody_reads_may_be_left_out():
    whole, without = native_session(scan_model()), native_session(scan_model('y, ""'))
    many = scan_inputs(S=700)  # several parts
    np.testing.assert_array_equal(without.run(["y"], many)[0], whole.run(["y"], many)[0])


@needs_library
@pytest.mark.parametrize("shape", [(1, 5, 4, 8), (700, 5, 4, 8), (3, 300, 16, 16)])
def test_results_do_not_depend_on_the_threads_to_the_bit(shape):
    one, two = (native_session(scan_model(), threads).run(None, scan_inputs(*shape)) for threads in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_library
@pytest.mark.parametrize("shape", [(1, 5, 4, 8), (700, 5, 3, 8), (3, 300, 16, 16)])
@pytest.mark.parametrize("outputs", ["y, h", 'y, ""'])
def test_an_fp16_scan_is_the_float32_scan_rounded_to_the_bit(shape, outputs):
    inputs = scan_inputs(*shape)
    inputs |= {name: inputs[name].astype(np.float16) for name in STEPWISE if name in inputs}
    widened = {name: array.astype(np.float32) for name, array in inputs.items()}
    half, *half_h = native_session(scan_model(outputs, "float16"), threads=2).run(None, inputs)
    full, *full_h = native_session(scan_model(outputs)).run(None, widened)
    np.testing.assert_array_equal(half, full.astype(np.float16))
    for a, b in zip(half_h, full_h, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_library
def test_fp16_takes_in_every_number_and_rounds_to_the_nearest_even():
    """A scan that only passes u on, D u: each of the 65536 bit patterns in, and every rounding out."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    numbers = numbers[np.isfinite(numbers)]
    inputs = scan_inputs(S=len(numbers), L=1, D=1, N=1) | {"A": -np.ones((1, 1), np.float32)}
    inputs |= {name: np.zeros_like(inputs[name], np.float16) for name in ("delta", "B", "C")}
    inputs["u"] = numbers.reshape(-1, 1, 1)
    for scale in (1.0, 1 + 2**-11, 1 / 3, 2**-9):
        y, _ = native_session(scan_model(number="float16")).run(None, inputs | {"D": np.array([scale], np.float32)})
        with np.errstate(over="ignore"):
            expected = (numbers.astype(np.float32) * np.float32(scale)).astype(np.float16)
        np.testing.assert_array_equal(y.ravel(), expected)


@needs_library
def test_no_sequences_are_no_work():
    y, h = native_session(scan_model()).run(None, scan_inputs(S=0))
    assert y.shape == (0, 5, 4) and h.shape == (0, 4, 8)


@needs_library
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("delta", (6, 5, 3)),
        ("A", (3, 8)),
        ("B", (6, 4, 8)),
        ("C", (6, 5, 9)),
        ("D", (5,)),
        ("delta_bias", (1,)),
        ("h0", (2, 4, 8)),
        ("mask", (6, 2)),
        ("mask", (2, 5)),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(name, shape):
    with pytest.raises(Exception, match=f"SelectiveScan: .*{', '.join(map(str, shape))}"):
        native_session(scan_model()).run(None, scan_inputs() | {name: np.zeros(shape, np.float32)})


@needs_library
@pytest.mark.parametrize("k", [0, 5, -1])
def test_a_gate_that_keeps_no_expert_or_more_than_there_are_is_refused(k):
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : {OPSET}, "hyperline" : 1]>
        gate (float[r,e] logits) => (float[r,e] weights, float[r,e] active)
        {{ weights, active = hyperline.ExpertGate <k: int = {k}> (logits) }}"""
    )
    with pytest.raises(Exception, match=f"k is {k} for logits .1, 4."):
        native_session(model).run(None, {"logits": np.zeros((1, 4), np.float32)})


def test_without_the_library_one_log_line_says_so_and_how_to_get_it(monkeypatch, caplog):
    monkeypatch.setattr(onnxruntime_ops, "find_library", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert not try_native_ops(onnxruntime.SessionOptions())
    (record,) = caplog.records
    assert "function bodies" in record.message and "libonnxruntime-dev" in record.message


def test_a_library_that_onnxruntime_does_not_take_is_one_clear_error(monkeypatch, tmp_path):
    broken = tmp_path / ORT_LIBRARY
    broken.write_bytes(b"no library")
    monkeypatch.setattr(onnxruntime_ops, "find_library", lambda name: broken)
    with pytest.raises(HyperlineError, match=r"onnxruntime .* does not take .*libhyperline_ort.so.*; update"):
        register_native_ops(onnxruntime.SessionOptions())
