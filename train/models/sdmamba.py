"""Block-causal SDMamba.

Source: Xu et al., Sparse Deformable Mamba for Hyperspectral Image Classification, arXiv 2504.09446 (IEEE GRSL 22): a
convolutional stem; sparse deformable sequencing (SDS), which ranks tokens by their angle to an anchor and lets Mamba
scan only a share of them; a spatial (SDSpaM) and a spectral module (SDSpeM) side by side; attention that fuses the two.

The published model cuts a patch around every pixel: its centre is the spatial anchor, and half of it lies beyond the
present. Here, after the rule of train/network.py:

- Tokens are chosen within cells of 8 x 8 pixels, which no block cuts; each pixel lies in one cell. The anchor is the
  mean token of the cell, as no pixel is its centre; it is that of the spectral module too, whose published anchor is
  drawn at random and would give two answers to one question.
- The chosen tokens of the cells are scanned across track both ways, along track from the past with a carried state,
  and along track backwards from the end of the block, with the same weights. They keep the order of lines: where the
  published order, by angle, hangs on rounding, two machines would not agree.
- A chosen token counts by how much closer it is to the anchor than the first that was left out. So the answer has no
  step where two tokens change places in the ranking, and what is chosen is learned from the loss.
- Spectral tokens are groups of channels over the pixels of a cell, as published (one channel each): a cell chooses
  its groups, and each of its pixels scans them.
- Pixels attend to those of their cell. BatchNorm is LayerNorm.

The paper was read in its abstract and a summary of its text, and its code was not found: the size of the patch, and
whether modules are stacked, is our choice.

Shape letters: T lines of a strip, R blocks in strip order, K lines in a block, W samples, P and Q cells along and
across track in a block, S pixels of a cell, C channels, G groups of channels, J tokens chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline.errors import InputError
from hyperline.train.cells import from_cells, to_cells
from hyperline.train.native_ops import fastest_ops
from hyperline.train.network import MULTIPLE, Network, NetworkConfig, Prediction, StateSpec, check_groups
from hyperline.train.ops import Ops
from hyperline.train.ssm import BlockConv, Direction, TokenMixer

CELL = MULTIPLE
# Longer than any chord of the unit sphere: what is not valid is chosen last.
_FAR = 4.0
# Chords closer to that of the first token left out than this count in proportion.
_SOFTNESS = 0.1


@dataclass(frozen=True)
class SDMambaConfig(NetworkConfig):
    """The size of a network.

    Attributes:
        channels: width of the network (paper: 256).
        share: of the tokens that are scanned (paper: 0.3).
        groups: spectral tokens into which a cell's channels are cut (paper: one a channel).
        spatial_inner: inner width of the spatial scans.
        spectral_inner: inner width of the spectral scans.
        state: size of the state of a channel.
        depth: pairs of modules, each with its fusion, one after the other.
        dropout: share of channels dropped before the head, in training.
    """

    channels: int = 64
    share: float = 0.3
    groups: int = 8
    spatial_inner: int = 64
    spectral_inner: int = 32
    state: int = 16
    depth: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_groups(self.channels, self.groups, "groups")
        if not 0 < self.share < 1 or self.chosen(self.groups) >= self.groups:
            raise InputError(
                f"a share of {self.share} leaves none of {self.groups} groups out; use a smaller one, above 0"
            )

    def chosen(self, tokens: int) -> int:
        """Return how many of so many tokens are scanned."""
        return math.ceil(self.share * tokens)


def choose(tokens: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Pick the tokens closest in angle to their mean: sparse deformable sequencing.

    Angles are compared by the chord between the tokens on the unit sphere: the same ranking, without the steepness of
    the arc cosine at 0, where float32 would rank by rounding.

    Args:
        tokens: (..., n, features), zero where not valid.
        mask: (..., n), 1 where valid.
        count: how many, fewer than n.

    Returns:
        Indices (..., count), ascending, and weights in [0, 1]: 0 for what is not valid, and for what is no closer than
        the closest token left out.
    """
    anchor = _unit(tokens.sum(-2, keepdim=True))  # the sum has the mean's direction
    chord = (_unit(tokens) - anchor).square().sum(-1).add(1e-8).sqrt()
    chord = torch.where(mask > 0, chord, _FAR)
    nearest, index = chord.topk(count + 1, dim=-1, largest=False)
    index = index[..., :count].sort(dim=-1).values
    closer = nearest[..., count:] - chord.gather(-1, index)
    return index, (closer / _SOFTNESS).clamp(0.0, 1.0)


def _unit(x: Tensor) -> Tensor:
    """Scale the vectors along the last axis to length 1; zeros stay zeros."""
    return x / x.square().sum(-1, keepdim=True).add(1e-12).sqrt()


