"""A network for more classes, which says of the old ones what it said before."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hyperline.errors import InputError
from hyperline.train.models import make_network, network_name
from hyperline.train.network import Network


@torch.no_grad()
def grow(network: Network, classes: int, logit: float) -> tuple[Network, dict[str, int]]:
    """Give a network's heads rows for more classes; the old rows and everything else are copied.

    Args:
        network: trained; it is left as it is.
        classes: of the larger network, at least as many as it has.
        logit: what the new rows say of every pixel, in every head, until they are trained.

    Returns:
        The larger network, in evaluation mode; and by name of the parameters that have new rows, the first of them.

    Raises:
        InputError: the network has heads whose first axis is not the classes.
    """
    old = network.config.classes
    grown = make_network(replace(network.config, classes=classes))
    weights: dict[str, Tensor] = {}
    fresh: dict[str, int] = {}
    before = network.state_dict()
    for name, empty in grown.state_dict().items():
        kept = before[name]
        if kept.shape != empty.shape:
            if (len(kept), len(empty)) != (old, classes) or kept.shape[1:] != empty.shape[1:]:
                raise InputError(
                    f"{name} of {network_name(network.config)} cannot grow from {old} to {classes} classes; "
                    "train a network with all classes"
                )
            rows = torch.full_like(empty[old:], logit) if kept.ndim == 1 else torch.zeros_like(empty[old:])
            kept = torch.cat([kept, rows])
            fresh[name] = old
        weights[name] = kept.clone()
    grown.load_state_dict(weights)
    return grown.eval(), fresh
