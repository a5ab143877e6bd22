"""Block-causal DualMamba.

Source: Sheng et al., DualMamba, arXiv 2406.07050 (IEEE TGRS 2025, doi 10.1109/TGRS.2024.3516817): an embedding, then
a cross-attention spectral-spatial Mamba module beside a lightweight spectral-spatial residual convolution module, an
adaptive global-local fusion, an MLP, and the mean over the patch before the classifier. Sizes and details not in the
paper's text are those of its published code.

The published model classifies the centre of a patch of 7 x 7 pixels, and does all its work anew for each pixel. Here
every pixel's work is done once, and the strip stands where the patch did, after the rule of train/network.py:

- The spatial Mamba scans the patch line by line from its first pixel; here it scans the strip so, with its state
  carried from the last pixel of a block to the first of the next.
- The spectral Mamba sees the centre's channels; here every pixel's, and every pixel is its own centre. The published
  tokens are single channels; here they are groups of eight, for a token costs as much as a whole pixel of the spatial
  scan, and a strip has a hundred times the pixels that are labelled.
- Means over the patch (before the spatial attention, the fusion and the classifier) are over 7 x 7 pixels around each
  pixel: lines before the block from a state, none after it.
- Convolutions see one line before the block, and none after it. The published code runs its spectral convolution along
  the samples; the paper means the channels, as here.
- BatchNorm is LayerNorm over the channels of a pixel. The grouped embedding convolves noise-whitened components, padded
  with zeros to a multiple of the groups.

Shape letters: T lines of a strip, R blocks in strip order, K lines in a block, W samples, C channels, I inner channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline.errors import InputError
from hyperline.train.mamba import SelectiveScan, WindowMean
from hyperline.train.native_ops import fastest_ops
from hyperline.train.network import MULTIPLE, Network, NetworkConfig, Prediction, StateSpec, check_groups, under
from hyperline.train.ops import Ops
from hyperline.train.ssm import BlockConv, SpectralExpert, State


@dataclass(frozen=True)
class DualMambaConfig(NetworkConfig):
    """The size of a network.

    Attributes:
        channels: width (published: 64).
        embed_groups: groups of the embedding's convolution (published: 4).
        expand: inner width of a scan, in widths of its tokens (published: 2).
        state: size of the state of a channel (published: 16).
        spectral_tokens: groups of a pixel's channels that the spectral Mamba scans (published: 64, a channel each).
        radius: of the square that stands for the published patch (published patch: 7 x 7, a radius of 3).
        mlp: width of the MLP's hidden layer, in channels (published: 4).
        dropout: share of channels dropped before the classifier, in training.
    """

    channels: int = 64
    embed_groups: int = 4
    expand: int = 2
    state: int = 16
    spectral_tokens: int = 8
    radius: int = 3
    mlp: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("embed_groups", "spectral_tokens"):
            check_groups(self.channels, getattr(self, name), name)
        if not 1 <= self.radius <= MULTIPLE:
            raise InputError(f"a radius of {self.radius} is not within a block; use 1 to {MULTIPLE}")


class SpatialMamba(nn.Module):
    """The lightweight spatial Mamba: one scan, line by line (paper, figure 3)."""

    def __init__(self, ops: Ops, config: DualMambaConfig) -> None:
        super().__init__()
        channels, inner = config.channels, config.expand * config.channels
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv = BlockConv(inner, groups=inner)
        self.scan = SelectiveScan(ops, inner, config.state, rank=math.ceil(channels / 16))
        self.norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Mix (R, K, W, C); returns the same shape and the next state."""
        v, z = self.in_proj(x).chunk(2, dim=-1)
        v, line = self.conv(v * mask.unsqueeze(-1), state["line"])
        sequence = F.silu(v).flatten(0, 2).unsqueeze(0)  # (1, R K W, I)
        y, h = self.scan(sequence, mask.flatten().unsqueeze(0), state["scan"])
        return self.out_proj(self.norm(y.view_as(z)) * F.silu(z)), {"line": line, "scan": h}


