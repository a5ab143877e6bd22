"""The TensorRT plugins' enqueue on a GPU, through the registry of TensorRT's lean runtime, inside a CUDA graph."""

import shutil
import struct

import numpy as np
import pytest

from hyperline.plugins import reference


@pytest.fixture
def enqueue(gpu, harness, tmp_path):
    """Runs a plugin on arrays in the operator's order; returns its outputs."""

    def run(header, arrays, outputs, under=()):
        request, answer = tmp_path / "request", tmp_path / "answer"
        request.write_bytes(
            struct.pack("<10q", *header) + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        )
        harness("enqueue", request, answer, under=under)
        data, at, results = answer.read_bytes(), 0, []
        for shape, dtype in outputs:
            count = int(np.prod(shape))
            results.append(np.frombuffer(data, dtype, count, at).reshape(shape))
            at += results[-1].nbytes
        assert at == len(data)
        return results

    return run


def scan(enqueue, case, under=()):
    S, L, D, N = case.sizes
    header = (0, case.dtype == np.float16, case.reverse, S, L, D, N, len(case.inputs["h0"]), *case.inputs["mask"].shape)
    return enqueue(header, case.inputs.values(), [((S, L, D), case.dtype), ((S, D, N), np.float32)], under)


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("L", [9, 300], ids=["direct", "chunked"])
def test_a_plugin_scans_as_the_reference(enqueue, scan_case, dtype, reverse, L):
    case = scan_case(1, L=L, dtype=dtype, reverse=reverse, mask_rows=5, mask_steps=L, masked=0.3)
    case.assert_close(*scan(enqueue, case))


def test_a_plugin_gates_as_the_reference(enqueue):
    logits = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    weights, active = enqueue((1, 0, 2, 6, 4, 0, 0, 0, 0, 0), [logits], [((6, 4), np.float32)] * 2)
    expected_weights, expected_active = reference.expert_gate(logits, 2)
    np.testing.assert_array_equal(active, expected_active)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5)


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
@pytest.mark.parametrize(
    "sizes", [{"S": 70, "L": 9, "D": 7}, {"S": 3, "L": 300, "D": 11, "N": 5}], ids=["direct", "chunked"]
)
def test_the_sanitizer_finds_nothing(enqueue, scan_case, tool, sizes):
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer of the CUDA toolkit is not on the PATH")
    case = scan_case(2, **sizes)
    case.assert_close(*scan(enqueue, case, under=(sanitizer, "--tool", tool, "--error-exitcode", "9")))
