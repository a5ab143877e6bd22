"""Blocks: the same whichever way the lines come."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyperline.radiometry import Radiometry
from hyperline.runtime.blocks import Block, BlockAssembler

BANDS = 3


def copied(block: Block | None) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """An assembler overwrites its block, so a test that keeps one copies it."""
    return [] if block is None else [(block.lines.copy(), block.valid.copy(), block.count)]


@given(
    block_lines=st.integers(1, 9),
    samples=st.integers(1, 19),
    multiple=st.sampled_from([1, 2, 8]),
    usable=st.lists(st.booleans(), max_size=30),
    seed=st.integers(0, 2**32),
)
def test_blocks_hold_the_strip_in_order_padded_with_invalid_zeros(
    block_lines: int, samples: int, multiple: int, usable: list[bool], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    strip = generator.integers(1, 100, (len(usable), samples, BANDS)).astype(np.float32)
    strip[generator.random((len(usable), samples)) < 0.2] = np.nan
    assembler = BlockAssembler(block_lines, Radiometry(samples, BANDS), multiple)
    blocks = []
    for values, good in zip(strip, usable, strict=True):
        blocks += copied(assembler.push(values)[0] if good else assembler.skip())
        assert assembler.pending < block_lines
    blocks += copied(assembler.flush())

    padded = -(-samples // multiple) * multiple
    rows = -(-len(usable) // block_lines) * block_lines
    valid = np.zeros((rows, padded), bool)
    valid[: len(usable), :samples] = np.isfinite(strip).all(axis=-1) & np.array(usable, bool)[:, None]
    lines = np.zeros((rows, padded, BANDS), np.float32)
    lines[: len(usable), :samples] = strip
    lines[~valid] = 0
    assert sum(count for *_, count in blocks) == len(usable)
    assert all(count == block_lines for *_, count in blocks[:-1])
    if blocks:
        np.testing.assert_array_equal(np.concatenate([block[0] for block in blocks]), lines)
        np.testing.assert_array_equal(np.concatenate([block[1] for block in blocks]), valid)
    good_pixels = sum(usable) * samples
    assert assembler.invalid_pixels == good_pixels - valid.sum()


def test_a_strip_that_ends_on_a_block_leaves_nothing_to_flush() -> None:
    assembler = BlockAssembler(2, Radiometry(1, 1), 1)
    assert assembler.push(np.ones((1, 1))) == (None, True)
    assert copied(assembler.push(np.ones((1, 1)))[0])
    assert assembler.flush() is None


def test_no_line_of_an_earlier_block_shows_through_the_last_one() -> None:
    assembler = BlockAssembler(3, Radiometry(1, 1), 1)
    for _ in range(4):
        assembler.push(np.ones((1, 1)))
    block = assembler.flush()
    assert block is not None
    assert block.lines.ravel().tolist() == [1, 0, 0]
    assert block.valid.ravel().tolist() == [True, False, False]


def test_steady_state_reuses_one_block_of_memory() -> None:
    assembler = BlockAssembler(1, Radiometry(4, 2), 8)
    first, second = assembler.push(np.ones((4, 2)))[0], assembler.push(np.ones((4, 2)))[0]
    assert first is not None
    assert second is not None
    assert np.shares_memory(first.lines, second.lines)
    assert np.shares_memory(first.valid, second.valid)


def test_a_line_that_was_damaged_leaves_a_place_as_a_lost_one_does():
    assembler = BlockAssembler(2, Radiometry(3, 2), 1)
    block, right = assembler.push(np.full((3, 2), 7.0), lambda: False)
    assert block is None and not right
    block, right = assembler.push(np.ones((3, 2)), lambda: True)
    assert block is not None and right
    assert not block.valid[0].any() and not block.lines[0].any()
    assert block.valid[1].all() and (block.lines[1] == 1).all()
    assert assembler.invalid_pixels == 0
