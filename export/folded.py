"""The trained network rewritten for the step: the same function of one block, with fewer passes over memory.

Training wants modules that read as the paper does; a runtime pays for every tensor that is written between them.
Three things change, and no result but for rounding:

- A chain of linear maps is multiplied out. All that a mixture block makes of its normalised input (both halves of
  the expansion, the experts' way in, the spectral convolution, the router) is linear in it, so each is one
  matrix; likewise the experts' way out and the projection after it.
- What the four spatial experts do alike they do at once: one depthwise convolution, one gate.
- A step is one block, so pixels stand in rows: (K W, C) and matrix products with their bias inside.

Shape letters: K lines in a block, W samples, C channels of the network, I inner channels of an expert, N state size,
G groups of channels, P = K W pixels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline.export.step_ops import StepOps
from hyperline.train.models.mambamoe import MambaMoE, MixtureBlock, ResidualUnit
from hyperline.train.ssm import BlockConv, Direction, SpatialExpert, SpectralExpert

# Runtimes block the channels of a convolution by the width of a vector register; other counts take a slow path.
_CHANNEL_BLOCK = 16


State = Mapping[str, Tensor]


class Affine(nn.Module):
    """A chain of linear layers multiplied out."""

    weight: Tensor
    bias: Tensor

    def __init__(self, chain: Callable[[Tensor], Tensor], inputs: int) -> None:
        """Multiply out.

        Args:
            chain: an affine map from (rows, inputs) to (rows, outputs), in float64.
            inputs: width of its input.
        """
        super().__init__()
        with torch.no_grad():
            bias = chain(torch.zeros(1, inputs, dtype=torch.float64))
            weight = chain(torch.eye(inputs, dtype=torch.float64)) - bias
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias[0].float())

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, inputs) to (rows, outputs)."""
        return torch.addmm(self.bias, x, self.weight)


