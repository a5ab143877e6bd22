"""The tiny model, a scene for it, and that scene as a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_model import Tiny, save_npz, tiny_scene

from hyperline.bundle import Bundle
from hyperline.scenes import Scene


@pytest.fixture(scope="session")
def bundle(tiny: Tiny) -> Bundle:
    return tiny.bundle(4)


@pytest.fixture
def scene() -> Scene:
    return tiny_scene()


@pytest.fixture
def npz(tmp_path: Path, scene: Scene) -> Path:
    """The scene without its marks for no data, which a file of this kind may have no place for."""
    return save_npz(tmp_path / "field.npz", replace(scene, cube=np.abs(scene.cube)))
