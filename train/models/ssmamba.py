"""Block-causal SS-Mamba.

Source: Huang, Chen and He, Spectral-Spatial Mamba for Hyperspectral Image Classification, arXiv 2404.18401 (Remote
Sensing 16(13), 2449): spatial and spectral tokens of a patch, blocks that scan each kind both ways and let each enhance
the other, the mean over the tokens, a linear classifier. Sizes and details are those of its published code.

The published model makes 81 spatial tokens of the 27 x 27 pixels around every pixel, scans them line by line, and so
does all its work anew for each pixel; half of its patch lies beyond the present. Here, after the rule of
train/network.py:

- Spatial tokens are patches of 2 x 2 pixels, and each is made once. They are scanned along the whole line both ways,
  along track from the past with a carried state, and along track backwards from the end of the block: the same
  weights in all four, as the published scans share theirs. There is no position in a window, hence no spatial
  position embedding.
- Spectral tokens stand at every pixel, as published: groups of channels over a window of 3 x 3 pixels, whose last
  line comes from the block or is not seen.
- The centre of a pixel's window is the patch it lies in, and the mean over spatial tokens is that patch alone: what
  its neighbours say has come by the scans.
- Class tokens are left out (the published classifier takes the mean of the others), and BatchNorm is LayerNorm.

Shape letters: T lines of a strip, R blocks in strip order, K lines in a block, W samples, P and Q patches along and
across track in a block, S pixels of a patch, G spectral tokens, D channels of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hyperline.train.cells import from_cells, to_cells
from hyperline.train.native_ops import fastest_ops
from hyperline.train.network import MULTIPLE, Network, NetworkConfig, Prediction, StateSpec, check_groups
from hyperline.train.ops import Ops
from hyperline.train.ssm import BlockConv, Direction, TokenMixer

PATCH = 2


@dataclass(frozen=True)
class SSMambaConfig(NetworkConfig):
    """The size of a network.

    Attributes:
        hidden: channels of the stem, from which tokens are made (published: 64, and all bands).
        channels: width of a token (published: 64).
        depth: spectral-spatial blocks (published: 4).
        spectral_tokens: tokens of a pixel, groups of channels of the stem (published: half the bands).
        spatial_inner: inner width of the scans of spatial tokens (published: 128).
        spectral_inner: inner width of the scans of spectral tokens (published: 128).
        state: size of the state of a channel (published: 16).
        dropout: share of channels dropped before the head, in training.
    """

    hidden: int = 64
    channels: int = 32
    depth: int = 2
    spectral_tokens: int = 4
    spatial_inner: int = 64
    spectral_inner: int = 32
    state: int = 16
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_groups(self.hidden, self.spectral_tokens, "spectral_tokens")


class SpectralSpatialBlock(nn.Module):
    """Both kinds of tokens mixed among themselves, then enhanced by what both say of the pixel."""

    def __init__(self, ops: Ops, config: SSMambaConfig) -> None:
        super().__init__()
        channels = config.channels
        both_ways = (Direction.CROSS_TRACK, Direction.CROSS_TRACK_REVERSE)
        self.spatial = TokenMixer(ops, channels, config.spatial_inner, config.state, tuple(Direction))
        self.spectral = TokenMixer(ops, channels, config.spectral_inner, config.state, both_ways)
        self.enhance = nn.Linear(channels, channels, bias=False)

    def forward(self, spatial: Tensor, spectral: Tensor, mask: Tensor, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mix.

        Args:
            spatial: (R, P, Q, D).
            spectral: (R, P, Q, S, G, D).
            mask: (R, P, Q, S), 1 where the pixel is valid.
            past: (Q, spatial_inner, N), of the scan along track.

        Returns:
            Both kinds of tokens, and the next state.
        """
        patches = mask.amax(-1, keepdim=True)  # (R, P, Q, 1)
        mixed, following = self.spatial(spatial.unsqueeze(3), patches, past)
        spatial = mixed.squeeze(3)
        # a pixel's tokens stand where the samples of a line do: (1, pixels, G, 1, D)
        lines = spectral.flatten(0, 3)[None, :, :, None]
        seen = mask.flatten()[None, :, None, None].expand(-1, -1, lines.shape[2], -1)
        mixed, _ = self.spectral(lines, seen)
        spectral = mixed.view_as(spectral)

        of_pixel = spectral.mean(-2)  # (R, P, Q, S, D)
        of_patch = (of_pixel * mask.unsqueeze(-1)).sum(3) / mask.sum(-1, keepdim=True).clamp(min=1.0)
        spatial_gate = torch.sigmoid(self.enhance((spatial + of_patch) / 2))
        spectral_gate = torch.sigmoid(self.enhance((spatial.unsqueeze(3) + of_pixel) / 2))
        assert following is not None
        return spatial * spatial_gate, spectral * spectral_gate.unsqueeze(-2), following


class SSMamba(Network):
    """The network."""

    Config = SSMambaConfig
    config: SSMambaConfig

    def __init__(self, config: SSMambaConfig, ops: Ops | None = None) -> None:
        super().__init__(config)
        ops = fastest_ops() if ops is None else ops
        hidden, channels, groups = config.hidden, config.channels, config.spectral_tokens
        self.stem = nn.Linear(config.components, hidden)
        self.stem_norm = nn.LayerNorm(hidden)
        self.reduce = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.LayerNorm(hidden))
        self.patches = nn.Linear(PATCH * PATCH * hidden, channels)
        self.window = BlockConv(hidden, groups=hidden)
        self.groups = nn.Linear(hidden // groups, channels)
        self.position = nn.Parameter(0.02 * torch.randn(groups, channels))
        self.blocks = nn.ModuleList(SpectralSpatialBlock(ops, config) for _ in range(config.depth))
        self.head = nn.Sequential(
            nn.LayerNorm(channels), nn.Dropout(config.dropout), nn.Linear(channels, config.classes)
        )

    def state_specs(self) -> list[StateSpec]:
        """List the carried tensors in the order in which a step takes and returns them."""
        scan = (MULTIPLE // PATCH, self.config.spatial_inner, self.config.state)
        return [
            StateSpec("window.line", (1, MULTIPLE, self.config.hidden), 1),
            *(StateSpec(f"block{index}.scan", scan, 0) for index in range(self.config.depth)),
        ]

    def forward(
        self,
        lines: Tensor,
        valid: Tensor,
        block_lines: int,
        state: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Classify a strip; see `Network.forward`."""
        if state is None:
            state = self.initial_state(valid.shape[1])
        following: dict[str, Tensor] = {}
        stem = self.stem(self.components(lines))
        seen = valid.to(stem.dtype).unflatten(0, (-1, block_lines)).unsqueeze(-1)  # (R, K, W, 1)
        full = self.stem_norm(stem).unflatten(0, (-1, block_lines)) * seen
        mask = to_cells(seen, PATCH).squeeze(-1)  # (R, P, Q, S)

        spatial = self.patches(to_cells(self.reduce(full) * seen, PATCH).flatten(3))  # (R, P, Q, D)
        window, following["window.line"] = self.window(full, state["window.line"])
        groups = to_cells(window, PATCH).unflatten(-1, (self.config.spectral_tokens, -1))
        spectral = self.groups(groups) + self.position  # (R, P, Q, S, G, D)
        for index, block in enumerate(self.blocks):
            name = f"block{index}.scan"
            spatial, spectral, following[name] = block(spatial, spectral, mask, state[name])
        scores = self.head((spatial.unsqueeze(3) + spectral.mean(-2)) / 2)  # (R, P, Q, S, classes)
        return Prediction((from_cells(scores, PATCH).flatten(0, 1),), following)
