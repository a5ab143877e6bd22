"""Block-causal MambaHSI.

Source: Li et al., MambaHSI, arXiv 2501.04944 (IEEE TGRS 2024, doi 10.1109/TGRS.2024.3430985): an embedding of every
pixel; three encoder blocks with a pooling between each two, in which a spatial Mamba scans all pixels of the image and
a spectral Mamba the groups of channels of each, fused by two learned weights; a head. Sizes and details are those of
its published code.

The published model scans the image line by line from its first pixel to its last, which is the order in which lines
arrive: with the scan's state and the last pixels carried from block to block, that stays as it is, and its answer does
not depend on the length of blocks. What changes, after the rule of train/network.py:

- GroupNorm over the image is LayerNorm over the channels of a pixel.
- Pooling averages the valid pixels of a cell; invalid pixels hold the state of the scan.
- The published head answers for cells of 4 x 4 pixels, and its scores are interpolated over the whole image; here they
  are interpolated within the block.

Shape letters: T lines of a strip, R blocks in strip order, K lines in a block, W samples, C channels, G groups of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline.train.mamba import Mamba
from hyperline.train.native_ops import fastest_ops
from hyperline.train.network import Network, NetworkConfig, Prediction, StateSpec, check_groups, under
from hyperline.train.ops import Ops
from hyperline.train.scales import double_smoothly, pool
from hyperline.train.ssm import State

SCALES = 3


@dataclass(frozen=True)
class MambaHSIConfig(NetworkConfig):
    """The size of a network.

    Attributes:
        channels: width of every scale (published: 64).
        spectral_groups: tokens into which the spectral Mamba cuts a pixel's channels (published: 4).
        expand: inner width of a Mamba, in widths of its tokens (published: 2).
        state: size of the state of a channel (published: 16).
        head: width of the head's hidden layer (published: 128).
    """

    channels: int = 64
    spectral_groups: int = 4
    expand: int = 2
    state: int = 16
    head: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        check_groups(self.channels, self.spectral_groups, "spectral_groups")


class SpatialMamba(nn.Module):
    """SpaMB: all pixels in one sequence, line by line (paper, figure 2)."""

    def __init__(self, ops: Ops, config: MambaHSIConfig) -> None:
        super().__init__()
        self.mamba = Mamba(ops, config.channels, config.expand * config.channels, config.state)
        self.norm = nn.LayerNorm(config.channels)

    def forward(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Mix (R, K, W, C); returns the same shape and the next state."""
        y, following = self.mamba(x.flatten(0, 2).unsqueeze(0), mask.flatten().unsqueeze(0), state)
        return x + F.silu(self.norm(y.view_as(x))), following


class SpectralMamba(nn.Module):
    """SpeMB: the groups of channels of each pixel as a sequence (paper, figure 2)."""

    def __init__(self, ops: Ops, config: MambaHSIConfig) -> None:
        super().__init__()
        self.groups = config.spectral_groups
        width = config.channels // config.spectral_groups
        self.mamba = Mamba(ops, width, config.expand * width, config.state)
        self.norm = nn.LayerNorm(config.channels)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (R, K, W, C) within each pixel; returns the same shape."""
        tokens = x.unflatten(-1, (self.groups, -1)).flatten(0, 2)  # (R K W, G, C / G)
        y, _ = self.mamba(tokens, x.new_ones(1, 1))
        return x + F.silu(self.norm(y.reshape(x.shape)))


class EncoderBlock(nn.Module):
    """Both Mambas beside each other, and the spatial-spectral fusion (paper, section III-D)."""

    def __init__(self, ops: Ops, config: MambaHSIConfig) -> None:
        super().__init__()
        self.spatial = SpatialMamba(ops, config)
        self.spectral = SpectralMamba(ops, config)
        self.fusion = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Encode (R, K, W, C); returns the same shape and the next state."""
        spatial, following = self.spatial(x, mask, state)
        weight = torch.softmax(self.fusion, dim=0)
        return x + weight[0] * spatial + weight[1] * self.spectral(x), following


class MambaHSI(Network):
    """The network."""

    Config = MambaHSIConfig
    config: MambaHSIConfig

    def __init__(self, config: MambaHSIConfig, ops: Ops | None = None) -> None:
        super().__init__(config)
        ops = fastest_ops() if ops is None else ops
        self.embed = nn.Linear(config.components, config.channels)
        self.embed_norm = nn.LayerNorm(config.channels)
        self.encoder = nn.ModuleList(EncoderBlock(ops, config) for _ in range(SCALES))
        self.head = nn.Sequential(
            nn.Linear(config.channels, config.head),
            nn.LayerNorm(config.head),
            nn.SiLU(),
            nn.Linear(config.head, config.classes),
        )

    def state_specs(self) -> list[StateSpec]:
        """List the carried tensors in the order in which a step takes and returns them."""
        shapes = self.encoder[0].spatial.mamba.state_shapes()  # type: ignore[union-attr,operator]
        return [
            StateSpec(f"encoder{scale}.{name}", shape, None)
            for scale in range(SCALES)
            for name, shape in shapes.items()
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
        mask = valid.to(lines.dtype).unflatten(0, (-1, block_lines))  # (R, K, W)
        level = F.silu(self.embed_norm(self.embed(self.components(lines)))).unflatten(0, (-1, block_lines))
        level = level * mask.unsqueeze(-1)
        following: dict[str, Tensor] = {}
        for scale, block in enumerate(self.encoder):
            if scale:
                level, mask = pool(level, mask)
            level, carried = block(level, mask, under(state, f"encoder{scale}"))
            following |= {f"encoder{scale}.{name}": tensor for name, tensor in carried.items()}
        scores = self.head(level)  # (R, K / 4, W / 4, classes)
        for _ in range(SCALES - 1):
            scores = double_smoothly(scores)
        return Prediction((scores.flatten(0, 1),), following)
