"""Opinions carried along a strip, to pixels that look alike."""

from __future__ import annotations

import numpy as np

from hyperline.train.propagation import propagate
from hyperline.train.walk import walk_between

LINES, SAMPLES = 12, 16
NO_LABELS = np.zeros((LINES, SAMPLES), np.uint8)
ALL = np.ones((LINES, SAMPLES), bool)
FLAT = walk_between(np.zeros((LINES, SAMPLES, 1)), ALL)


def fields() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a strip of two fields side by side, and opinions that are right but for one pixel in five."""
    truth = np.zeros((LINES, SAMPLES), dtype=int)
    truth[:, SAMPLES // 2 :] = 1
    rng = np.random.default_rng(0)
    components = (4.0 * truth[..., None] + rng.normal(0, 1, (LINES, SAMPLES, 3))).astype(np.float32)
    said = np.where(rng.random(truth.shape) < 0.2, 1 - truth, truth)
    return truth, components, np.eye(3, dtype=np.float32)[said] * 0.8 + 0.2 / 3


def test_single_errors_within_a_field_go_and_its_edge_stays() -> None:
    truth, components, opinions = fields()
    assert (opinions.argmax(-1) == truth).mean() < 0.85
    carried = propagate(opinions, walk_between(components, ALL, 4.0), NO_LABELS, end=0.01)
    assert carried.dtype == np.float32 and np.allclose(carried.sum(-1), 1, atol=1e-5)
    assert (carried.argmax(-1) == truth).mean() > 0.98


def test_a_label_outweighs_the_opinions_around_it() -> None:
    opinions = np.tile(np.float32([0.6, 0.4]), (LINES, SAMPLES, 1))
    labels = NO_LABELS.copy()
    labels[5, 5] = 2
    carried = propagate(opinions, FLAT, labels, end=0.01)
    assert carried[5, 5, 1] > 0.7
    assert carried[4, 5, 1] > carried[0, 15, 1] > 0.4


def test_pixels_without_a_measurement_keep_their_opinion_and_give_none() -> None:
    _, components, opinions = fields()
    valid = ALL.copy()
    valid[:, 7:9] = False
    components[~valid] = 1e6
    walk = walk_between(components, valid)
    carried = propagate(opinions, walk, NO_LABELS, end=0.01)
    assert np.allclose(carried[~valid], opinions[~valid], atol=1e-6)
    other = opinions.copy()
    other[~valid] = [0.0, 0.0, 1.0]
    assert np.array_equal(propagate(other, walk, NO_LABELS, end=0.01)[valid], carried[valid])