class CrossAttentionMamba(nn.Module):
    """The cross-attention spectral-spatial Mamba module (paper, section III-B)."""

    def __init__(self, ops: Ops, config: DualMambaConfig) -> None:
        super().__init__()
        channels, tokens = config.channels, config.spectral_tokens
        self.position = BlockConv(channels, groups=channels)
        self.spatial_norm = nn.LayerNorm(channels)
        self.spatial = SpatialMamba(ops, config)
        self.spectral_norm = nn.LayerNorm(channels)
        self.spectral = SpectralExpert(ops, channels, tokens, config.expand * channels // tokens, config.state)
        self.mean = WindowMean(config.radius)

    def forward(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Mix (R, K, W, C); returns the same shape and the next state."""
        place, position = self.position(x, state["position"])  # dynamic positional embedding
        x = x + place
        spatial, following = self.spatial(self.spatial_norm(x), mask, state)
        spectral = self.spectral(self.spectral_norm(x))
        around, mean = self.mean(spatial, mask, state["mean"])
        x = x + spatial * torch.softmax(spectral, dim=-1) + spectral * torch.softmax(around, dim=-1)
        return x, {"position": position, "mean": mean, **following}


class ResidualConvolution(nn.Module):
    """The lightweight spectral-spatial residual convolution module (paper, section III-C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Linear(channels, channels, bias=False), nn.LayerNorm(channels), nn.SiLU())
        self.spatial = BlockConv(channels, groups=channels)
        self.spatial_norm = nn.LayerNorm(channels)
        self.spectral = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.spectral_norm = nn.LayerNorm(channels)
        self.leave = nn.Sequential(nn.Linear(2 * channels, channels, bias=False), nn.LayerNorm(channels), nn.SiLU())

    def forward(self, x: Tensor, mask: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Mix (R, K, W, C), after the line ``past`` (1, W, C); returns the same shape and the last line."""
        y = self.enter(x) * mask.unsqueeze(-1)
        spatial, line = self.spatial(y, past)
        spectral = self.spectral(y.flatten(0, 2).unsqueeze(1)).view_as(y)  # along the channels
        both = [F.silu(self.spatial_norm(spatial)), F.silu(self.spectral_norm(spectral))]
        return x + self.leave(torch.cat(both, dim=-1)), line


class AdaptiveFusion(nn.Module):
    """The adaptive global-local fusion: a gate between both modules, from what is around (paper, section III-D)."""

    def __init__(self, channels: int, radius: int) -> None:
        super().__init__()
        self.mean = WindowMean(radius)
        self.gate = nn.Sequential(
            nn.Linear(channels, channels), nn.LayerNorm(channels), nn.ReLU(), nn.Linear(channels, 1), nn.Sigmoid()
        )

    def forward(self, wide: Tensor, local: Tensor, mask: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse two of (R, K, W, C); returns the same shape and the next state."""
        both = wide + local
        around, following = self.mean(both, mask, past)
        gate = self.gate(around)
        return both + (1 - gate) * wide + gate * local, following


class DualMamba(Network):
    """The network."""

    Config = DualMambaConfig
    config: DualMambaConfig

    def __init__(self, config: DualMambaConfig, ops: Ops | None = None) -> None:
        super().__init__(config)
        ops = fastest_ops() if ops is None else ops
        channels = config.channels
        self.padding = -config.components % config.embed_groups
        self.embed = BlockConv(config.components + self.padding, config.embed_groups, channels)
        self.embed_norm = nn.LayerNorm(channels)
        self.wide = CrossAttentionMamba(ops, config)
        self.local = ResidualConvolution(channels)
        self.fusion = AdaptiveFusion(channels, config.radius)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, config.mlp * channels),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.mlp * channels, channels),
        )
        self.head_norm = nn.LayerNorm(channels)
        self.head_mean = WindowMean(config.radius)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(channels, config.classes))

    def state_specs(self) -> list[StateSpec]:
        """List the carried tensors in the order in which a step takes and returns them."""
        config = self.config
        inner = config.expand * config.channels

        def line(name: str, channels: int) -> StateSpec:
            return StateSpec(name, (1, MULTIPLE, channels), 1)

        def mean(name: str) -> StateSpec:
            return StateSpec(name, (config.radius, MULTIPLE, config.channels + 1), 1)

        return [
            line("embed", config.components + self.padding),
            line("wide.position", config.channels),
            mean("wide.mean"),
            line("wide.line", inner),
            StateSpec("wide.scan", (1, inner, config.state), None),
            line("local", config.channels),
            mean("fusion"),
            mean("head"),
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
        seen = mask.unsqueeze(-1)
        components = F.pad(self.components(lines), (0, self.padding)).unflatten(0, (-1, block_lines))
        x, embed = self.embed(components * seen, state["embed"])
        x = F.relu(self.embed_norm(x)) * seen
        wide, carried = self.wide(x, mask, under(state, "wide"))
        local, line = self.local(x, mask, state["local"])
        x, fusion = self.fusion(wide, local, mask, state["fusion"])
        x = x + self.mlp(x)
        x, head = self.head_mean(self.head_norm(x), mask, state["head"])
        following = {"embed": embed, "local": line, "fusion": fusion, "head": head}
        following |= {f"wide.{name}": tensor for name, tensor in carried.items()}
        return Prediction((self.head(x).flatten(0, 1),), {name: following[name] for name in state})
