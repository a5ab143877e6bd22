"""The CPU kernels against the reference, through the C interface."""

from __future__ import annotations

import importlib.util
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.errors import HyperlineError, InputError
from hyperline.plugins import native, reference

COMPILER = shutil.which("c++") or shutil.which("g++")
needs_library = pytest.mark.skipif(
    native.find_library(native.OPS_LIBRARY) is None and COMPILER is None,
    reason=f"{native.OPS_LIBRARY} is not built: no C++ compiler here",
)
# The wheel's kernels are tested where no torch is (tools/prove_wheel.py).
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")

Inputs = dict[str, Any]
# Every instruction set has its own vector lengths; these sizes fill them, miss them by one, or leave most idle.
SIZES = st.tuples(
    st.integers(1, 6),
    st.one_of(st.integers(1, 12), st.sampled_from((64, 65, 130, 257))),
    st.integers(1, 20) | st.sampled_from((32, 33)),
    st.sampled_from((4, 8, 16, 32)) | st.integers(1, 40),
)


@pytest.fixture(scope="module")
def library() -> native.NativeLibrary:
    return native.NativeLibrary()


def draw_inputs(
    size: tuple[int, int, int, int], seed: int, *, one_state: bool = False, mask: str = "steps", order: str = "dense"
) -> Inputs:
    """Inputs of a scan as the network makes them: steps from 1e-3 to 6, decay rates up to 16."""
    S, L, D, N = size
    rng = np.random.default_rng(seed)

    def rows(width: int) -> np.ndarray:
        normal = rng.normal(size=(S, L, width)).astype(np.float32)
        if order == "transposed":  # a scan along track: the steps of a sequence are far apart
            return np.ascontiguousarray(normal.transpose(1, 0, 2)).transpose(1, 0, 2)
        if order == "slice":  # a part of a projection: rows with something between them
            return np.concatenate([normal, np.full((S, L, 3), np.nan, np.float32)], axis=2)[:, :, :width]
        return normal

    shape = {"none": (1, 1), "sequences": (S, 1), "lines": (1, L), "steps": (S, L)}[mask]
    return {
        "u": rows(D),
        "delta": rows(D) * np.float32(2.5) - np.float32(2),
        "A": -np.exp(rng.uniform(-2.0, np.log(16), (D, N))).astype(np.float32),
        "B": rows(N),
        "C": rows(N),
        "D": rng.normal(size=D).astype(np.float32),
        "delta_bias": rng.normal(size=D).astype(np.float32),
        "h0": rng.normal(size=(1 if one_state else S, D, N)).astype(np.float32),
        "mask": np.ones(shape, np.float32) if mask == "none" else (rng.random(shape) < 0.7).astype(np.float32),
    }