class SpatialModule(nn.Module):
    """SDSpaM: the pixels of a cell that are most like it are scanned, and put back beside what they were."""

    def __init__(self, ops: Ops, config: SDMambaConfig) -> None:
        super().__init__()
        self.count = config.chosen(CELL * CELL)
        self.mixer = TokenMixer(ops, config.channels, config.spatial_inner, config.state, tuple(Direction))

    def forward(self, x: Tensor, mask: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Mix (R, P, Q, S, C), mask (R, P, Q, S), past (Q, inner, N); returns the same shape and the next state."""
        index, weight = choose(x, mask, self.count)  # (R, P, Q, J)
        place = index.unsqueeze(-1).expand(*index.shape, x.shape[-1])
        tokens, following = self.mixer(x.gather(3, place), mask.gather(3, index), past, weight)
        assert following is not None
        return x.scatter(3, place, tokens), following


class SpectralModule(nn.Module):
    """SDSpeM: the groups of channels that are most like the others in a cell are scanned at each of its pixels."""

    def __init__(self, ops: Ops, config: SDMambaConfig) -> None:
        super().__init__()
        self.groups = config.groups
        self.count = config.chosen(config.groups)
        both_ways = (Direction.CROSS_TRACK, Direction.CROSS_TRACK_REVERSE)
        self.position = nn.Parameter(0.02 * torch.randn(config.channels))
        self.mixer = TokenMixer(ops, config.channels // config.groups, config.spectral_inner, config.state, both_ways)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Mix (R, P, Q, S, C), mask (R, P, Q, S); returns the same shape."""
        seen = mask.unsqueeze(-1)  # (R, P, Q, S, 1)
        tokens = ((x + self.position) * seen).unflatten(-1, (self.groups, -1)).transpose(3, 4)  # (R, P, Q, G, S, C / G)
        index, weight = choose(tokens.flatten(4), torch.ones_like(tokens[..., 0, 0]), self.count)  # (R, P, Q, J)
        place = index[..., None, None].expand(*index.shape, *tokens.shape[4:])
        chosen = tokens.gather(3, place).transpose(3, 4)  # (R, P, Q, S, J, C / G)
        # the chosen groups of a pixel stand where the samples of a line do: (1, pixels, J, 1, C / G)
        lines = chosen.flatten(0, 3)[None, :, :, None]
        weights = weight.unsqueeze(3).expand(*mask.shape, self.count).flatten(0, 3)[None, :, :, None]
        valid = mask.flatten()[None, :, None, None].expand(weights.shape)
        mixed, _ = self.mixer(lines, valid, None, weights)
        mixed = mixed.view_as(chosen).transpose(3, 4)
        following: Tensor = tokens.scatter(3, place, mixed)
        return following.transpose(3, 4).flatten(4)


class Fusion(nn.Module):
    """Attention of what the spatial module says of a pixel to what the spectral one says of the pixels of its cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial_norm = nn.LayerNorm(channels)
        self.spectral_norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.project = nn.Linear(channels, channels)

    def forward(self, spatial: Tensor, spectral: Tensor, mask: Tensor) -> Tensor:
        """Fuse two (R, P, Q, S, C), mask (R, P, Q, S), into one."""
        query, spectral = self.query(self.spatial_norm(spatial)), self.spectral_norm(spectral)
        scores = query @ self.key(spectral).transpose(-1, -2) / math.sqrt(query.shape[-1])  # (R, P, Q, S, S)
        # finite, since a cell may have no valid pixel at all
        attention = torch.softmax(torch.where(mask.unsqueeze(-2) > 0, scores, -1e4), dim=-1)
        fused: Tensor = spatial + self.project(attention @ self.value(spectral) + spectral)
        return fused


class SDMamba(Network):
    """The network."""

    Config = SDMambaConfig
    config: SDMambaConfig

    def __init__(self, config: SDMambaConfig, ops: Ops | None = None) -> None:
        super().__init__(config)
        ops = fastest_ops() if ops is None else ops
        channels, depth = config.channels, config.depth
        self.stem = nn.Linear(config.components, channels)
        self.stem_norm = nn.LayerNorm(channels)
        self.conv = BlockConv(channels, groups=channels)
        self.conv_norm = nn.LayerNorm(channels)
        self.spatial = nn.ModuleList(SpatialModule(ops, config) for _ in range(depth))
        self.spectral = nn.ModuleList(SpectralModule(ops, config) for _ in range(depth))
        self.fusion = nn.ModuleList(Fusion(channels) for _ in range(depth))
        self.head = nn.Sequential(
            nn.LayerNorm(channels), nn.Dropout(config.dropout), nn.Linear(channels, config.classes)
        )

    def state_specs(self) -> list[StateSpec]:
        """List the carried tensors in the order in which a step takes and returns them."""
        scan = (MULTIPLE // CELL, self.config.spatial_inner, self.config.state)
        return [
            StateSpec("conv.line", (1, MULTIPLE, self.config.channels), 1),
            *(StateSpec(f"spatial{index}.scan", scan, 0) for index in range(self.config.depth)),
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
        around, following["conv.line"] = self.conv(full, state["conv.line"])
        full = full + F.gelu(self.conv_norm(around), approximate="tanh")

        mask = to_cells(seen, CELL)  # (R, P, Q, S, 1)
        x = to_cells(full, CELL) * mask
        mask = mask.squeeze(-1)
        for index, (spatial, spectral, fusion) in enumerate(zip(self.spatial, self.spectral, self.fusion, strict=True)):
            name = f"spatial{index}.scan"
            by_space, following[name] = spatial(x, mask, state[name])
            x = fusion(by_space, spectral(x, mask), mask) * mask.unsqueeze(-1)
        return Prediction((from_cells(self.head(x), CELL).flatten(0, 1),), following)
