"""Block-causal MambaMoE: one definition that runs a whole scene and streams it block by block.

Source: Xu et al., MambaMoE, arXiv 2504.20509: an encoder of three scales, at each a mixture of
state-space experts; a top-down decoder; a head a scale. The published model needs the whole scene at
least seven times over (docs/decisions.md). This one follows a single rule:

    Along track, an operation may look at the past, through explicit state, and anywhere inside the
    current block. It never looks past the block.

With the whole scene as one block it is the paper's bidirectional model; with blocks of 8 lines it
streams. The weights and the code are the same, so streaming equals one call on the strip.

Shape letters: T lines of a strip, R blocks in strip order, K lines in a block, W samples, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline.errors import InputError
from hyperline.train.native_ops import fastest_ops
from hyperline.train.ops import Ops
from hyperline.train.ssm import BlockConv, Direction, SpatialExpert, SpectralExpert, State

SCALES = 3
# Three halvings: blocks and lines are cut in eighths, so both must come in multiples of this.
MULTIPLE: int = 2**SCALES


@dataclass(frozen=True)
class ModelConfig:
    """The size of a network.

    Attributes:
        bands: spectral bands of the sensor.
        classes: number of classes, "no class" not counted.
        components: noise-whitened components kept by the first layer (train/mnf.py); at most ``bands``.
        channels: width of every scale (paper: 64).
        experts: inner width of the four spatial experts, in the order of `Direction` (paper: 2, 4, 8, 16).
        top_k: spatial experts that the router picks for a block (paper: 2).
        state: size of the state of a channel (paper: 16).
        spectral_groups: tokens into which the spectral expert cuts a pixel's channels.
        spectral_inner: inner width of the spectral expert; 0 leaves it out.
        dropout: share of channels dropped before a head, in training.
    """

    bands: int
    classes: int
    components: int = 30
    channels: int = 64
    experts: tuple[int, int, int, int] = (4, 8, 16, 16)
    top_k: int = 2
    state: int = 16
    spectral_groups: int = 8
    spectral_inner: int = 16
    dropout: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "components", min(self.components, self.bands))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class StateSpec:
    """A carried tensor: its name, its shape for `MULTIPLE` samples, and the axis that grows with them."""

    name: str
    shape: tuple[int, ...]
    sample_axis: int


@dataclass(frozen=True)
class Prediction:
    """What the network says of a strip.

    Attributes:
        logits: one (T, W, classes) a scale, the finest first; the finest is the answer.
        state: carried tensors after the last block.
        routing: one (R, experts) softmax a scale, before top-k, for the load-balancing loss.
        active: one (R, experts) a scale, 1 where the router picked the expert.
    """

    logits: tuple[Tensor, ...]
    state: dict[str, Tensor]
    routing: tuple[Tensor, ...]
    active: tuple[Tensor, ...]


class MixtureBlock(nn.Module):
    """MoMEB: the routed spatial experts beside the shared spectral one, then an MLP (paper, figure 3)."""

    def __init__(self, ops: Ops, config: ModelConfig) -> None:
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
            y, carried = expert(spatial, mask, _under(state, name))
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


class MambaMoE(nn.Module):
    """The network.

    The first layer is a fixed linear map, mean and projection of the minimum noise fraction of the
    training strip (train/mnf.py), followed by a learned one.
    """

    mnf_mean: Tensor
    mnf_projection: Tensor

    def __init__(self, config: ModelConfig, ops: Ops | None = None) -> None:
        super().__init__()
        self.config = config
        ops = fastest_ops() if ops is None else ops
        channels = config.channels
        self.register_buffer("mnf_mean", torch.zeros(config.bands))
        self.register_buffer("mnf_projection", torch.zeros(config.bands, config.components))
        self.stem = nn.Linear(config.components, channels)
        self.stem_norm = nn.LayerNorm(channels)
        self.lift = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, channels), nn.LayerNorm(channels), nn.ReLU()) for _ in range(SCALES - 1)
        )
        self.encoder = nn.ModuleList(MixtureBlock(ops, config) for _ in range(SCALES))
        self.lateral = nn.ModuleList(ResidualUnit(channels) for _ in range(SCALES - 1))
        self.refine = nn.ModuleList(ResidualUnit(channels) for _ in range(SCALES))
        self.heads = nn.ModuleList(Head(channels, config.classes, config.dropout) for _ in range(SCALES))

    def use_ops(self, ops: Ops) -> None:
        """Let every layer compute the two operators through ``ops``."""
        for module in self.modules():
            if isinstance(module, MixtureBlock | SpatialExpert | SpectralExpert):
                module.ops = ops

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

    def initial_state(self, samples: int) -> dict[str, Tensor]:
        """Return the state at the start of a strip, zeros, for lines of ``samples`` samples."""
        state = {}
        for spec in self.state_specs():
            shape = list(spec.shape)
            shape[spec.sample_axis] = shape[spec.sample_axis] * samples // MULTIPLE
            state[spec.name] = self.stem.weight.new_zeros(shape)
        return state

    def components(self, lines: Tensor) -> Tensor:
        """Map (T, W, bands) to noise-whitened components (T, W, components)."""
        return (lines - self.mnf_mean) @ self.mnf_projection

    def forward(
        self,
        lines: Tensor,
        valid: Tensor,
        block_lines: int,
        state: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Classify a strip, or the part of one that follows ``state``.

        Args:
            lines: (T, W, bands) float32; T a multiple of ``block_lines``, W of `MULTIPLE`. Must be finite
                everywhere; pixels that are not valid change nothing elsewhere.
            valid: (T, W) bool, False for padding and for pixels without a measurement.
            block_lines: K, a multiple of `MULTIPLE`.
            state: what an earlier call returned; None starts a strip.
        """
        return self.classify(self.stem(self.components(lines)), valid, block_lines, state)

    def classify(
        self,
        stem: Tensor,
        valid: Tensor,
        block_lines: int,
        state: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Do the same from the output of the first two layers, (T, W, C)."""
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
            level, mask = _pool(level, mask)
            mixed, carried, logits, chosen = block(level, mask, _under(state, f"encoder{scale}"))
            following |= {f"encoder{scale}.{key}": tensor for key, tensor in carried.items()}
            levels.append(mixed)
            routing.append(logits)
            active.append(chosen)

        scores: list[Tensor] = []
        fused: Tensor | None = None
        for scale in range(SCALES - 1, -1, -1):
            x = levels[scale]
            if fused is not None:
                x, carried = self.lateral[scale](x, _under(state, f"lateral{scale}"))
                following |= {f"lateral{scale}.{key}": tensor for key, tensor in carried.items()}
                x = x + _double(fused)
            fused, carried = self.refine[scale](x, _under(state, f"refine{scale}"))
            following |= {f"refine{scale}.{key}": tensor for key, tensor in carried.items()}
            if scale:
                score = self.heads[scale](fused)
                for _ in range(scale + 1):
                    score = _double(score)
            else:
                # The finest head sees each pixel's own spectrum beside its half-resolution surroundings.
                score = self.heads[0](_double(fused) + full)
            scores.insert(0, score.flatten(0, 1))
        assert scores[0].shape[0] == total
        return Prediction(
            tuple(scores),
            {name: following[name] for name in state},
            tuple(routing),
            tuple(active),
        )


def pad_to_multiple(lines: Tensor, valid: Tensor, block_lines: int) -> tuple[Tensor, Tensor]:
    """Pad a strip with invalid pixels, after its end and its last sample, to what the network takes.

    Args:
        lines: (T, W, bands).
        valid: (T, W) bool.
        block_lines: K; 0 makes the whole strip one block.

    Returns:
        Padded lines and valid. Values of invalid pixels are zero.
    """
    total, samples = valid.shape
    below = -total % (block_lines or MULTIPLE)
    right = -samples % MULTIPLE
    lines = torch.where(valid.unsqueeze(-1), lines, 0.0)
    return F.pad(lines, (0, 0, 0, right, 0, below)), F.pad(valid, (0, right, 0, below))


def check_block_lines(block_lines: int) -> None:
    """Refuse a block length that the three scales cannot halve.

    Raises:
        InputError: not a positive multiple of `MULTIPLE`.
    """
    if block_lines < MULTIPLE or block_lines % MULTIPLE:
        raise InputError(
            f"a block of {block_lines} lines cannot be halved {SCALES} times; use a multiple of {MULTIPLE}"
        )


def _under(state: State, prefix: str) -> dict[str, Tensor]:
    """Select the entries below ``prefix.`` and drop the prefix."""
    start = prefix + "."
    return {name[len(start) :]: tensor for name, tensor in state.items() if name.startswith(start)}


def _pool(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Average the valid pixels of every 2x2 cell.

    Args:
        x: (R, K, W, C).
        mask: (R, K, W), 1 where valid.

    Returns:
        (R, K / 2, W / 2, C), zero where no pixel of the cell is valid, and the mask of the cells.
    """
    weight = mask.unsqueeze(-1)
    cells = (x * weight).unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum((2, 4))
    count = weight.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum((2, 4))
    return cells / count.clamp(min=1.0), (count.squeeze(-1) > 0).to(x.dtype)


def _double(x: Tensor) -> Tensor:
    """Repeat every pixel of (R, K, W, C) twice along track and across track."""
    return x.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
