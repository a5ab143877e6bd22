"""Which noise is whitened, as the training labels have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperline.scenes import Scene
from hyperline.train.first_layer import choose_map, scaled, unlabelled
from hyperline.train.mnf import fit_mnf
from hyperline.train.models import make_network, network_config

BANDS = 12


def scene_of(materials: np.ndarray, within: float, seed: int = 0) -> Scene:
    """Materials that differ in one direction; ``within`` a material pixels scatter along another, strong one."""
    rng = np.random.default_rng(seed)
    between, inside = np.linalg.qr(rng.normal(size=(BANDS, 2)))[0].T
    cube = 3.0 * materials[..., None] * between + within * rng.normal(size=(*materials.shape, 1)) * inside
    cube += rng.normal(0, 0.3, (*materials.shape, BANDS))
    return Scene("materials", cube.astype(np.float32), (materials + 1).astype(np.uint8))


def fields() -> np.ndarray:
    line, sample = np.mgrid[0:48, 0:48]
    return (line // 16 + sample // 16) % 2


def some_labels(scene: Scene, count: int = 12) -> np.ndarray:
    """The first pixels of each class in a drawn order."""
    rng = np.random.default_rng(3)
    train = np.zeros_like(scene.labels)
    for one in np.unique(scene.labels):
        place = np.argwhere(scene.labels == one)
        train[tuple(place[rng.permutation(len(place))[:count]].T)] = one
    return train


def test_on_wide_fields_the_scatter_within_a_field_is_whitened() -> None:
    scene = scene_of(fields(), within=15.0)
    chosen = choose_map([(scene, some_labels(scene))], 2)
    assert np.array_equal(chosen.projection, fit_mnf(scene, 2, "neighbours").projection)


def test_where_neighbours_are_of_different_materials_what_tells_them_apart_is_kept() -> None:
    checks = np.random.default_rng(1).integers(2, size=(48, 48))  # every pixel its own material
    cube = scene_of(checks, within=0.0).cube.copy()
    # a smooth light over the scene, in three more directions: the best signal to noise of neighbours
    line, sample = np.mgrid[0:48, 0:48] / 48
    light = np.stack([line, sample, line * sample], -1) @ np.random.default_rng(2).normal(size=(3, BANDS))
    scene = Scene("checks", (cube + 60 * light).astype(np.float32), (checks + 1).astype(np.uint8))
    train = some_labels(scene)
    chosen = choose_map([(scene, train)], 4)
    assert np.array_equal(chosen.projection, fit_mnf(scene, 4, "regression").projection)
    components = (scene.cube - chosen.mean) @ scaled(chosen)
    means = [components[scene.labels == one].mean(0) for one in (1, 2)]
    spread = components[scene.labels == 1].std(0)
    assert np.abs((means[0] - means[1]) / spread).max() > 1


def test_regression_finds_the_noise_of_each_band() -> None:
    rng = np.random.default_rng(0)
    bands = 5 * BANDS  # of few bands a regression would be as noisy as the band itself
    deviation = np.linspace(1, 2, bands)
    signal = 100 * rng.normal(size=(80, 80, 2)) @ rng.normal(size=(2, bands))  # texture in every pixel
    mnf = fit_mnf(Scene("texture", signal + rng.normal(size=(80, 80, bands)) * deviation), bands, "regression")
    # directions without signal have the variance of noise, which is 1 after whitening
    assert np.allclose(mnf.snr[2:], 1, atol=0.35)
    assert (mnf.snr[:2] > 100).all()


def test_components_of_noise_alone_are_scaled_down_to_nothing() -> None:
    rng = np.random.default_rng(0)
    cube = 50 * np.sin(np.arange(60)[:, None, None] / 9) * np.ones(BANDS) + rng.normal(size=(60, 60, BANDS))
    mnf = fit_mnf(Scene("one signal", cube), BANDS)
    weight = np.linalg.norm(scaled(mnf), axis=0) / np.linalg.norm(mnf.projection, axis=0)
    assert weight[1:].max() < 0.3
    assert weight[0] == pytest.approx(mnf.snr[0] ** -0.25, rel=0.01)


def test_labelled_pixels_that_are_not_valid_do_not_choose() -> None:
    scene = scene_of(fields(), within=15.0)
    train = some_labels(scene)
    holed = scene.cube.copy()
    holed[tuple(np.argwhere(train)[0])] = np.nan
    chosen = choose_map([(Scene("holed", holed, scene.labels), train)], 2)
    assert np.isfinite(chosen.projection).all()


def test_without_labels_the_map_is_that_of_the_neighbours() -> None:
    scene = scene_of(fields(), within=15.0)
    assert np.array_equal(choose_map(unlabelled(scene), 2).projection, fit_mnf(scene, 2).projection)


def test_standardised_bands_have_deviation_one() -> None:
    scene = scene_of(fields(), within=15.0)
    network = make_network(network_config("mambamoe", bands=BANDS, classes=2, channels=16, first_layer="standardise"))
    network.fit_first_layer(unlabelled(scene))
    found = network.components(torch.from_numpy(scene.cube))
    assert torch.allclose(found.flatten(0, 1).std(0), torch.ones(BANDS), atol=0.01)
    assert torch.allclose(found.flatten(0, 1).mean(0), torch.zeros(BANDS), atol=0.01)
