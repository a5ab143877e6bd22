"""Baselines that train in seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hyperline.scenes import Scene
from hyperline.train.baselines import hybridsn, shallow, ssftt


def fields(bands: int = 16) -> Scene:
    """Four fields of three materials with a little noise, as large as a patch; a third of the pixels is unlabelled."""
    rng = np.random.default_rng(0)
    materials = np.arange(28)[:, None] // 14 + np.arange(20)[None] // 10
    cube = rng.uniform(100, 1000, (3, bands))[materials] + rng.normal(0, 20, (28, 20, bands))
    labels = np.where(rng.random((28, 20)) < 2 / 3, materials + 1, 0).astype(np.uint8)
    return Scene("fields", cube.astype(np.float32), labels, ("a", "b", "c"))


def train_for(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Let patch networks train for so many epochs of small batches."""
    for module, name in ((hybridsn, "HYBRIDSN_RECIPE"), (ssftt, "SSFTT_RECIPE")):
        monkeypatch.setattr(module, name, replace(getattr(module, name), epochs=epochs, batch=6))


@pytest.fixture(autouse=True)
def _short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shallow, "_TREES", 20)
    train_for(monkeypatch, 3)
