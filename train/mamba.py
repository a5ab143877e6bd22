"""Mamba's block on sequences of tokens, and the windows that networks look at pixels through.

Source: Gu and Dao, Mamba, arXiv 2312.00752, figure 3 and section 3.

Shape letters: S sequences, L tokens of a sequence, C channels of a token, I inner channels, N state size; R blocks in
strip order, K lines in a block, W samples.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline.train.ops import Ops
from hyperline.train.ssm import State, initial_decay, initial_step_bias

# Taps of the convolution along the tokens.
TAPS = 4


class SelectiveScan(nn.Module):
    """A selective scan with the projections that make its step size, B and C of what is scanned."""

    def __init__(self, ops: Ops, inner: int, state: int, rank: int) -> None:
        super().__init__()
        self.ops = ops
        self.rank = rank
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, inner, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_bias = nn.Parameter(initial_step_bias(inner))
        self.A_log = nn.Parameter(initial_decay(inner, state))
        self.D = nn.Parameter(torch.ones(inner))

    def forward(
        self, u: Tensor, mask: Tensor, past: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Scan.

        Args:
            u: (S, L, I).
            mask: (S or 1, L or 1); where it is 0 the state is held.
            past: (S, I, N), the state before the first token; None stands for zeros.
            reverse: from the last token to the first.

        Returns:
            (S, L, I), and the state after the last token (S, I, N).
        """
        state = self.A_log.shape[1]
        delta, B, C = self.x_proj(u).split([self.rank, state, state], dim=-1)
        h0 = u.new_zeros(1, *self.A_log.shape) if past is None else past
        A = -torch.exp(self.A_log)
        return self.ops.selective_scan(u, self.dt_proj(delta), A, B, C, self.D, self.dt_bias, h0, mask, reverse)


class TokenConv(nn.Module):
    """A depthwise convolution along the tokens: a sum of products, a third of the time of torch's own backwards."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(TAPS, channels).uniform_(-(TAPS**-0.5), TAPS**-0.5))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-(TAPS**-0.5), TAPS**-0.5))

    def forward(self, window: Tensor) -> Tensor:
        """Convolve (S, TAPS - 1 + L, channels) to (S, L, channels)."""
        length = window.shape[1] - TAPS + 1
        y: Tensor = self.bias
        for tap, weight in enumerate(self.weight):
            y = torch.addcmul(y, window[:, tap : tap + length], weight)
        return y


class Mamba(nn.Module):
    """Expand, convolve along the tokens before, scan from the first token to the last, gate, project."""

    def __init__(self, ops: Ops, channels: int, inner: int, state: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv = TokenConv(inner)
        self.scan = SelectiveScan(ops, inner, state, rank=math.ceil(channels / 16))
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of what one sequence carries on: the last tokens' inner channels, and the scan's state."""
        inner, state = self.scan.A_log.shape
        return {"tokens": (1, TAPS - 1, inner), "scan": (1, inner, state)}

    def forward(self, x: Tensor, mask: Tensor, past: State | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Mix tokens with those before them.

        Args:
            x: (S, L, C).
            mask: (S or 1, L or 1), 1 where the token is valid. Elsewhere the scan's state is held, and the convolution
                sees zeros.
            past: by the names of `state_shapes`, where the sequence goes on; None where it begins.

        Returns:
            (S, L, C), and what to go on from.
        """
        v, z = self.in_proj(x).chunk(2, dim=-1)  # (S, L, I)
        v = v * mask.unsqueeze(-1)
        before = v.new_zeros(v.shape[0], TAPS - 1, v.shape[2]) if past is None else past["tokens"]
        window = torch.cat([before, v], dim=1)  # (S, TAPS - 1 + L, I)
        v = F.silu(self.conv(window))
        y, h = self.scan(v, mask, None if past is None else past["scan"])
        return self.out_proj(y * F.silu(z)), {"tokens": window[:, 1 - TAPS :], "scan": h}


class WindowMean(nn.Module):
    """The mean over the valid pixels around each pixel: lines before its block from a state, none after it."""

    def __init__(self, radius: int) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, x: Tensor, mask: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Average.

        Args:
            x: (R, K, W, C), K at least the radius.
            mask: (R, K, W), 1 where valid.
            past: (radius, W, C + 1), what an earlier call returned; zeros at the start of a strip.

        Returns:
            (R, K, W, C), zero where no pixel around is valid, and the last lines for the next call: values and mask.
        """
        radius, side = self.radius, 2 * self.radius + 1
        weight = mask.unsqueeze(-1)
        x = torch.cat([x * weight, weight], dim=-1)  # (R, K, W, C + 1)
        before = past.unsqueeze(0)
        if x.shape[0] > 1:
            before = torch.cat([before, x[:-1, -radius:]])
        window = torch.cat([before, x], dim=1).permute(0, 3, 1, 2)  # (R, C + 1, radius + K, W)
        # the block ends with zeros below; both divisors of the mean cancel out
        lines = F.avg_pool2d(F.pad(window, (0, 0, 0, radius)), (side, 1), stride=1)
        mean = F.avg_pool2d(lines, (1, side), stride=1, padding=(0, radius)).permute(0, 2, 3, 1)
        values, share = mean[..., :-1], mean[..., -1:]
        return torch.where(share > 0, values / share.clamp(min=side**-2 / 2), 0.0), x[-1, -radius:]
