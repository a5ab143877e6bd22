"""Block-causal MambaMoE.

Source: Xu et al., MambaMoE, arXiv 2504.20509: an encoder of three scales, at each a mixture of
state-space experts; a top-down decoder; a head a scale. The published model needs the whole scene at
least seven times over (docs/decisions.md). This one follows the rule of train/network.py.

Shape letters: T lines of a strip, R blocks in strip order, K lines in a block, W samples, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline.train.native_ops import fastest_ops
from hyperline.train.network import MULTIPLE, Network, NetworkConfig, Prediction, StateSpec, check_groups, under
from hyperline.train.ops import Ops
from hyperline.train.scales import double, pool
from hyperline.train.ssm import BlockConv, Direction, SpatialExpert, SpectralExpert, State

SCALES = 3


@dataclass(frozen=True)
class MambaMoEConfig(NetworkConfig):
    """The size of a network.

    Attributes:
        channels: width of every scale (paper: 64).
        experts: inner width of the four spatial experts, in the order of `Direction` (paper: 2, 4, 8, 16).
        top_k: spatial experts that the router picks for a block (paper: 2).
        state: size of the state of a channel (paper: 16).
        spectral_groups: tokens into which the spectral expert cuts a pixel's channels.
        spectral_inner: inner width of the spectral expert; 0 leaves it out.
        dropout: share of channels dropped before a head, in training.
    """

    channels: int = 64
    experts: tuple[int, int, int, int] = (4, 8, 16, 16)
    top_k: int = 2
    state: int = 16
    spectral_groups: int = 8
    spectral_inner: int = 16
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_groups(self.channels, self.spectral_groups, "spectral_groups")


class MixtureBlock(nn.Module):
    """MoMEB: the routed spatial experts beside the shared spectral one, then an MLP (paper, figure 3)."""

    def __init__(self, ops: Ops, config: MambaMoEConfig) -> None:
        super().__init__()
        channels = config.channels
        self.ops = ops
        self.top_k = config.top_k
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 2 * channels)
        self.router = nn.Linear(channels, len(Direction), bias=False)
        self.experts = nn.ModuleDict(
            {
                direction.value: SpatialExpert(ops, channels, inner, config.state, direction)
                for direction, inner in zip(Direction, config.experts, strict=True)
            }
        )
        self.spectral = (
            SpectralExpert(ops, channels, config.spectral_groups, config.spectral_inner, config.state)
            if config.spectral_inner
            else nn.Identity()
        )
        self.project = nn.Linear(2 * channels, channels)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(approximate="tanh"), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor, valid: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """Mix (R, K, W, C); returns the same shape, the next state, router logits and active experts."""
        spectral, spatial = self.expand(self.norm(x)).chunk(2, dim=-1)
        weight = valid.unsqueeze(-1)  # (R, K, W, 1)
        seen = weight.sum((1, 2)).clamp(min=1.0)
        routing = self.router((spatial * weight).sum((1, 2)) / seen)  # (R, experts)
        gate, active = self.ops.expert_gate(routing, self.top_k)
        mixed = spatial
        following: dict[str, Tensor] = {}
        for index, (name, expert) in enumerate(self.experts.items()):
            mask = valid * active[:, index, None, None]
            y, carried = expert(spatial, mask, under(state, name))
            mixed = mixed + y * gate[:, index, None, None, None]
            following |= {f"{name}.{key}": tensor for key, tensor in carried.items()}
        x = x + self.project(torch.cat([self.spectral(spectral), mixed], dim=-1))
        return x + self.mlp(self.mlp_norm(x)), following, routing, active


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions beside the identity: the decoder's unit."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = BlockConv(channels)
        self.second = BlockConv(channels)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Refine (R, K, W, C); returns the same shape and the next state."""
        y, first = self.first(F.relu(x), state["first"])
        y, second = self.second(F.relu(y), state["second"])
        return x + y, {"first": first, "second": second}


class Head(nn.Sequential):
    """Class scores of every pixel of a scale."""

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__(
            nn.Dropout(dropout),
            nn.Linear(channels, 2 * channels),
            nn.LayerNorm(2 * channels),
            nn.SiLU(),
            nn.Linear(2 * channels, classes),
        )


