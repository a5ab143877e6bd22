"""The recursive filter smooths surfaces, keeps edges, and its backward pass ends where the block does."""

from __future__ import annotations

import numpy as np

from hyperline.train.baselines.random_patches import recursive_filter


def test_a_surface_is_smoothed_and_an_edge_stands() -> None:
    step = np.zeros((24, 24, 1))
    step[:, 12:] = 1
    noisy = step + np.random.default_rng(0).normal(0, 0.02, step.shape)
    for image, edges in ((noisy, step), (noisy.swapaxes(0, 1), step.swapaxes(0, 1))):
        filtered = recursive_filter(image, 20.0, 0.1)
        assert np.abs(filtered - edges).max() < 0.06
        assert np.std(filtered - edges) < 0.4 * np.std(image - edges)


def test_a_constant_stays() -> None:
    assert np.allclose(recursive_filter(np.full((9, 7, 2), 0.4), 20.0, 0.1, 4), 0.4)


def test_a_line_sees_all_of_its_block_and_nothing_after_it() -> None:
    image = np.random.default_rng(0).random((20, 6, 2))
    changed = image.copy()
    changed[15] += 0.1
    before, after = recursive_filter(image, 20.0, 1.0, 8), recursive_filter(changed, 20.0, 1.0, 8)
    assert np.array_equal(before[:8], after[:8])
    assert (np.abs(before - after)[8:] > 0).any(axis=(1, 2)).all()
