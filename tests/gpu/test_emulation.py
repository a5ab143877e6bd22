"""The CUDA kernels' algorithm on the host, under the address and undefined-behaviour sanitizers, against the reference.

The algorithm of every thread is C++ that a host compiler takes too, and its float32 arithmetic is IEEE operation by
operation: what holds here holds on the GPU. What this cannot show is a missing barrier (compute-sanitizer does,
test_plugin.py) and speed.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.plugins import reference

NO_HALF = "FP16 on the host comes with the CUDA toolkit's cuda_fp16.h, and there is no nvcc here"


@pytest.fixture(params=[np.float32, np.float16], ids=["fp32", "fp16"])
def dtype(request, emulation):
    if request.param is np.float16 and not emulation.has_half:
        pytest.skip(NO_HALF)
    return request.param


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_equals_the_reference(emulation, scan_case, scan_row, dtype, reverse):
    case = scan_case(1, **scan_row, dtype=dtype, reverse=reverse)
    case.assert_close(*emulation.scan(case))


sizes = st.fixed_dictionaries(
    {"S": st.integers(1, 40), "L": st.integers(1, 100), "D": st.integers(1, 20), "N": st.integers(1, 32)}
)


@pytest.mark.parametrize("number", [np.float32, np.float16], ids=["fp32", "fp16"])
@settings(max_examples=200, deadline=None)
@given(
    sizes=sizes,
    seed=st.integers(0, 2**32 - 1),
    reverse=st.booleans(),
    initial_state=st.booleans(),
    mask_a_sequence=st.booleans(),
    mask_a_step=st.booleans(),
    masked=st.sampled_from([0.0, 0.3, 1.0]),
    delta_mean=st.floats(-8, 3),
    steps_first=st.booleans(),
)
def test_any_scan_equals_the_reference(
    emulation,
    scan_case,
    number,
    sizes,
    seed,
    reverse,
    initial_state,
    mask_a_sequence,
    mask_a_step,
    masked,
    delta_mean,
    steps_first,
):
    if number is np.float16 and not emulation.has_half:
        pytest.skip(NO_HALF)
    case = scan_case(
        seed,
        **sizes,
        dtype=number,
        reverse=reverse,
        initial_state=initial_state,
        mask_rows=sizes["S"] if mask_a_sequence else 1,
        mask_steps=sizes["L"] if mask_a_step else 1,
        masked=masked,
        delta_mean=delta_mean,
    )
    case.assert_close(*emulation.scan(case, steps_first))


@pytest.mark.parametrize("L", [8, 200], ids=["direct", "chunked"])
def test_masked_steps_hold_the_state_to_the_bit_whatever_stands_in_them(emulation, scan_case, dtype, L):
    case = scan_case(2, S=4, L=L, D=6, dtype=dtype, mask_steps=L, masked=1.0)
    case.inputs["h0"][0, 0, 0] = -0.0
    case.inputs["u"][0, 0] = np.nan
    _, h = emulation.scan(case)
    np.testing.assert_array_equal(h.view(np.int32), case.inputs["h0"].view(np.int32))


@pytest.mark.parametrize("L", [8, 200], ids=["direct", "chunked"])
def test_masked_steps_between_valid_ones_change_no_bit(emulation, scan_case, L):
    whole = scan_case(3, S=4, L=L, D=6, mask_rows=4, mask_steps=L, masked=0.5)
    y, h = emulation.scan(whole)
    other = scan_case(3, S=4, L=L, D=6, mask_rows=4, mask_steps=L, masked=0.5)
    masked = whole.inputs["mask"] == 0
    other.inputs["delta"][masked] = 50.0
    other.inputs["B"][masked] = np.inf
    other_y, other_h = emulation.scan(other)
    np.testing.assert_array_equal(h, other_h)
    np.testing.assert_array_equal(y, other_y)


@pytest.mark.parametrize("L", [8, 200], ids=["direct", "chunked"])
def test_the_state_may_be_updated_in_place(emulation, scan_case, L):
    case = scan_case(4, L=L)
    for actual, expected in zip(emulation.scan(case, in_place=True), emulation.scan(case), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_too_many_states_are_refused(emulation, scan_case):
    assert emulation.scan(scan_case(5, N=33)) == 2


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 6),
    experts=st.integers(1, 9),
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
    ties=st.booleans(),
    spread=st.floats(0.1, 30),
)
def test_any_gate_equals_the_reference(emulation, rows, experts, data, seed, ties, spread):
    k = data.draw(st.integers(1, experts))
    logits = (np.random.default_rng(seed).standard_normal((rows, experts)) * spread).astype(np.float32)
    if ties:
        logits = np.round(logits)
    weights, active = emulation.gate(logits, k)
    expected_weights, expected_active = reference.expert_gate(logits, k)
    np.testing.assert_array_equal(active, expected_active)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5, atol=1e-9)


def test_a_gate_in_fp16_equals_the_reference(emulation, dtype):
    logits = np.random.default_rng(6).standard_normal((5, 4)).astype(dtype)
    weights, active = emulation.gate(logits, 2)
    expected_weights, expected_active = reference.expert_gate(logits, 2)
    np.testing.assert_array_equal(active, expected_active)
    np.testing.assert_allclose(weights, expected_weights, rtol=3e-3 if dtype is np.float16 else 1e-5)


@pytest.mark.parametrize("k", [0, 5])
def test_a_gate_that_keeps_none_or_more_than_there_are_is_refused(emulation, k):
    assert emulation.gate(np.zeros((2, 4), np.float32), k) == 1
