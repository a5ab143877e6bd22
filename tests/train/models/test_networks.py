"""What every network must keep to, whatever it is made of: the rule of blocks, and an export that is the network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from hyperline.export.excerpt import Excerpt
from hyperline.export.parity import check_parity, parity_lines
from hyperline.export.step import export_step
from hyperline.train.models import NETWORKS, make_network, network_config
from hyperline.train.network import Network
from hyperline.train.ops import TorchOps

BANDS = 10
K = 8

# Networks small enough for tests; what is not here is tried in its default size.
SMALL: Mapping[str, Mapping[str, Any]] = {
    # all experts, for one that is not picked learns nothing
    "mambamoe": {"channels": 16, "experts": (2, 3, 4, 4), "top_k": 4, "state": 4, "spectral_inner": 4},
    "mambahsi": {"channels": 16, "state": 4, "head": 16},
    "dualmamba": {"channels": 16, "state": 4, "spectral_tokens": 4, "mlp": 2},
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small only wait for a second
    yield
    torch.set_num_threads(threads)


def small_network(name: str) -> Network:
    torch.manual_seed(0)
    network = make_network(network_config(name, bands=BANDS, classes=3, components=6, **SMALL.get(name, {})))
    network.use_ops(TorchOps())
    network.mnf_mean.normal_()
    network.mnf_projection.normal_()
    with torch.no_grad():
        for parameter in network.parameters():  # untrained networks say nearly the same everywhere
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return small_network(request.param)


def strip(lines: int, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Lines of noise; a line is lost, and nine pixels in ten of the others are valid."""
    generator = torch.Generator().manual_seed(1)
    valid = torch.rand(lines, samples, generator=generator) < 0.9
    valid[5] = False
    return torch.randn(lines, samples, BANDS, generator=generator), valid


@pytest.mark.parametrize("block_lines", [8, 16])
@torch.no_grad()
def test_streaming_block_by_block_equals_one_call_to_the_states(network, block_lines):
    lines, valid = strip(48, 16)
    expected = network(lines, valid, block_lines)
    assert list(expected.state) == [spec.name for spec in network.state_specs()]
    state = network.initial_state(16)
    for first in range(0, 48, block_lines):
        block = slice(first, first + block_lines)
        part = network(lines[block], valid[block], block_lines, state)
        for one, whole in zip(part.logits, expected.logits, strict=True):
            torch.testing.assert_close(one, whole[block], rtol=1e-4, atol=1e-5)
        assert {name: tensor.shape for name, tensor in part.state.items()} == {
            name: tensor.shape for name, tensor in state.items()
        }
        state = part.state
    for name, tensor in expected.state.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
        assert tensor.abs().max() > 0, name


@torch.no_grad()
def test_what_stands_in_an_invalid_pixel_changes_nothing_elsewhere(network):
    lines, valid = strip(24, 16)
    valid[8:16, 8:] = False  # a cell of every scale without a valid pixel
    spoilt = torch.where(valid.unsqueeze(-1), lines, 1e3)
    clean, dirty = (network(cube, valid, K) for cube in (lines, spoilt))
    assert torch.equal(clean.logits[0][valid], dirty.logits[0][valid])
    for name, tensor in clean.state.items():
        assert torch.equal(dirty.state[name], tensor), name


@torch.no_grad()
def test_nothing_past_the_block_is_looked_at_and_the_past_is_not_forgotten(network):
    lines, valid = strip(32, 16)
    changed = lines.clone()
    changed[16:24] += 1
    before, after = (network(cube, valid, 16).logits[0] for cube in (lines, changed))
    assert torch.equal(before[:16], after[:16])
    if network.state_specs():
        assert not torch.equal(before[24:], after[24:])
        changed = lines.clone()
        changed[12:16] += 1
        assert not torch.equal(network(changed, valid, 16).logits[0][16:], before[16:])


@torch.no_grad()
def test_a_lost_block_holds_every_scan(network):
    lines, valid = strip(16, 16)
    state = network(lines, valid, K).state
    held = network(lines[:K], torch.zeros_like(valid[:K]), K, state).state
    for name, tensor in state.items():
        if name.endswith("scan"):
            assert torch.equal(held[name], tensor), name


def test_a_gradient_reaches_every_parameter(network):
    network.train()
    logits = network(*strip(32, 16), 16).logits  # at an eighth, blocks of 8 are one line: nothing to scan along
    sum((one * torch.randn_like(one)).sum() for one in logits).backward()
    without = [name for name, one in network.named_parameters() if one.grad is None or not one.grad.abs().max() > 0]
    assert not without


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "mambamoe"])  # tests/export is about that one
def test_the_exported_graph_is_the_network(name):
    network = small_network(name)
    lines, valid = strip(parity_lines(K), 32)
    cube = torch.where(valid.unsqueeze(-1), lines, 0.0).numpy()
    graph = export_step(network, K, ("a", "b", "c"))
    parity = check_parity(network, graph.SerializeToString(), Excerpt(cube, valid.numpy()), K)
    assert parity.pixels > 1000
    assert np.isfinite(parity.max_logit_difference)
