"""The networks, by the name that ``hyperline train --model`` takes: one file each, in the words of its paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hyperline.errors import InputError
from hyperline.train.models.dualmamba import DualMamba
from hyperline.train.models.liunet import LiuNet
from hyperline.train.models.mambahsi import MambaHSI
from hyperline.train.models.mambamoe import MambaMoE
from hyperline.train.models.sdmamba import SDMamba
from hyperline.train.models.ssmamba import SSMamba
from hyperline.train.network import Network, NetworkConfig

NETWORKS: Mapping[str, type[Network]] = {
    "mambamoe": MambaMoE,
    "mambahsi": MambaHSI,
    "dualmamba": DualMamba,
    "ssmamba": SSMamba,
    "sdmamba": SDMamba,
    "liunet": LiuNet,
}


def network_config(name: str, **fields: Any) -> NetworkConfig:
    """Make the settings of the network called ``name``; lists, as JSON has them, become tuples.

    Raises:
        InputError: there is no such network, or it has no such setting.
    """
    if name not in NETWORKS:
        raise InputError(f"no network is called {name!r}; there are: {', '.join(NETWORKS)}")
    settings: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in fields.items()}
    try:
        return NETWORKS[name].Config(**settings)
    except TypeError as error:
        raise InputError(f"{name} has other settings: {error}") from error


def network_name(config: NetworkConfig) -> str:
    """Return the name of the network that has such settings."""
    return next(name for name, network in NETWORKS.items() if network.Config is type(config))


def make_network(config: NetworkConfig) -> Network:
    """Make a network with weights drawn from torch's generator."""
    return NETWORKS[network_name(config)](config)
