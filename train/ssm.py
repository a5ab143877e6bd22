"""The state-space experts: selective scans across track, along track and over the spectrum.

MambaMoE (arXiv 2504.20509) mixes four spatial experts, one scan direction each, with a shared spectral
one. Here each obeys the block-causal rule: along track it sees the past through a carried state, and
anything inside the current block, never beyond.

Shape letters: R blocks in strip order, K lines in a block, W samples, C channels of the network,
I inner channels of an expert, N state size, G groups of channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline.train.ops import Ops

State = Mapping[str, Tensor]


class Direction(Enum):
    """Where a spatial expert scans. The order is the router's: expert i owns the i-th direction."""

    CROSS_TRACK = "cross_track"
    CROSS_TRACK_REVERSE = "cross_track_reverse"
    ALONG_TRACK = "along_track"
    ALONG_TRACK_REVERSE = "along_track_reverse"

    @property
    def reverse(self) -> bool:
        """Whether the scan runs from the last step to the first."""
        return self in (Direction.CROSS_TRACK_REVERSE, Direction.ALONG_TRACK_REVERSE)

    @property
    def carries_state(self) -> bool:
        """Whether the scan's state goes on from block to block."""
        return self is Direction.ALONG_TRACK

    def sequences(self, x: Tensor) -> Tensor:
        """Lay (R, K, W, ...) out as (S, L, ...), the sequences that this direction scans."""
        if self in (Direction.CROSS_TRACK, Direction.CROSS_TRACK_REVERSE):
            return x.flatten(0, 1)  # (R K, W, ...): every line
        if self is Direction.ALONG_TRACK:
            return x.flatten(0, 1).transpose(0, 1)  # (W, R K, ...): every column of the strip
        return x.transpose(1, 2).flatten(0, 1)  # (R W, K, ...): every column of a block

    def blocks(self, x: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Undo `sequences`: (S, L, ...) back to (R, K, W, ...)."""
        r, k, w = shape
        if self in (Direction.CROSS_TRACK, Direction.CROSS_TRACK_REVERSE):
            return x.reshape(r, k, *x.shape[1:])
        if self is Direction.ALONG_TRACK:
            x = x.transpose(0, 1)
            return x.reshape(r, k, *x.shape[1:])
        return x.reshape(r, w, *x.shape[1:]).transpose(1, 2)


class BlockConv(nn.Conv2d):
    """A 3x3 convolution that sees one line before its block, carried as state, and none after it."""

    def __init__(self, channels: int, groups: int = 1, outputs: int | None = None) -> None:
        super().__init__(channels, outputs or channels, 3, groups=groups)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Convolve.

        Args:
            x: (R, K, W, channels).
            past: (1, W, channels), the line before the first block; zeros at the start of a strip.

        Returns:
            (R, K, W, outputs), and the last line for the next call.
        """
        last = x[-1, -1:]  # (1, W, channels)
        before = past.unsqueeze(0)
        if x.shape[0] > 1:
            before = torch.cat([before, x[:-1, -1:]])  # (R, 1, W, channels)
        window = torch.cat([before, x], dim=1).permute(0, 3, 1, 2)  # (R, channels, K + 1, W)
        # samples: a zero on either side; lines: a zero below, where the block ends
        y = super().forward(F.pad(window, (1, 1, 0, 1)))
        return y.permute(0, 2, 3, 1), last


class SpatialExpert(nn.Module):
    """One routed expert: project down, convolve, scan in one direction, gate, project up (paper, section 3.2)."""

    def __init__(self, ops: Ops, channels: int, inner: int, state: int, direction: Direction) -> None:
        super().__init__()
        self.ops = ops
        self.direction = direction
        self.state = state
        self.rank = math.ceil(channels / 16)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv = BlockConv(inner, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner, bias=False)
        self.dt_bias = nn.Parameter(initial_step_bias(inner))
        self.A_log = nn.Parameter(initial_decay(inner, state))
        self.D = nn.Parameter(torch.ones(inner))
        self.norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def state_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Name and shape of each carried tensor; None stands for the samples at this scale."""
        inner = self.out_proj.in_features
        shapes: dict[str, tuple[int | None, ...]] = {"line": (1, None, inner)}
        if self.direction.carries_state:
            shapes["scan"] = (None, inner, self.state)
        return shapes

    def forward(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Mix along the expert's direction.

        Args:
            x: (R, K, W, C).
            mask: (R, K, W), 1 where the pixel is valid and the block's router chose this expert; elsewhere
                the step size is zero and the state is held.
            state: carried tensors by the names of `state_shapes`.

        Returns:
            (R, K, W, C), and the next state.
        """
        shape = (x.shape[0], x.shape[1], x.shape[2])
        v, z = self.in_proj(x).chunk(2, dim=-1)
        v, line = self.conv(v, state["line"])
        v = self.direction.sequences(F.silu(v))  # (S, L, I)
        delta, B, C = self.x_proj(v).split([self.rank, self.state, self.state], dim=-1)
        h0 = state["scan"] if self.direction.carries_state else v.new_zeros(1, *self.A_log.shape)
        y, h = self.ops.selective_scan(
            v,
            self.dt_proj(delta),
            -torch.exp(self.A_log),
            B,
            C,
            self.D,
            self.dt_bias,
            h0,
            self.direction.sequences(mask),
            self.direction.reverse,
        )
        y = self.norm(self.direction.blocks(y, shape)) * F.silu(z)
        following = {"line": line}
        if self.direction.carries_state:
            following["scan"] = h
        return self.out_proj(y), following


class SpectralExpert(nn.Module):
    """The shared expert: scans each pixel's channels, in groups, in both directions (paper, section 3.2).

    Its weights are learned. The published code makes them anew in every forward pass.
    """

    def __init__(self, ops: Ops, channels: int, groups: int, inner: int, state: int) -> None:
        super().__init__()
        self.ops = ops
        self.groups = groups
        self.state = state
        width = channels // groups
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, 3, padding=1, groups=inner)
        self.x_proj = nn.ModuleList(nn.Linear(inner, 1 + 2 * state, bias=False) for _ in range(2))
        self.dt_weight = nn.ParameterList(nn.Parameter(torch.rand(inner) * 2 - 1) for _ in range(2))
        self.dt_bias = nn.ParameterList(nn.Parameter(initial_step_bias(inner)) for _ in range(2))
        self.A_log = nn.ParameterList(nn.Parameter(initial_decay(inner, state)) for _ in range(2))
        self.D = nn.ParameterList(nn.Parameter(torch.ones(inner)) for _ in range(2))
        self.norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (R, K, W, C) within each pixel; returns the same shape."""
        tokens = x.unflatten(-1, (self.groups, -1)).flatten(0, 2)  # (R K W, G, C / G)
        v, z = self.in_proj(tokens).chunk(2, dim=-1)
        v = F.silu(self.conv(v.transpose(1, 2)).transpose(1, 2))  # (S, G, I)
        y = self._scan(v, 0) + self._scan(v, 1)
        mixed: Tensor = self.out_proj(self.norm(y) * F.silu(z)).flatten(1)
        return mixed.view_as(x)

    def _scan(self, v: Tensor, side: int) -> Tensor:
        delta, B, C = self.x_proj[side](v).split([1, self.state, self.state], dim=-1)
        y, _ = self.ops.selective_scan(
            v,
            delta * self.dt_weight[side],
            -torch.exp(self.A_log[side]),
            B,
            C,
            self.D[side],
            self.dt_bias[side],
            v.new_zeros(1, *self.A_log[side].shape),
            v.new_ones(1, 1),
            side == 1,
        )
        return y


def initial_decay(inner: int, state: int) -> Tensor:
    """Return log(1 .. N) for each channel: Mamba's S4D-real start of A. Shape (inner, state)."""
    return torch.log(torch.arange(1, state + 1, dtype=torch.float32)).repeat(inner, 1)


