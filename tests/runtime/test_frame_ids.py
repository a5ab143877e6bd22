"""Frame ids that wrap become numbers that only grow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperline.runtime.sources.frame_ids import frames_ahead


@given(
    st.integers(0, 200_000),
    st.lists(st.integers(-32767, 32767), max_size=30),
)
def test_16_bit_ids_are_unwrapped_over_any_jump_of_less_than_half_their_range(first: int, jumps: list[int]) -> None:
    truth = first + 40 * 32767
    last_id = truth % 65535 + 1
    for jump in jumps:
        truth += jump
        frame_id = truth % 65535 + 1
        assert frames_ahead(frame_id, last_id) == jump
        last_id = frame_id


@given(st.integers(1, 2**64 - 1), st.integers(1, 2**64 - 1))
def test_64_bit_ids_are_taken_as_they_are(frame_id: int, last_id: int) -> None:
    assert frames_ahead(frame_id, last_id, wide=True) == frame_id - last_id


@pytest.mark.parametrize(
    ("frame_id", "last_id", "ahead"),
    [(1, 65535, 1), (3, 65535, 3), (65535, 1, -1), (7, 7, 0), (65536, 65535, 1), (65540, 65530, 10)],
)
def test_the_border_of_16_bits(frame_id: int, last_id: int, ahead: int) -> None:
    assert frames_ahead(frame_id, last_id) == ahead
