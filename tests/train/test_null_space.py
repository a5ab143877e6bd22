"""Updates in the null space leave every layer's output on old features as it is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hyperline.train.adapt.null_space import FeatureCovariances, ProjectedUpdates, null_space

LAYERS = {
    "linear": lambda: (nn.Linear(12, 5), (40, 12)),
    "convolution": lambda: (nn.Conv2d(6, 4, 3, padding=1), (2, 6, 5, 7)),
    "strided convolution of groups": lambda: (nn.Conv2d(6, 4, 3, stride=2, dilation=2, groups=2), (2, 6, 9, 8)),
    "depthwise convolution": lambda: (nn.Conv1d(6, 6, 3, padding=1, groups=6), (3, 6, 4)),
}


def few_features(shape: tuple[int, ...], directions: int) -> Tensor:
    """Draw features that lie in a few directions of the channels, which are axis 1."""
    mixed = torch.randn(shape[0], directions, *shape[2:])
    return torch.einsum("cd,bd...->bc...", torch.randn(shape[1], directions), mixed)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["linear", "convolution", "strided convolution of groups"]))
def test_a_projected_step_changes_the_weight_and_no_output_on_old_features(seed: int, kind: str) -> None:
    torch.manual_seed(seed)
    layer, shape = LAYERS[kind]()
    old, new = few_features(shape, 2), torch.randn(shape)
    layer.requires_grad_(True)
    with FeatureCovariances(layer) as covariances, torch.no_grad():
        before = layer(old)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.05, weight_decay=0.1)
    weight = layer.weight.detach().clone()
    projectors = {name: null_space(one, 0) for name, one in covariances.sums.items()}
    ProjectedUpdates(layer, projectors, {}).attach(optimizer)
    first = None
    for _ in range(10):
        loss = (layer(new) - 1).square().mean()
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first
    assert (layer.weight - weight).abs().max() > 0.01
    torch.testing.assert_close(layer(old), before, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_covariances_are_those_that_the_layer_multiplies_with(kind: str) -> None:
    """The energy of a product, summed over pixels and outputs, is w covariance w."""
    torch.manual_seed(0)
    layer, shape = LAYERS[kind]()
    nn.init.zeros_(layer.bias)
    with FeatureCovariances(layer) as covariances, torch.no_grad():
        energy = layer(torch.randn(shape)).square().sum()
    (covariance,) = covariances.sums.values()
    weight = layer.weight.detach().double().reshape(len(covariance), -1, covariance.shape[-1])
    assert torch.einsum("goi,gij,goj->", weight, covariance, weight).item() == pytest.approx(energy.item(), rel=1e-5)


def test_the_share_is_the_energy_that_the_null_space_may_hold() -> None:
    covariance = torch.diag(torch.tensor([1.0, 10.0, 100.0, 889.0], dtype=torch.float64)).unsqueeze(0)
    for share, free in ((0.0, 0), (0.0009, 0), (0.001, 1), (0.011, 2), (0.12, 3), (1.0, 4)):
        projector = null_space(covariance, share)
        assert torch.equal(projector[0].diagonal().round(), torch.tensor([float(i < free) for i in range(4)]))


def test_features_that_were_never_there_leave_everything_free() -> None:
    assert torch.equal(null_space(torch.zeros(1, 3, 3, dtype=torch.float64), 0)[0], torch.eye(3))


def test_what_has_no_covariance_is_frozen_and_new_rows_move_freely() -> None:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    before = {name: parameter.detach().clone() for name, parameter in head.named_parameters()}
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0.1)
    ProjectedUpdates(head, {}, {"2.weight": 2, "2.bias": 2}, boost=3).attach(optimizer)
    head(torch.randn(20, 4)).square().sum().backward()
    optimizer.step()
    for name, parameter in head.named_parameters():
        rows = 2 if name.startswith("2.") else len(parameter)
        assert torch.equal(parameter[:rows], before[name][:rows]), name
    assert (head[2].weight[2] - before["2.weight"][2]).abs().min() > 0.2


def test_without_projectors_everything_moves() -> None:
    layer = nn.Linear(4, 3)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    ProjectedUpdates(layer, None, {}).attach(optimizer)
    layer(torch.randn(20, 4)).square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(one, was) for one, was in zip(layer.parameters(), before, strict=True))