def initial_step_bias(inner: int) -> Tensor:
    """Draw biases whose softplus is log-uniform in [0.001, 0.1] (Mamba's start of delta). Shape (inner,)."""
    step = torch.exp(torch.rand(inner) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
    return step + torch.log(-torch.expm1(-step))


class TokenMixer(nn.Module):
    """Mamba on tokens: normalise, scan in several directions with the same weights, average, gate, project, add.

    The convolution of Mamba is left out, as in the published code of SS-Mamba (arXiv 2404.18401), which scans both ways
    with one set of weights too. Since weights are shared, projections are computed once for all directions.
    """

    def __init__(self, ops: Ops, channels: int, inner: int, state: int, directions: tuple[Direction, ...]) -> None:
        super().__init__()
        self.ops = ops
        self.directions = directions
        self.state = state
        self.rank = math.ceil(channels / 16)
        self.norm = nn.LayerNorm(channels)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.x_proj = nn.Linear(inner, self.rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner, bias=False)
        self.dt_bias = nn.Parameter(initial_step_bias(inner))
        self.A_log = nn.Parameter(initial_decay(inner, state))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(
        self, x: Tensor, mask: Tensor, past: Tensor | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Mix tokens, of which J stand at every place; a scan takes those of a place one after the other.

        Args:
            x: (R, K, W, J, channels).
            mask: (R, K, W, J), 1 where the token is valid; elsewhere the state is held.
            past: (W, inner, N) of the scan whose direction carries a state; None where none does.
            weight: (R, K, W, J) in [0, 1]: scales a token's update, and its step size down to a millionth. A token of
                weight 0 is left as it is, and the states but for that. None stands for 1.

        Returns:
            (R, K, W, J, channels), and the next state.
        """
        v, z = self.in_proj(self.norm(x)).chunk(2, dim=-1)
        delta, B, C = self.x_proj(v).split([self.rank, self.state, self.state], dim=-1)
        delta = self.dt_proj(delta)
        if weight is not None:
            # softplus(d + log w) is w exp(d) where w is small
            delta = delta + weight.clamp(min=1e-6).log().unsqueeze(-1)
        ways, following = [], past
        for direction in self.directions:
            y, h = self._scan(direction, v, delta, B, C, mask, past)
            ways.append(self.out_norm(y))
            if direction.carries_state:
                following = h
        update = self.out_proj(torch.stack(ways).mean(0) * F.silu(z))
        return x + (update if weight is None else update * weight.unsqueeze(-1)), following

    def _scan(
        self, direction: Direction, v: Tensor, delta: Tensor, B: Tensor, C: Tensor, mask: Tensor, past: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        r, k, w, tokens = mask.shape
        u, delta, B, C, mask = (direction.sequences(one).flatten(1, 2) for one in (v, delta, B, C, mask))
        h0 = past if past is not None and direction.carries_state else v.new_zeros(1, *self.A_log.shape)
        A = -torch.exp(self.A_log)
        y, h = self.ops.selective_scan(u, delta, A, B, C, self.D, self.dt_bias, h0, mask, direction.reverse)
        return direction.blocks(y.unflatten(1, (-1, tokens)), (r, k, w)), h
