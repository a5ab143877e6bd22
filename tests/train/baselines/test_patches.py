"""Patch networks score a block in one call as they score each of its patches alone."""

from __future__ import annotations

import pytest
import torch

from hyperline.train.baselines.hybridsn import HYBRIDSN_RECIPE
from hyperline.train.baselines.patches import PatchRecipe
from hyperline.train.baselines.ssftt import SSFTT_RECIPE


@pytest.mark.parametrize("recipe", [HYBRIDSN_RECIPE, SSFTT_RECIPE])
def test_a_window_scores_like_its_patches(recipe: PatchRecipe) -> None:
    torch.manual_seed(0)
    network = recipe.make(recipe.components, 5).eval()
    window = torch.randn(1, recipe.components, recipe.side + 2, recipe.side + 3)
    with torch.no_grad():
        scores = network(window)
        assert scores.shape == (1, 5, 3, 4)
        for line in range(3):
            for sample in range(4):
                patch = window[:, :, line : line + recipe.side, sample : sample + recipe.side]
                assert torch.allclose(network(patch)[..., 0, 0], scores[..., line, sample], atol=1e-5)


def test_hybridsn_has_the_published_layers() -> None:
    # Table I at 25 pixels has 5,122,176 parameters, of which the first dense layer, 17 x 17 x 64 x 256, depends on the
    # side of the patch.
    network = HYBRIDSN_RECIPE.make(30, 16)
    left = HYBRIDSN_RECIPE.side - 8
    parameters = sum(one.numel() for one in network.parameters())
    assert parameters - left * left * 64 * 256 == 5_122_176 - 17 * 17 * 64 * 256
