"""SSFTT: two convolutions, four tokens drawn from a patch by learned attention, and one transformer layer over them.

Source: Sun et al., "Spectral-spatial feature tokenization transformer for hyperspectral image classification", IEEE
TGRS 60, 2022, and the settings of its published code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hyperline.train.baselines.patches import PatchRecipe

_SIDE = 13
_TOKENS = 4
_WIDTH = 64


class SSFTT(nn.Module):
    """The network.

    Args:
        components: at least 3.
        classes: scores.
    """

    def __init__(self, components: int, classes: int) -> None:
        super().__init__()
        self.volume = nn.Sequential(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8), nn.ReLU())
        self.plane = nn.Sequential(nn.Conv2d(8 * (components - 2), _WIDTH, 3), nn.BatchNorm2d(_WIDTH), nn.ReLU())
        self.attention = nn.Conv2d(_WIDTH, _TOKENS, 1, bias=False)
        self.value = nn.Conv2d(_WIDTH, _WIDTH, 1, bias=False)
        for tokenizer in (self.attention, self.value):
            nn.init.xavier_normal_(tokenizer.weight)  # the paper's Gaussian weights
        self.class_token = nn.Parameter(torch.zeros(1, 1, _WIDTH))
        self.position = nn.Parameter(0.02 * torch.randn(1, _TOKENS + 1, _WIDTH))
        self.dropout = nn.Dropout(0.1)
        self.encoder = nn.TransformerEncoderLayer(
            _WIDTH, nhead=8, dim_feedforward=8, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.head = nn.Linear(_WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, components, side + a, side + b) to (N, classes, 1 + a, 1 + b)."""
        features = self.plane(self.volume(x.unsqueeze(1)).flatten(1, 2))
        side = _SIDE - 4  # what two convolutions leave of a patch
        attention = _windows(self.attention(features), side)  # (N, 1 + a, 1 + b, tokens, pixels)
        value = _windows(self.value(features), side)  # (N, 1 + a, 1 + b, width, pixels)
        tokens = torch.softmax(attention, dim=-1) @ value.transpose(-1, -2)  # (N, 1 + a, 1 + b, tokens, width)
        n, height, width = tokens.shape[:3]
        tokens = tokens.reshape(-1, _TOKENS, _WIDTH)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.position
        scores: Tensor = self.head(self.encoder(self.dropout(tokens))[:, 0])
        return scores.reshape(n, height, width, -1).permute(0, 3, 1, 2)


def _windows(x: Tensor, side: int) -> Tensor:
    """(N, C, side + a, side + b) to (N, 1 + a, 1 + b, C, side * side): what every patch sees of a map."""
    return x.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5).flatten(-2)


SSFTT_RECIPE = PatchRecipe(SSFTT, components=30, fewest=3, side=_SIDE, epochs=100, batch=64, learning_rate=1e-3)
