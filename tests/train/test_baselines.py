"""The shallow opponents are real, and held to the same latency."""

from __future__ import annotations

import numpy as np
import pytest

from hyperline.splits import random_split
from hyperline.train.baselines import BASELINES, blur, classify_baseline

from .conftest import striped_scene


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("block_lines", [None, 8])
def test_a_baseline_learns_a_simple_scene(name: str, block_lines: int | None) -> None:
    scene = striped_scene()
    assert scene.labels is not None
    split = random_split(scene.labels, 15, 0)
    right = classify_baseline(name, scene, split, block_lines) == split.test
    assert right[split.test > 0].mean() > 0.8


def test_a_streamed_blur_never_looks_past_its_block() -> None:
    components = np.random.default_rng(0).normal(size=(30, 12, 2))
    changed = components.copy()
    changed[19] += 5
    before, after = blur(components, 4.0, 8), blur(changed, 4.0, 8)
    assert np.array_equal(before[:16], after[:16])
    assert not np.allclose(before[16:24], after[16:24])


def test_a_streamed_blur_keeps_a_constant_and_equals_the_whole_blur_away_from_ends() -> None:
    assert np.allclose(blur(np.full((30, 12, 2), 3.0), 4.0, 8), 3.0)
    components = np.random.default_rng(0).normal(size=(60, 12, 2))
    assert np.allclose(blur(components, 2.0, 60)[8:-8], blur(components, 2.0)[8:-8])
