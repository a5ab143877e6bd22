"""HybridSN: three convolutions over space and spectrum, one over space, three dense layers.

Source: Roy et al., "HybridSN: exploring 3-D-2-D CNN feature hierarchy for hyperspectral image classification", IEEE
GRSL 17(2), 2020, arXiv 1902.06701, table I.
"""

from __future__ import annotations

from torch import Tensor, nn

from hyperline.train.baselines.patches import PatchRecipe

# The paper: 25 pixels, 30 components (15 on other scenes than Indian Pines), batches of 256, which its thousands of
# patches fill. Here a hundred or two train, and time on one core has a bound.
_SIDE = 13


class HybridSN(nn.Module):
    """The network; its first dense layer is a convolution as wide as what is left of a patch.

    Args:
        components: at least 13.
        classes: scores.
    """

    def __init__(self, components: int, classes: int) -> None:
        super().__init__()
        self.volume = nn.Sequential(
            nn.Conv3d(1, 8, (7, 3, 3)),
            nn.ReLU(),
            nn.Conv3d(8, 16, (5, 3, 3)),
            nn.ReLU(),
            nn.Conv3d(16, 32, (3, 3, 3)),
            nn.ReLU(),
        )
        self.plane = nn.Sequential(
            nn.Conv2d(32 * (components - 12), 64, 3),
            nn.ReLU(),
            nn.Conv2d(64, 256, _SIDE - 8),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Conv2d(256, 128, 1),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Conv2d(128, classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, components, side + a, side + b) to (N, classes, 1 + a, 1 + b)."""
        scores: Tensor = self.plane(self.volume(x.unsqueeze(1)).flatten(1, 2))
        return scores


HYBRIDSN_RECIPE = PatchRecipe(HybridSN, components=15, fewest=13, side=_SIDE, epochs=100, batch=32, learning_rate=1e-3)