class StepScan(nn.Module):
    """A selective scan with the linear maps that make its step size, B and C."""

    A: Tensor
    D: Tensor
    delta_bias: Tensor
    weight: Tensor

    def __init__(
        self,
        ops: StepOps,
        weights: tuple[Tensor, Tensor, Tensor],
        parameters: tuple[Tensor, Tensor, Tensor],
        reverse: bool,
    ) -> None:
        """Fold.

        Args:
            ops: how the scan enters the graph.
            weights: of the maps to delta (I, inputs), B (N, inputs) and C (N, inputs).
            parameters: log(-A) (I, N), D (I,) and the bias of delta (I,).
            reverse: whether the scan runs from the last step to the first.
        """
        super().__init__()
        self.ops = ops
        self.reverse = reverse
        A_log, D, delta_bias = parameters
        values = {"A": -torch.exp(A_log), "D": D, "delta_bias": delta_bias, "weight": torch.cat(weights).T}
        for name, value in values.items():
            self.register_buffer(name, value.detach().float().contiguous())

    def forward(self, u: Tensor, v: Tensor, mask: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scan.

        Args:
            u: (S, L, I), what is scanned.
            v: (S, L, inputs), what delta, B and C are made of.
            mask: (S or 1, L or 1).
            h0: (S, I, N), zeros if None.

        Returns:
            y (S, L, I) and h (S, I, N).
        """
        if h0 is None:
            h0 = self.A.new_zeros(1, *self.A.shape)
        parameters = (self.A, self.D, self.delta_bias)
        return self.ops.projected_scan(u, v @ self.weight, parameters, h0, mask, self.reverse)


class StepSpectral(nn.Module):
    """`SpectralExpert`, from a pixel's normalised channels to what it adds to the pixel."""

    leave: Tensor

    def __init__(
        self,
        ops: StepOps,
        expert: SpectralExpert,
        before: Callable[[Tensor], Tensor],
        after: Callable[[Tensor], Tensor],
        channels: int,
    ) -> None:
        """Fold into the expert what stands before and after it; all in float64."""
        super().__init__()
        self.ops = ops
        inner = expert.out_proj.in_features
        self.tokens = tokens = (expert.groups, inner)

        def enter(x: Tensor) -> tuple[Tensor, Tensor]:  # two of (rows, G, I)
            v, z = expert.in_proj(before(x).unflatten(-1, (expert.groups, -1))).chunk(2, dim=-1)
            return v, z

        def leave(y: Tensor) -> Tensor:
            return after(expert.out_proj(y.unflatten(-1, tokens)).flatten(1))

        self.v = Affine(lambda x: expert.conv(enter(x)[0].transpose(1, 2)).transpose(1, 2).flatten(1), channels)
        self.z = Affine(lambda x: enter(x)[1].flatten(1), channels)
        self.scans = nn.ModuleList()
        for side in range(2):
            weight: Tensor = expert.x_proj[side].weight  # type: ignore[assignment]
            step, B, C = weight.split([1, expert.state, expert.state])
            delta = expert.dt_weight[side].unsqueeze(1) @ step  # (I, I)
            self.scans.append(
                StepScan(
                    ops,
                    (delta, B, C),
                    (expert.A_log[side], expert.D[side], expert.dt_bias[side]),
                    reverse=side == 1,
                )
            )
        self.norm = copy.deepcopy(expert.norm).float()
        self.register_buffer("leave", Affine(leave, expert.groups * inner).weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Add to y (P, C) what the expert makes of x (P, C)."""
        u = F.silu(self.v(x)).unflatten(1, self.tokens)  # (P, G, I)
        everywhere = u.new_ones(1, 1)
        forward, backward = (scan(u, u, everywhere)[0] for scan in self.scans)
        gated = self.ops.norm(forward, self.norm, addend=backward, gate=self.z(x))
        return torch.addmm(y, gated, self.leave)


class StepMixture(nn.Module):
    """`MixtureBlock` for one block of lines."""

    widths: list[int]
    conv_weight: Tensor
    conv_bias: Tensor
    leave: Tensor
    own: Tensor

    def __init__(self, ops: StepOps, block: MixtureBlock) -> None:
        super().__init__()
        self.ops = ops
        self.top_k = block.top_k
        self.norm, self.mlp_norm = block.norm, block.mlp_norm
        exact = copy.deepcopy(block).double()
        channels = block.router.in_features
        named: dict[Direction, Any] = dict(zip(Direction, exact.experts.values(), strict=True))
        self.widths = [expert.out_proj.in_features for expert in named.values()]
        padding = (0, -sum(self.widths) % _CHANNEL_BLOCK)
        whole = sum(self.widths) + padding[1]

        def before(x: Tensor, half: int) -> Tensor:
            y: Tensor = exact.expand(x).chunk(2, dim=-1)[half]
            return y

        def after(x: Tensor, half: int) -> Tensor:
            weight: Tensor = exact.project.weight.chunk(2, dim=-1)[half]
            return F.linear(x, weight)

        def enter(x: Tensor, half: int) -> Tensor:
            spatial = before(x, 1)
            return torch.cat([expert.in_proj(spatial).chunk(2, dim=-1)[half] for expert in named.values()], dim=-1)

        def around(x: Tensor) -> Tensor:
            y = after(before(x, 1), 1) + exact.project.bias
            return y + after(before(x, 0), 0) if isinstance(exact.spectral, nn.Identity) else y

        self.router = Affine(lambda x: exact.router(before(x, 1)), channels)
        self.around = Affine(around, channels)
        self.v = Affine(lambda x: F.pad(enter(x, 0), padding), channels)
        self.z = Affine(lambda x: enter(x, 1), channels)
        self.spectral = None
        if isinstance(exact.spectral, SpectralExpert):
            self.spectral = StepSpectral(ops, exact.spectral, lambda x: before(x, 0), lambda y: after(y, 0), channels)

        self.experts = nn.ModuleDict()
        self.norms = nn.ModuleList()
        for index, (direction, expert) in enumerate(named.items()):
            # what runs along track sees only its own channels, since those are turned around for it
            first = sum(self.widths[:index])
            start = sum(self.widths[:2]) if _along_track(direction) else 0
            self.experts[direction.value] = _scan_of(ops, expert, direction, first - start, whole - start)
            self.norms.append(copy.deepcopy(expert.norm).float())

        convs = [expert.conv for expert in named.values()]
        lines = (0, 0, 0, 0, 0, 0, *padding)
        self.register_buffer("conv_weight", F.pad(torch.cat([conv.weight for conv in convs]).detach(), lines).float())
        self.register_buffer("conv_bias", F.pad(torch.cat([conv.bias for conv in convs]).detach(), padding).float())
        leave = torch.cat([after(expert.out_proj.weight.T, 1) for expert in named.values()])  # (all I, C)
        self.register_buffer("leave", leave.detach().float())
        own = torch.eye(len(named)).repeat_interleave(torch.tensor(self.widths), dim=0)  # (all I, experts)
        self.register_buffer("own", own)
        self.widen = Affine(exact.mlp[0], channels)
        self.narrow = Affine(exact.mlp[2], 4 * channels)

    def forward(self, x: Tensor, valid: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Mix x (P, C), of which valid (K, W) says what to look at.

        Returns:
            The same shape, the next state, and the experts' weights (1, experts), 0 where one is left out.
        """
        n = self.ops.norm(x, self.norm)
        weight = valid.reshape(1, -1)  # (1, P)
        weight = weight / weight.sum().clamp(min=1.0)
        share = weight.sum(1, keepdim=True)  # 1, or 0 where nothing is valid
        routing = torch.addmm(share * self.router.bias, weight @ n, self.router.weight)
        gate, active = self.ops.expert_gate(routing, self.top_k)  # (1, experts)

        y = x + self.around(n)
        if self.spectral is not None:
            y = self.spectral(n, y)
        scanned, following = self._scan(self.v(n).unflatten(0, (valid.shape[0], -1)), valid, active, state)
        leave = self.own @ gate.reshape(-1, 1) * self.leave
        x = torch.addmm(y, scanned.flatten(0, 1) * F.silu(self.z(n)), leave)
        return x + self.narrow(_gelu(self.widen(self.ops.norm(x, self.mlp_norm)))), following, gate

    def _scan(self, v: Tensor, valid: Tensor, active: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Convolve and scan v (K, W, all I and padding); returns (K, W, all I), normalised, and the next state."""
        widths = [*self.widths, v.shape[2] - sum(self.widths)]
        lines = [f"{name}.line" for name in self.experts]
        past = F.pad(torch.cat([state[name] for name in lines], dim=-1), (0, widths[-1]))
        following = dict(zip(lines, v[-1:].split(widths, dim=-1), strict=False))
        v = F.silu(_rows_of(_convolve(v, past, self.conv_weight, self.conv_bias)))
        *across, turned = v.split([*widths[:2], sum(widths[2:])], dim=-1)
        turned = turned.transpose(0, 1)  # (W, K, I)
        inputs = [*across, *turned.split(widths[2:], dim=-1)]
        chosen = active.split(1, dim=1)
        outputs = []
        for index, (name, scan) in enumerate(self.experts.items()):
            beside, mask = (v, valid) if index < 2 else (turned, valid.T)
            y, h = scan(inputs[index], beside, mask * chosen[index], state.get(f"{name}.scan"))
            norm: Any = self.norms[index]
            outputs.append(self.ops.norm(y, norm))
            if f"{name}.scan" in state:
                following[f"{name}.scan"] = h
        back = torch.cat(outputs[2:], dim=-1).transpose(0, 1)
        return torch.cat([*outputs[:2], back], dim=-1), following


class StepUnit(nn.Module):
    """`ResidualUnit` for one block of lines."""

    def __init__(self, unit: ResidualUnit) -> None:
        super().__init__()
        self.first, self.second = StepConv(unit.first), StepConv(unit.second)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Refine (K, W, C); returns the same shape and the next state."""
        y, first = self.first(F.relu(x), state["first"])
        # before the layout changes back: the runtime then does it in the convolution
        y, second = self.second(_rows_of(F.relu(y)), state["second"])
        return x + _rows_of(y), {"first": first, "second": second}


class StepConv(nn.Module):
    """`BlockConv` for one block of lines."""

    def __init__(self, conv: BlockConv) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve (K, W, C) after the line ``past`` (1, W, C); returns (1, C, K, W) and the last line."""
        return _convolve(x, past, self.weight, self.bias), x[-1:]


class StepNetwork(nn.Module):
    """`MambaMoE.classify` for one block of lines, without what only training looks at."""

    def __init__(self, network: MambaMoE, ops: StepOps) -> None:
        super().__init__()
        self.ops = ops
        self.stem_norm = network.stem_norm
        self.lift = network.lift
        self.encoder = nn.ModuleList(StepMixture(ops, block) for block in network.encoder)  # type: ignore[arg-type]
        self.lateral = nn.ModuleList(StepUnit(unit) for unit in network.lateral)  # type: ignore[arg-type]
        self.refine = nn.ModuleList(StepUnit(unit) for unit in network.refine)  # type: ignore[arg-type]
        self.heads = network.heads[:1]

    def forward(self, stem: Tensor, valid: Tensor, state: State) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Classify.

        Args:
            stem: (P, C), the output of the first two layers; anything, also NaN, in pixels that are not valid.
            valid: (K, W) bool.
            state: by the names of the network's `state_specs`.

        Returns:
            logits (P, classes), the experts' weights (scales, experts), the finest scale first, and the next state.
        """
        mask = valid.to(stem.dtype)
        full = self.ops.norm(stem, self.stem_norm, keep=mask.reshape(-1, 1))
        following: dict[str, Tensor] = {}
        level = full
        levels, gates = [], []
        for scale, block in enumerate(self.encoder):
            if scale:
                lift: Any = self.lift[scale - 1]
                level = self.ops.norm(lift[0](level), lift[1], keep=mask.reshape(-1, 1))
            level, mask = self.ops.pool(level, mask)
            mixed, carried, gate = block(level, mask, _under(state, f"encoder{scale}"))
            gates.append(gate)
            following |= {f"encoder{scale}.{key}": tensor for key, tensor in carried.items()}
            levels.append(mixed.unflatten(0, (mask.shape[0], -1)))
        fused: Tensor | None = None
        for scale in range(len(levels) - 1, -1, -1):
            x = levels[scale]
            if fused is not None:
                x, carried = self.lateral[scale](x, _under(state, f"lateral{scale}"))
                following |= {f"lateral{scale}.{key}": tensor for key, tensor in carried.items()}
                x = _add_doubled(x, fused)
            fused, carried = self.refine[scale](x, _under(state, f"refine{scale}"))
            following |= {f"refine{scale}.{key}": tensor for key, tensor in carried.items()}
        assert fused is not None
        seen = _add_doubled(full.unflatten(0, (valid.shape[0], -1)), fused)
        head: Any = self.heads[0]
        logits = head[4](self.ops.norm(head[1](seen.flatten(0, 1)), head[2], silu=True))
        return logits, torch.cat(gates), {name: following[name] for name in state}


def _scan_of(ops: StepOps, expert: SpatialExpert, direction: Direction, first: int, inputs: int) -> StepScan:
    """Make the scan of an expert whose channels start at ``first`` of ``inputs``."""
    step, B, C = expert.x_proj.weight.split([expert.rank, expert.state, expert.state])
    others = (first, inputs - first - expert.x_proj.in_features)
    delta, B, C = (F.pad(weight, others) for weight in (expert.dt_proj.weight @ step, B, C))
    return StepScan(ops, (delta, B, C), (expert.A_log, expert.D, expert.dt_bias), direction.reverse)


def _along_track(direction: Direction) -> bool:
    return direction in (Direction.ALONG_TRACK, Direction.ALONG_TRACK_REVERSE)


def _convolve(x: Tensor, past: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve x (K, W, C) by 3x3, after the line ``past`` (1, W, C); returns (1, C, K, W)."""
    window = torch.cat([past, x]).unsqueeze(0).permute(0, 3, 1, 2)  # (1, C, K + 1, W)
    # samples: a zero on either side; lines: a zero below, where the block ends
    return F.conv2d(F.pad(window, (1, 1, 0, 1)), weight, bias, groups=x.shape[2] // weight.shape[1])


def _rows_of(image: Tensor) -> Tensor:
    """Lay out (1, C, K, W) as (K, W, C)."""
    return image.permute(0, 2, 3, 1).squeeze(0)


def _add_doubled(x: Tensor, coarse: Tensor) -> Tensor:
    """Add to x (K, W, C) each pixel of (K / 2, W / 2, C) twice along track and across track."""
    lines, _, channels = x.shape
    cells = x.reshape(lines // 2, 2, -1, 2, channels)
    return (cells + coarse.unsqueeze(1).unsqueeze(3)).reshape(lines, -1, channels)


def _gelu(x: Tensor) -> Tensor:
    """Apply the tanh form of GELU, written as ONNX Runtime recognises and fuses it."""
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _under(state: State, prefix: str) -> dict[str, Tensor]:
    """Select the entries below ``prefix.`` and drop the prefix."""
    start = prefix + "."
    return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}
