"""The noise-whitening map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.scenes import Scene
from hyperline.train.mnf import fit_mnf


def noisy_scene(seed: int = 0) -> Scene:
    """A signal along one direction of 5 bands that changes along track alone, and noise that differs by band."""
    rng = np.random.default_rng(seed)
    signal = np.sin(np.arange(60)[:, None] / 9) * np.ones(80)
    direction = np.array([1.0, -2, 0.5, 3, 1])
    noise = rng.normal(size=(60, 80, 5)) * [0.1, 1.0, 0.2, 2.0, 0.1]
    return Scene("noisy", 100 + 10 * signal[..., None] * direction + noise)


def test_components_are_ordered_by_signal_to_noise_and_their_noise_is_white() -> None:
    scene = noisy_scene()
    mnf = fit_mnf(scene, 5)
    components = mnf(scene.cube)
    difference = np.diff(components, axis=1).reshape(-1, 5) / np.sqrt(2)
    assert np.allclose(np.cov(difference.T), np.eye(5), atol=0.1)
    assert (np.diff(mnf.snr) <= 0).all()
    assert mnf.snr[0] > 100 and mnf.snr[1] < 2  # one direction of signal


def test_the_map_does_not_depend_on_the_units_of_a_band() -> None:
    scene = noisy_scene()
    scaled = replace(scene, cube=scene.cube * [1, 10, 0.1, 5, 2])
    one, other = fit_mnf(scene, 1)(scene.cube), fit_mnf(scaled, 1)(scaled.cube)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) > 0.999


def test_invalid_pixels_are_left_out() -> None:
    scene = noisy_scene()
    holed = np.where(np.random.default_rng(1).random((60, 80, 1)) < 0.1, np.nan, scene.cube)
    mnf = fit_mnf(replace(scene, cube=holed), 5)
    assert np.isfinite(mnf.projection).all()
    assert np.allclose(np.abs(mnf.projection[:, 0]), np.abs(fit_mnf(scene, 5).projection[:, 0]), rtol=0.2, atol=0.01)


def test_a_dead_band_does_no_harm() -> None:
    scene = noisy_scene()
    dead = replace(scene, cube=np.concatenate([scene.cube, np.full((60, 80, 1), 7.0)], axis=-1))
    assert np.isfinite(fit_mnf(dead, 6)(dead.cube)).all()


def test_too_few_valid_pixels_are_refused_with_their_number() -> None:
    scene = noisy_scene()
    with pytest.raises(InputError, match="9 valid pixels are too few"):
        fit_mnf(replace(scene, cube=scene.cube[:3, :3]), 5)


def test_several_strips_give_the_covariances_of_all_and_no_difference_across_their_border() -> None:
    scene = noisy_scene()
    # cut along track: the differences of neighbouring samples are those of the whole
    halves = [replace(scene, cube=scene.cube[:25]), replace(scene, cube=scene.cube[25:])]
    whole, both = fit_mnf(scene, 5), fit_mnf(halves, 5)
    np.testing.assert_allclose(both.projection, whole.projection, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(both.mean, whole.mean)
    # a strip of another level beside it moves signal and mean, but not the noise
    lifted = fit_mnf([scene, replace(scene, cube=scene.cube + 50)], 5)
    np.testing.assert_allclose(lifted.mean, whole.mean + 25)
    noise = [np.linalg.inv(one.projection @ one.projection.T) for one in (whole, lifted)]
    np.testing.assert_allclose(noise[1], noise[0], rtol=1e-6, atol=1e-6)
