"""LiuNet is the published network, sees no pixel but its own, trains and exports."""

from __future__ import annotations

import pytest
import torch

from hyperline.errors import InputError
from hyperline.splits import random_split
from hyperline.train.models import make_network, network_config
from hyperline.train.trainer import TrainConfig, predict, start, train

from .conftest import striped_scene


@pytest.mark.parametrize(("bands", "parameters"), [(112, 4563), (120, 4563)])
def test_it_has_the_published_number_of_parameters(bands: int, parameters: int) -> None:
    # HYPSO-1 has 120 bands, of which the paper keeps 112; the pools leave as much of either
    network = make_network(network_config("liunet", bands=bands, classes=3))
    assert sum(one.numel() for one in network.parameters()) == parameters


@pytest.mark.parametrize(("bands", "convolutions"), [(7, 1), (19, 2), (360, 4)])
def test_as_many_convolutions_as_fit(bands: int, convolutions: int) -> None:
    network = make_network(network_config("liunet", bands=bands, classes=3))
    assert sum(isinstance(one, torch.nn.Conv1d) for one in network.modules()) == convolutions
    assert network(torch.zeros(8, 8, bands), torch.ones(8, 8, dtype=torch.bool), 8).logits[0].shape == (8, 8, 3)


def test_a_spectrum_too_short_is_refused() -> None:
    with pytest.raises(InputError, match=r"needs 7 bands .* there are 6"):
        make_network(network_config("liunet", bands=6, classes=3))


def test_a_pixel_is_classified_by_itself_and_nothing_is_carried() -> None:
    torch.manual_seed(0)
    network = make_network(network_config("liunet", bands=20, classes=3)).eval()
    network.mnf_projection.copy_(torch.eye(20))
    lines, valid = torch.randn(16, 8, 20), torch.ones(16, 8, dtype=torch.bool)
    changed = lines.clone()
    changed[5, 3] += 1
    one, other = network(lines, valid, 8), network(changed, valid, 16)
    differ = (one.logits[0] != other.logits[0]).any(-1)
    assert differ[5, 3] and differ.sum() == 1
    assert network.state_specs() == [] and one.state == {} and network.initial_state(8) == {}


def test_it_learns_a_simple_scene() -> None:
    scene = striped_scene(bands=24)
    assert scene.labels is not None
    split = random_split(scene.labels, 15, 0)
    config = TrainConfig(epochs=30, learning_rate=1e-2, shallow=0.0, threads=1)
    model = network_config("liunet", bands=24, classes=3)
    strips = [(scene, split.train)]
    network = train(start(strips, model, config), strips, config)
    right = predict(network, scene, 8) == split.test
    assert right[split.test > 0].mean() > 0.9


def test_its_step_exports_for_any_number_of_samples() -> None:
    torch.manual_seed(0)
    network = make_network(network_config("liunet", bands=20, classes=3)).eval()
    network.mnf_projection.copy_(torch.eye(20))

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, lines: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.network(lines, torch.ones_like(lines[..., 0], dtype=torch.bool), 8).logits[0]
            return scores

    samples = torch.export.Dim("samples", min=8)
    exported = torch.export.export(Step().eval(), (torch.randn(8, 16, 20),), dynamic_shapes=({1: samples},))
    for width in (8, 40):
        lines = torch.randn(8, width, 20)
        assert torch.allclose(exported.module()(lines), Step().eval()(lines), atol=1e-6)
