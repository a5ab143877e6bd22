"""What the Python binding refuses, and how a launch without a GPU fails: no GPU needed."""

from types import SimpleNamespace

import numpy as np
import pytest

from hyperline.errors import HyperlineError, InputError
from hyperline.plugins.native_cuda import CudaLibrary


def pretend(array):
    """A host array under the interface of device arrays: good for whatever is refused before a launch."""
    interface = dict(array.__array_interface__)
    return SimpleNamespace(__cuda_array_interface__=interface, owner=array)


@pytest.fixture
def arguments(scan_case):
    case = scan_case(1, S=5, L=9, D=7, N=16)
    arrays = dict(case.inputs)
    arrays |= {"y": np.empty((5, 9, 7), np.float32), "h": np.empty((5, 7, 16), np.float32)}
    return arrays


def scan(library, arrays):
    library.selective_scan(**{name: pretend(array) for name, array in arrays.items()}, reverse=False)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("u", np.zeros((9, 7), np.float32), r"u \(S, L, D\).*not \(9, 7\)"),
        ("u", np.zeros((5, 9, 7)), "float32 or float16.*float64"),
        ("delta", np.zeros((5, 9, 8), np.float32), r"delta has shape \(5, 9, 8\); it must be \(5, 9, 7\)"),
        ("delta", np.zeros((5, 9, 7), np.float16), "delta is float16; it must be float32"),
        ("B", np.zeros((5, 9, 7), np.float32), "B has shape"),
        ("C", np.zeros((5, 9, 32), np.float32)[..., ::2], "C has gaps within its last 1 axes"),
        ("A", np.zeros((16, 7), np.float32).T, "A has gaps within its last 2 axes"),
        ("D", np.zeros(6, np.float32), "D has shape"),
        ("h0", np.zeros((4, 7, 16), np.float32), r"h0 has shape \(4, 7, 16\); it must be \(5, 7, 16\) or \(1, 7, 16\)"),
        ("mask", np.zeros((5, 8), np.float32), r"mask has shape \(5, 8\)"),
        ("mask", np.zeros((5, 9), bool), "mask is bool; it must be float32"),
        ("y", np.zeros((5, 7, 9), np.float32), "y has shape"),
        ("h", np.zeros((5, 7, 16), np.float16), "h is float16; it must be float32"),
    ],
)
def test_a_wrong_array_is_named(cuda_library, arguments, name, array, words):
    with pytest.raises(InputError, match=words):
        scan(cuda_library, arguments | {name: array})


def test_an_array_on_the_host_is_refused(cuda_library, arguments):
    with pytest.raises(InputError, match="u is ndarray, not an array on a GPU"):
        cuda_library.selective_scan(**arguments, reverse=False)


def test_too_many_states_are_refused(cuda_library, scan_case):
    case = scan_case(1, S=5, L=9, D=7, N=33)
    outputs = {"y": np.empty((5, 9, 7), np.float32), "h": np.empty((5, 7, 33), np.float32)}
    with pytest.raises(HyperlineError, match="more than 32 states"):
        scan(cuda_library, case.inputs | outputs)


@pytest.mark.parametrize("k", [0, 5])
def test_a_gate_keeps_one_to_all_experts(cuda_library, k):
    arrays = [pretend(np.zeros((2, 4), np.float32)) for _ in range(3)]
    with pytest.raises(InputError, match=f"not {k} of"):
        cuda_library.expert_gate(arrays[0], k, weights=arrays[1], active=arrays[2])


def test_without_a_gpu_a_launch_is_an_error_in_words(cuda_library, arguments):
    torch = pytest.importorskip("torch", reason="torch says whether there is a GPU")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(HyperlineError, match=r"the GPU operator was not started: .*CUDA"):
        scan(cuda_library, arguments)


def test_a_library_that_is_none_is_refused(tmp_path):
    (tmp_path / "none.so").write_bytes(b"none")
    with pytest.raises(HyperlineError, match="cannot be loaded"):
        CudaLibrary(tmp_path / "none.so")
