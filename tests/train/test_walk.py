"""A walk over a strip stays among pixels that look alike."""

from __future__ import annotations

import numpy as np
import pytest

from hyperline.train.walk import Walk, walk_between, walk_within_fields

LINES, SAMPLES = 12, 16
ALL = np.ones((LINES, SAMPLES), bool)


def two_fields(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which of two fields side by side a pixel belongs to, and noisy components of it."""
    field = np.zeros((LINES, SAMPLES), dtype=int)
    field[:, SAMPLES // 2 :] = 1
    scatter = np.random.default_rng(0).normal(0, noise, (LINES, SAMPLES, 3))
    return field, (4.0 * field[..., None] + scatter).astype(np.float32)


def test_a_mean_over_walks_has_less_noise_and_keeps_the_edge() -> None:
    field, components = two_fields(noise=1.0)
    means = walk_between(components, ALL).mean_at_end(components, 0.03)
    error = np.abs(means - 4.0 * field[..., None]).mean()
    assert error < np.abs(components - 4.0 * field[..., None]).mean() / 2
    assert ((means.mean(-1) > 2) == field).all()


def test_it_is_the_solution_of_the_walk() -> None:
    """Three pixels in a line, all alike: as many equations, solved by hand."""
    values = np.array([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    found = walk_between(np.zeros((1, 3, 1)), np.ones((1, 3), bool)).mean_at_end(values, 0.01)
    step = 3 / 4  # two pairs of neighbours, so that the steps of three pixels add up to 3
    system = np.array([[step, -step, 0], [-step, 2 * step, -step], [0, -step, step]]) + 0.01 * np.eye(3)
    assert np.allclose(found[0], np.linalg.solve(system, 0.01 * values[0]), atol=1e-9)


def test_the_rarer_a_walk_ends_the_farther_it_comes() -> None:
    spike = np.zeros((LINES, SAMPLES, 1))
    spike[6, 8] = 1.0
    walk = walk_between(np.zeros((LINES, SAMPLES, 1)), ALL)
    reached = [walk.mean_at_end(spike, end)[0, 0, 0] for end in (0.3, 0.03, 0.003)]
    assert reached[0] < reached[1] < reached[2]
    assert walk.mean_at_end(spike, 0.03).sum() == pytest.approx(1.0)  # nothing is lost on the way


def test_walks_within_fields_cross_their_edge_less() -> None:
    """Noise as large as the step between the fields: it is what keeps walks apart until it has been averaged away."""
    field, components = two_fields(noise=4.0)
    first = walk_between(components, ALL)
    left = (field == 0)[..., None].astype(float)
    crossed = [
        walk.mean_at_end(left, 0.03)[field == 1].mean() for walk in (first, walk_within_fields(components, ALL, first))
    ]
    assert crossed[1] < 0.7 * crossed[0]


def test_pixels_without_a_measurement_keep_their_values_and_give_none() -> None:
    _, components = two_fields(noise=1.0)
    valid = ALL.copy()
    valid[:, 7:9] = False
    components[~valid] = 1e6
    walk = walk_between(components, valid)
    means = walk.mean_at_end(components, 0.03)
    assert np.allclose(means[~valid], 1e6)
    assert np.abs(means[valid]).max() < 10


@pytest.mark.parametrize("valid", [np.ones((1, 1), bool), np.zeros((3, 3), bool)])
def test_where_nobody_has_a_neighbour_all_stays_as_it_is(valid: np.ndarray) -> None:
    values = np.random.default_rng(0).normal(size=(*valid.shape, 2))
    first: Walk = walk_between(values, valid)
    for walk in (first, walk_within_fields(values, valid, first)):
        assert np.allclose(walk.mean_at_end(values, 0.01), values)
