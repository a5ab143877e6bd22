"""Small networks and scenes that train in seconds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperline.scenes import Scene
from hyperline.train.models.mambamoe import MambaMoE, MambaMoEConfig


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def small_network(seed: int = 0, **changes: object) -> MambaMoE:
    """A network of full depth and little width, with a first layer that lets all bands through."""
    torch.manual_seed(seed)
    sizes = {"bands": 6, "classes": 3, "components": 6, "channels": 16, "experts": (4, 4, 4, 4)}
    sizes |= {"spectral_groups": 4, "spectral_inner": 4, "state": 4}
    network = MambaMoE(MambaMoEConfig(**(sizes | changes))).eval()
    network.mnf_projection.copy_(torch.randn_like(network.mnf_projection))
    return network


def striped_scene(lines: int = 40, samples: int = 30, bands: int = 6, classes: int = 3, seed: int = 0) -> Scene:
    """Fields of constant material with a little noise; a third of the pixels is unlabelled."""
    rng = np.random.default_rng(seed)
    fields = (np.arange(lines)[:, None] // 7 + np.arange(samples)[None] // 9) % classes
    spectra = rng.uniform(100, 1000, (classes, bands))
    cube = spectra[fields] + rng.normal(0, 20, (lines, samples, bands))
    labels = np.where(rng.random((lines, samples)) < 2 / 3, fields + 1, 0).astype(np.uint8)
    return Scene("stripes", cube.astype(np.float32), labels, tuple("abc")[:classes])


@pytest.fixture
def stripes() -> Scene:
    """The scene of `striped_scene`, for tests in folders below."""
    return striped_scene()