def scan(
    library: native.NativeLibrary, inputs: Inputs, reverse: bool = False, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    return library.selective_scan(native.scan_inputs(**inputs, reverse=reverse), threads)


@needs_library
@settings(max_examples=200, deadline=None)
@given(
    size=SIZES,
    reverse=st.booleans(),
    one_state=st.booleans(),
    mask=st.sampled_from(("none", "sequences", "lines", "steps")),
    order=st.sampled_from(("dense", "transposed", "slice")),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_scan_is_the_reference(
    library: native.NativeLibrary,
    assert_scan_equals_reference: Callable[..., None],
    size: tuple[int, int, int, int],
    reverse: bool,
    one_state: bool,
    mask: str,
    order: str,
    threads: int,
    seed: int,
) -> None:
    inputs = draw_inputs(size, seed, one_state=one_state, mask=mask, order=order)
    y, h = scan(library, inputs, reverse, threads)
    assert_scan_equals_reference(y, h, inputs, reverse)


@needs_library
@needs_torch
@settings(max_examples=200, deadline=None)
@given(
    size=SIZES,
    reverse=st.booleans(),
    one_state=st.booleans(),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_gradients_are_those_of_torch_in_double_precision(
    library: native.NativeLibrary,
    size: tuple[int, int, int, int],
    reverse: bool,
    one_state: bool,
    threads: int,
    seed: int,
) -> None:
    import torch

    from hyperline.train.ops import TorchOps

    torch.set_num_threads(1)
    inputs = draw_inputs(size, seed, one_state=one_state)
    grad_y = np.random.default_rng(seed + 1).normal(size=inputs["u"].shape).astype(np.float32)
    got = library.selective_scan_backward(native.scan_inputs(**inputs, reverse=reverse), grad_y, threads)
    names = ("u", "delta", "A", "B", "C", "D", "delta_bias")
    tensors = {name: torch.from_numpy(array.astype(np.float64)) for name, array in inputs.items()}
    for name in names:
        tensors[name].requires_grad_()
    y, _ = TorchOps().selective_scan(**tensors, reverse=reverse)
    expected = torch.autograd.grad(y, [tensors[name] for name in names], torch.from_numpy(grad_y.astype(np.float64)))
    for name, gradient in zip(names, expected, strict=True):
        wanted = gradient.numpy()
        # A sum over all steps of all sequences may cancel: its terms are of the order of 1, and set its scale.
        terms = size[0] * size[1] if name in ("A", "D", "delta_bias") else 1
        scale = max(terms**0.5, np.abs(wanted).max())
        np.testing.assert_allclose(getattr(got, name), wanted, rtol=1e-5, atol=3e-6 * scale, err_msg=name)


@needs_library
@pytest.mark.parametrize("states", [4, 8, 16, 32, 5])
def test_masked_steps_hold_the_state_to_the_bit(library: native.NativeLibrary, states: int) -> None:
    size = (3, 70, 6, states)
    inputs = draw_inputs(size, 1, mask="none")
    inputs["h0"][0, 0, :3] = (-0.0, 1e-42, np.finfo(np.float32).max)
    inputs["mask"] = np.zeros((3, 1), np.float32)
    y, h = scan(library, inputs)
    assert h.tobytes() == inputs["h0"].tobytes()
    held = np.einsum("sdn,sln->sld", inputs["h0"][1:].astype(np.float64), inputs["C"][1:])
    np.testing.assert_allclose(y[1:], held + inputs["D"] * inputs["u"][1:], rtol=1e-5, atol=1e-5)

    # Masked steps among others: as if they were not there.
    inputs = draw_inputs(size, 2, mask="none")
    mask = (np.arange(70) % 3 > 0).astype(np.float32)
    inputs["mask"] = mask[None]
    _, with_gaps = scan(library, inputs)
    for name in ("u", "delta", "B", "C"):
        inputs[name] = inputs[name][:, mask > 0]
    inputs["mask"] = np.ones((1, 1), np.float32)
    _, without = scan(library, inputs)
    assert with_gaps.tobytes() == without.tobytes()


@needs_library
def test_a_masked_stretch_takes_no_gradient_from_what_lay_in_memory(library: native.NativeLibrary) -> None:
    """A wholly masked stretch is not staged; what the call before left on the stack must not come through."""
    size = (3, 40, 16, 16)
    inputs = draw_inputs(size, 0)
    spoilt = inputs | {"delta": np.full_like(inputs["delta"], np.nan), "mask": np.ones((1, 1), np.float32)}
    masked = inputs | {"mask": np.zeros((1, 1), np.float32)}
    grad_y = np.ones(size[:3], np.float32)
    library.selective_scan_backward(native.scan_inputs(**spoilt, reverse=False), grad_y, 1)
    got = library.selective_scan_backward(native.scan_inputs(**masked, reverse=False), grad_y, 1)
    for name in ("delta", "A", "B", "delta_bias"):
        assert not getattr(got, name).any(), name
    for name in ("u", "C", "D"):
        assert np.isfinite(getattr(got, name)).all(), name


@needs_library
def test_results_do_not_depend_on_the_number_of_threads(library: native.NativeLibrary) -> None:
    inputs = native.scan_inputs(**draw_inputs((70, 150, 17, 16), 3), reverse=True)
    grad_y = np.random.default_rng(4).normal(size=inputs.u.shape).astype(np.float32)
    y, h = library.selective_scan(inputs, 1)
    gradients = library.selective_scan_backward(inputs, grad_y, 1)
    for threads in (2, 3, 7):
        for one, other in zip(library.selective_scan(inputs, threads), (y, h), strict=True):
            assert one.tobytes() == other.tobytes()
        again = library.selective_scan_backward(inputs, grad_y, threads)
        for name in ("u", "delta", "A", "B", "C", "D", "delta_bias"):
            assert getattr(again, name).tobytes() == getattr(gradients, name).tobytes(), (threads, name)


@needs_library
def test_calls_from_several_threads_at_once_do_not_meet(library: native.NativeLibrary) -> None:
    jobs = [native.scan_inputs(**draw_inputs((40, 60, 16, 16), seed), reverse=False) for seed in range(4)]
    alone = [library.selective_scan(job, 1)[0] for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            together = pool.map(lambda job: library.selective_scan(job, 3)[0], jobs)
            assert all(a.tobytes() == b.tobytes() for a, b in zip(alone, together, strict=True))


def _scan_in_child(seed: int) -> bytes:
    inputs = native.scan_inputs(**draw_inputs((40, 60, 16, 16), seed), reverse=False)
    return native.NativeLibrary().selective_scan(inputs, 2)[0].tobytes()


@needs_library
def test_a_forked_process_has_threads_of_its_own() -> None:
    before = _scan_in_child(0)  # this process has helpers now, which a fork does not take along
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_scan_in_child, (0,)).get(timeout=20) == before


@needs_library
@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(0, 20),
    experts=st.integers(1, 12),
    k=st.integers(1, 12),
    levels=st.sampled_from((2, 5, 1000)),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_gate_is_the_reference(
    library: native.NativeLibrary, rows: int, experts: int, k: int, levels: int, seed: int
) -> None:
    # few levels: many ties, which go to the lower index
    logits = np.random.default_rng(seed).integers(-levels, levels, (rows, experts)).astype(np.float32)
    k = min(k, experts)
    weights, active = library.expert_gate(logits, k)
    expected_weights, expected_active = reference.expert_gate(logits, k)
    np.testing.assert_array_equal(active, expected_active)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-6, atol=1e-30)


@needs_library
def test_empty_scans_return_the_state_they_were_given(library: native.NativeLibrary) -> None:
    inputs = draw_inputs((3, 0, 5, 6), 0, mask="none", one_state=True)
    y, h = scan(library, inputs)
    assert y.shape == (3, 0, 5)
    np.testing.assert_array_equal(h, np.broadcast_to(inputs["h0"], h.shape))
    y, h = scan(library, draw_inputs((0, 4, 5, 6), 0, mask="none", one_state=True), threads=2)
    assert y.shape == (0, 4, 5) and h.shape == (0, 5, 6)
    gradients = library.selective_scan_backward(native.scan_inputs(**inputs, reverse=False), np.empty((3, 0, 5)))
    assert not gradients.A.any() and not gradients.D.any()


@needs_library
@pytest.mark.parametrize("name", ["u", "delta", "B", "h0", "A"])
def test_what_is_not_a_number_is_not_hidden(library: native.NativeLibrary, name: str) -> None:
    inputs = draw_inputs((2, 9, 4, 16), 5, mask="none")
    inputs[name].flat[0] = np.nan
    y, h = scan(library, inputs)
    assert np.isnan(y[0, 0]).any() and np.isnan(h[0]).any()
    assert np.isfinite(y[1]).all() or name == "A"


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")
def test_the_library_is_installed_where_a_compiler_is() -> None:
    path = native.find_library(native.OPS_LIBRARY)
    assert path is not None and path.parts[-4:] == ("hyperline", "plugins", "lib", native.OPS_LIBRARY)
    assert native.NativeLibrary().path == path


@needs_library
def test_a_loaded_library_can_be_copied_to_another_process(library: native.NativeLibrary) -> None:
    assert pickle.loads(pickle.dumps(library)).instruction_set == library.instruction_set


def test_a_library_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / native.OPS_LIBRARY
    file.write_bytes(b"no library")
    for path in (file, tmp_path / "nowhere.so"):
        with pytest.raises(HyperlineError, match=r"cannot be loaded .*install hyperline again"):
            native.NativeLibrary(path)


@needs_library
@pytest.mark.parametrize(
    ("name", "shape"),
    [("delta", (3, 5, 3)), ("B", (3, 5, 4)), ("h0", (2, 4, 6)), ("mask", (3, 4)), ("A", (4,)), ("D", (5,))],
)
def test_a_shape_that_does_not_fit_is_named(name: str, shape: tuple[int, ...]) -> None:
    inputs = draw_inputs((3, 5, 4, 6), 0) | {name: np.ones(shape, np.float32)}
    with pytest.raises(InputError, match=rf"\b{name}\b"):
        native.scan_inputs(**inputs, reverse=False)


@needs_library
def test_numbers_of_threads_and_experts_that_make_no_sense_are_refused(library: native.NativeLibrary) -> None:
    inputs = native.scan_inputs(**draw_inputs((3, 5, 4, 6), 0), reverse=False)
    with pytest.raises(InputError, match="threads"):
        library.selective_scan(inputs, 0)
    with pytest.raises(InputError, match="gradient of y"):
        library.selective_scan_backward(inputs, np.zeros((3, 5, 3), np.float32))
    for k in (0, 5):
        with pytest.raises(InputError, match="experts"):
            library.expert_gate(np.zeros((2, 4), np.float32), k)


@needs_library
def test_colours_are_bands_stretched_and_cut_and_0_where_not_valid(library: native.NativeLibrary) -> None:
    rng = np.random.default_rng(0)
    lines = rng.normal(50_000, 4000, (3, 37, 11)).astype(np.float32)
    lines[0, 0] = np.nan
    lines[0, 1], lines[0, 2] = np.inf, -np.inf
    valid = rng.random((3, 37)) < 0.7
    valid[0, :3] = True
    stretch = native.Stretch((10, 0, 5), (0.02, 0.015, 0.03), (-900.0, -620.5, -1400.0))
    colours = np.full((3, 37, 3), 77, np.uint8)
    library.colours(lines, valid, stretch, colours)
    stretched = lines[..., list(stretch.bands)] * np.float32(stretch.gain) + np.float32(stretch.offset)
    expected = np.clip(np.nan_to_num(stretched, nan=0.0, posinf=255.0, neginf=0.0), 1, 255)
    assert (
        np.abs(colours - np.where(valid[..., None], np.floor(expected), 0)).max() <= 1
    )  # of a sum rounded once or twice
    assert colours[0, :3].tolist() == [[1] * 3, [255] * 3, [1] * 3]
    assert not colours[~valid].any() and np.unique(colours).size > 50
    for wrong in (lines[:2], lines[..., ::2], lines.astype(np.float64)):
        with pytest.raises(InputError, match="do not fit each other"):
            library.colours(wrong, valid, stretch, colours)
    with pytest.raises(HyperlineError):
        library.colours(lines, valid, native.Stretch((0, 1, 11), (1, 1, 1), (0, 0, 0)), colours)


@needs_library
def test_shares_become_the_nearest_byte(library: native.NativeLibrary) -> None:
    shares = np.array([0, 1 / 255, 0.5, 1, 1.5, -0.5, np.nan, np.inf, 0.9999], np.float32)
    found = np.full(9, 77, np.uint8)
    library.shares_as_bytes(shares, found)
    assert found.tolist() == [0, 1, 128, 255, 255, 0, 0, 255, 255]
    with pytest.raises(InputError, match="do not fit"):
        library.shares_as_bytes(shares, found[:8])
