"""The kernels on a GPU against the reference, and to the bit against their emulation on the host."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.plugins import reference


@pytest.fixture(params=[np.float32, np.float16], ids=["fp32", "fp16"])
def dtype(request):
    return request.param


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_equals_the_reference(gpu, scan_case, scan_row, dtype, reverse):
    case = scan_case(1, **scan_row, dtype=dtype, reverse=reverse)
    case.assert_close(*gpu.scan(case))


@pytest.mark.parametrize("number", [np.float32, np.float16], ids=["fp32", "fp16"])
@settings(max_examples=200, deadline=None)
@given(
    sizes=st.fixed_dictionaries(
        {"S": st.integers(1, 300), "L": st.integers(1, 300), "D": st.integers(1, 40), "N": st.integers(1, 32)}
    ),
    seed=st.integers(0, 2**32 - 1),
    reverse=st.booleans(),
    initial_state=st.booleans(),
    masks=st.tuples(st.booleans(), st.booleans()),
    masked=st.sampled_from([0.0, 0.3, 1.0]),
    steps_first=st.booleans(),
)
def test_any_scan_equals_the_reference(
    gpu, scan_case, number, sizes, seed, reverse, initial_state, masks, masked, steps_first
):
    case = scan_case(
        seed,
        **sizes,
        dtype=number,
        reverse=reverse,
        initial_state=initial_state,
        mask_rows=sizes["S"] if masks[0] else 1,
        mask_steps=sizes["L"] if masks[1] else 1,
        masked=masked,
    )
    case.assert_close(*gpu.scan(case, steps_first))


def test_float32_results_are_those_of_the_emulation_to_the_bit(gpu, emulation, scan_case, scan_row):
    case = scan_case(2, **scan_row)
    for actual, expected in zip(gpu.scan(case), emulation.scan(case), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("L", [8, 200], ids=["direct", "chunked"])
def test_masked_steps_hold_the_state_to_the_bit_whatever_stands_in_them(gpu, scan_case, dtype, L):
    case = scan_case(3, S=4, L=L, D=6, dtype=dtype, mask_steps=L, masked=1.0)
    case.inputs["h0"][0, 0, 0] = -0.0
    case.inputs["u"][0, 0] = np.nan
    _, h = gpu.scan(case)
    np.testing.assert_array_equal(h.view(np.int32), case.inputs["h0"].view(np.int32))


@pytest.mark.parametrize("L", [8, 200], ids=["direct", "chunked"])
def test_the_state_may_be_updated_in_place(gpu, scan_case, L):
    case = scan_case(4, L=L)
    for actual, expected in zip(gpu.scan(case, in_place=True), gpu.scan(case), strict=True):
        np.testing.assert_array_equal(actual, expected)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 500),
    experts=st.integers(1, 9),
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
    half=st.booleans(),
)
def test_any_gate_equals_the_reference(gpu, rows, experts, data, seed, half):
    k = data.draw(st.integers(1, experts))
    logits = np.random.default_rng(seed).standard_normal((rows, experts)) * 2
    logits = np.round(logits, 1).astype(np.float16 if half else np.float32)  # many ties
    weights, active = gpu.gate(logits, k)
    expected_weights, expected_active = reference.expert_gate(logits, k)
    np.testing.assert_array_equal(active, expected_active)
    np.testing.assert_allclose(weights, expected_weights, rtol=3e-3 if half else 1e-5, atol=1e-6)