class MambaMoE(Network):
    """The network."""

    Config = MambaMoEConfig
    config: MambaMoEConfig

    def __init__(self, config: MambaMoEConfig, ops: Ops | None = None) -> None:
        super().__init__(config)
        ops = fastest_ops() if ops is None else ops
        channels = config.channels
        self.stem = nn.Linear(config.components, channels)
        self.stem_norm = nn.LayerNorm(channels)
        self.lift = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, channels), nn.LayerNorm(channels), nn.ReLU()) for _ in range(SCALES - 1)
        )
        self.encoder = nn.ModuleList(MixtureBlock(ops, config) for _ in range(SCALES))
        self.lateral = nn.ModuleList(ResidualUnit(channels) for _ in range(SCALES - 1))
        self.refine = nn.ModuleList(ResidualUnit(channels) for _ in range(SCALES))
        self.heads = nn.ModuleList(Head(channels, config.classes, config.dropout) for _ in range(SCALES))

    def state_specs(self) -> list[StateSpec]:
        """List the carried tensors in the order in which a step takes and returns them."""
        specs = []

        def add(name: str, scale: int, shape: tuple[int | None, ...]) -> None:
            samples = MULTIPLE >> (scale + 1)
            axis = shape.index(None)
            specs.append(StateSpec(name, tuple(samples if n is None else n for n in shape), axis))

        line = (1, None, self.config.channels)
        for scale, block in enumerate(self.encoder):
            for name, expert in block.experts.items():  # type: ignore[union-attr,operator]
                for key, shape in expert.state_shapes().items():
                    add(f"encoder{scale}.{name}.{key}", scale, shape)
        for part, units in (("lateral", self.lateral), ("refine", self.refine)):
            for scale in range(len(units)):
                add(f"{part}{scale}.first", scale, line)
                add(f"{part}{scale}.second", scale, line)
        return specs

    def forward(
        self,
        lines: Tensor,
        valid: Tensor,
        block_lines: int,
        state: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Classify a strip; see `Network.forward`."""
        stem = self.stem(self.components(lines))
        total, samples = valid.shape[0], valid.shape[1]
        if state is None:
            state = self.initial_state(samples)
        following: dict[str, Tensor] = {}
        mask = valid.to(stem.dtype).unflatten(0, (-1, block_lines))  # (R, K, W)
        full = F.relu(self.stem_norm(stem)).unflatten(0, (-1, block_lines)) * mask.unsqueeze(-1)

        levels, routing, active = [], [], []
        level = full
        for scale, block in enumerate(self.encoder):
            if scale:
                level = self.lift[scale - 1](level)
            level, mask = pool(level, mask)
            mixed, carried, logits, chosen = block(level, mask, under(state, f"encoder{scale}"))
            following |= {f"encoder{scale}.{key}": tensor for key, tensor in carried.items()}
            levels.append(mixed)
            routing.append(logits)
            active.append(chosen)

        scores: list[Tensor] = []
        fused: Tensor | None = None
        for scale in range(SCALES - 1, -1, -1):
            x = levels[scale]
            if fused is not None:
                x, carried = self.lateral[scale](x, under(state, f"lateral{scale}"))
                following |= {f"lateral{scale}.{key}": tensor for key, tensor in carried.items()}
                x = x + double(fused)
            fused, carried = self.refine[scale](x, under(state, f"refine{scale}"))
            following |= {f"refine{scale}.{key}": tensor for key, tensor in carried.items()}
            if scale:
                score = self.heads[scale](fused)
                for _ in range(scale + 1):
                    score = double(score)
            else:
                # The finest head sees each pixel's own spectrum beside its half-resolution surroundings.
                score = self.heads[0](double(fused) + full)
            scores.insert(0, score.flatten(0, 1))
        assert scores[0].shape[0] == total
        return Prediction(
            tuple(scores),
            {name: following[name] for name in state},
            tuple(routing),
            tuple(active),
        )
