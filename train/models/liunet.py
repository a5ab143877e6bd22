"""1D-Justo-LiuNet: the pixel classifier of 4,563 parameters that flew on HYPSO-1.

Source: Justo et al., "Semantic segmentation in satellite hyperspectral imagery by deep learning", arXiv 2310.16210,
section III, and the published Keras definition: convolutions along the spectrum, each with a ReLU and a max pool of 2,
then one dense layer. It sees no pixel but its own: the block-causal rule holds by itself, and nothing is carried.

Shape letters: T lines of a strip, W samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from hyperline.errors import InputError
from hyperline.train.network import FirstLayer, Network, NetworkConfig, Prediction, StateSpec

_POOL = 2


@dataclass(frozen=True)
class LiuNetConfig(NetworkConfig):
    """The size of a network.

    Attributes:
        filters: of each convolution (paper: 6, 12, 18, 24). Where the spectrum is too short for all, as many as fit.
        width: bands that a filter spans (paper: 6).
    """

    first_layer: FirstLayer = "standardise"
    filters: tuple[int, ...] = (6, 12, 18, 24)
    width: int = 6


class LiuNet(Network):
    """The network.

    Raises:
        InputError: the spectrum is too short for one convolution and its pool.
    """

    Config = LiuNetConfig
    config: LiuNetConfig

    def __init__(self, config: LiuNetConfig) -> None:
        super().__init__(config)
        length, channels = config.components, 1
        layers: list[nn.Module] = []
        for filters in config.filters:
            pooled = (length - config.width + 1) // _POOL
            if pooled < 1:
                break
            layers += [nn.Conv1d(channels, filters, config.width), nn.ReLU(), nn.MaxPool1d(_POOL)]
            length, channels = pooled, filters
        if not layers:
            raise InputError(
                f"LiuNet needs {config.width + _POOL - 1} bands for a filter of {config.width} and its pool; "
                f"there are {length}"
            )
        self.spectral = nn.Sequential(*layers)
        self.head = nn.Linear(channels * length, config.classes)

    def state_specs(self) -> list[StateSpec]:
        """List the carried tensors: none."""
        return []

    def forward(
        self,
        lines: Tensor,
        valid: Tensor,
        block_lines: int,
        state: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Classify every pixel by itself; see `Network.forward`."""
        spectra = self.components(lines) * valid.unsqueeze(-1)  # (T, W, components)
        features = self.spectral(spectra.flatten(0, 1).unsqueeze(1))  # (T W, filters, length)
        scores = self.head(features.flatten(1))  # (T W, classes)
        return Prediction((scores.reshape(*valid.shape, self.config.classes),), {})
