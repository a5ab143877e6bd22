"""What every network here has in common: one rule, carried states, and a first layer fitted to the training strip.

Along track, an operation may look at the past, through explicit state, and anywhere inside the current block. It never
looks past the block. With the whole scene as one block a network is the offline model of its paper; with blocks of 8
lines it streams. Weights and code are the same, so streaming a strip block by block equals one call on the strip.

Shape letters: T lines of a strip, R blocks in strip order, K lines in a block, W samples, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline.errors import InputError
from hyperline.scenes import Strips
from hyperline.train.first_layer import choose_map, scaled
from hyperline.train.mnf import fit_mnf
from hyperline.train.ops import Ops

# Lines and samples come in multiples of this, so that three scales can halve them.
MULTIPLE: int = 8

FirstLayer = Literal["mnf", "standardise"]


@dataclass(frozen=True)
class NetworkConfig:
    """What every network must know; its own settings stand in a class derived from this one.

    Attributes:
        bands: spectral bands of the sensor.
        classes: number of classes, "no class" not counted.
        components: noise-whitened components kept by the first layer (train/mnf.py); at most ``bands``.
        first_layer: ``mnf``, or ``standardise``: every band by its own mean and deviation, all kept.
    """

    bands: int
    classes: int
    components: int = 30
    first_layer: FirstLayer = "mnf"

    def __post_init__(self) -> None:
        kept = self.bands if self.first_layer == "standardise" else min(self.components, self.bands)
        object.__setattr__(self, "components", kept)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class StateSpec:
    """A carried tensor: its name, its shape for `MULTIPLE` samples, and the axis that grows with them, if any."""

    name: str
    shape: tuple[int, ...]
    sample_axis: int | None


@dataclass(frozen=True)
class Prediction:
    """What a network says of a strip.

    Attributes:
        logits: one (T, W, classes) a head, the finest first; the finest is the answer.
        state: carried tensors after the last block.
        routing: one (R, experts) logits a scale, before softmax and top-k, for the load-balancing loss; none without a
            router.
        active: one (R, experts) a scale, 1 where the router picked the expert.
    """

    logits: tuple[Tensor, ...]
    state: dict[str, Tensor]
    routing: tuple[Tensor, ...] = ()
    active: tuple[Tensor, ...] = ()


class Network(nn.Module, ABC):
    """A classifier of strips.

    The first layer is a fixed linear map, `mean` and `projection`, fitted to the training strip (train/first_layer.py).
    The export folds it into the first learned layer.

    Attributes:
        Config: the class of its settings.
        config: its settings.
    """

    Config: ClassVar[type[NetworkConfig]]
    config: NetworkConfig
    mnf_mean: Tensor
    mnf_projection: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mnf_mean", torch.zeros(config.bands))
        self.register_buffer("mnf_projection", torch.zeros(config.bands, config.components))

    @abstractmethod
    def state_specs(self) -> list[StateSpec]:
        """List the carried tensors in the order in which a step takes and returns them."""

    @abstractmethod
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

    def initial_state(self, samples: int) -> dict[str, Tensor]:
        """Return the state at the start of a strip, zeros, for lines of ``samples`` samples."""
        state = {}
        for spec in self.state_specs():
            shape = list(spec.shape)
            if spec.sample_axis is not None:
                shape[spec.sample_axis] = shape[spec.sample_axis] * samples // MULTIPLE
            state[spec.name] = self.mnf_mean.new_zeros(shape)
        return state

    def use_ops(self, ops: Ops) -> None:
        """Let every layer compute the two operators through ``ops``."""
        for module in self.modules():
            if hasattr(module, "ops"):
                module.ops = ops  # type: ignore[assignment]

    def components(self, lines: Tensor) -> Tensor:
        """Map (T, W, bands) through the first layer to (T, W, components)."""
        return (lines - self.mnf_mean) @ self.mnf_projection

    def fit_first_layer(self, strips: Strips) -> None:
        """Fit the first layer to training strips, each with its training labels (line, sample), 0 elsewhere.

        Raises:
            InputError: too few valid pixels, or strips of different bands.
        """
        if self.config.first_layer == "mnf":
            mnf = choose_map(strips, self.config.components)
            projection = scaled(mnf)
        else:
            mnf = fit_mnf([scene for scene, _ in strips], self.config.components)
            varies = mnf.variance > 0  # a dead band tells nothing, and must not when it wakes
            projection = np.diag(np.where(varies, 1 / np.sqrt(np.where(varies, mnf.variance, 1)), 0))
        self.mnf_mean.copy_(torch.from_numpy(mnf.mean))
        self.mnf_projection.copy_(torch.from_numpy(projection))


def pad_to_multiple(lines: Tensor, valid: Tensor, block_lines: int) -> tuple[Tensor, Tensor]:
    """Pad a strip with invalid pixels, after its end and its last sample, to what a network takes.

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
    """Refuse a block length that networks cannot halve.

    Raises:
        InputError: not a positive multiple of `MULTIPLE`.
    """
    if block_lines < MULTIPLE or block_lines % MULTIPLE:
        raise InputError(f"a block of {block_lines} lines cannot be halved three times; use a multiple of {MULTIPLE}")


def check_groups(channels: int, groups: int, name: str) -> None:
    """Refuse groups of channels that are not all alike.

    Args:
        channels: to be cut.
        groups: into so many.
        name: of the setting that asks for them.

    Raises:
        InputError: the groups do not divide the channels.
    """
    if groups < 1 or channels % groups:
        raise InputError(f"{channels} channels cannot be cut into {groups} {name}; use a number that divides them")


def under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Select the entries below ``prefix.`` and drop the prefix."""
    start = prefix + "."
    return {name[len(start) :]: tensor for name, tensor in state.items() if name.startswith(start)}
