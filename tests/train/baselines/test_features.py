"""What shallow classifiers see is held to the latency of a stream."""

from __future__ import annotations

import numpy as np
import pytest

from hyperline.train.baselines.features import block_window, blocks, blur


def test_a_streamed_blur_never_looks_past_its_block() -> None:
    components = np.random.default_rng(0).normal(size=(30, 12, 2))
    changed = components.copy()
    changed[19] += 5
    before, after = blur(components, 4.0, 8), blur(changed, 4.0, 8)
    assert np.array_equal(before[:16], after[:16])
    assert not np.allclose(before[16:24], after[16:24])


@pytest.mark.parametrize("block_lines", [8, 30, None])
def test_a_blur_keeps_a_constant(block_lines: int | None) -> None:
    assert np.allclose(blur(np.full((30, 12, 2), 3.0), 4.0, block_lines), 3.0)


def test_blocks_cover_a_strip_once_and_the_last_may_be_short() -> None:
    assert list(blocks(20, 8)) == [(0, 8), (8, 16), (16, 20)]
    assert list(blocks(20, None)) == list(blocks(20, 99)) == [(0, 20)]


def test_a_window_has_the_past_and_repeats_the_last_line_of_the_block() -> None:
    image = np.arange(20 * 5, dtype=np.float64).reshape(20, 5, 1)
    window = block_window(image, 8, 16, 3)
    assert window.shape == (14, 11, 1)
    assert np.array_equal(window[:11, 3:-3], image[5:16])
    assert np.array_equal(window[11:, 3:-3], np.repeat(image[15:16], 3, axis=0))
    assert np.array_equal(window[:, :3], np.repeat(window[:, 3:4], 3, axis=1))
    assert np.array_equal(block_window(image, 0, 8, 3)[:4, 3:-3], np.repeat(image[:1], 4, axis=0))
