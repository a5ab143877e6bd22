"""The step as it is exported says what the trained network says, whatever its size."""

import pytest
import torch
import torch.nn.functional as F

from hyperline.export.arithmetic import step_arithmetic
from hyperline.export.step import StreamingStep
from hyperline.train.models.mambamoe import MambaMoE, MambaMoEConfig
from hyperline.train.ops import TorchOps
from hyperline.train.ugcl import uncertainty

CONFIGS = {
    "many bands": MambaMoEConfig(bands=64, classes=5, components=8, channels=32),
    "few bands": MambaMoEConfig(bands=9, classes=3, channels=16),
    "no spectral expert": MambaMoEConfig(bands=24, classes=3, components=8, channels=32, spectral_inner=0),
    "other experts": MambaMoEConfig(
        bands=24, classes=2, components=8, channels=32, experts=(3, 5, 7, 16), top_k=1, state=4
    ),
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small only wait for a second
    yield
    torch.set_num_threads(threads)


def network_of(name):
    torch.manual_seed(1)
    network = MambaMoE(CONFIGS[name]).requires_grad_(False).eval()
    network.mnf_mean.normal_(2000, 300)
    network.mnf_projection.normal_(0, 0.01)
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    return network


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("share", [1.0, 0.7, 0.0])
def test_the_folded_step_equals_the_network(name, share):
    network = network_of(name)
    step = StreamingStep(network, 8, TorchOps())
    lines = network.mnf_mean + 300 * torch.randn(8, 24, network.config.bands)
    valid = torch.rand(8, 24) < share
    valid[3] &= share == 1.0  # a lost line
    state = {name: torch.randn_like(tensor) for name, tensor in network.initial_state(24).items()}
    expected = network(torch.where(valid[..., None], lines, 0.0), valid, 8, state)
    with torch.inference_mode():
        labels, _, logits, unsure, experts, *following = step(
            torch.where(valid[..., None], lines, torch.nan), valid, *state.values()
        )
    torch.testing.assert_close(logits, expected.logits[0], rtol=1e-4, atol=2e-5)
    assert torch.equal(labels > 0, valid)
    torch.testing.assert_close(unsure, torch.where(valid, uncertainty(expected.logits[0]), 0.0), rtol=1e-4, atol=2e-5)
    gates = [F.softmax(one, -1) * active for one, active in zip(expected.routing, expected.active, strict=True)]
    torch.testing.assert_close(experts, torch.cat(gates), rtol=1e-4, atol=2e-5)
    for tensor, other in zip(following, expected.state.values(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=2e-5)


def test_the_noise_map_and_the_first_layer_are_one_product_only_where_that_is_less_work():
    assert StreamingStep(network_of("many bands"), 8, TorchOps()).stem is not None
    assert StreamingStep(network_of("few bands"), 8, TorchOps()).stem is None


def test_the_arithmetic_of_a_step_grows_with_its_lines_and_counts_every_scan():
    network = network_of("many bands")
    one, two = (step_arithmetic(network, lines) for lines in (8, 16))
    config = network.config
    assert two.state_updates == 2 * one.state_updates
    routers = 3 * config.channels * len(config.experts)  # once a block, however long
    assert two.multiply_adds - routers == 2 * (one.multiply_adds - routers)
    # pixels of the three scales, each with four spatial scans and two over the spectrum
    channels = sum(config.experts) + 2 * config.spectral_groups * config.spectral_inner
    assert one.state_updates == (16 + 4 + 1) * channels * config.state


def test_the_arithmetic_counts_a_product_as_it_is():
    def multiply_adds(bands):
        network = MambaMoE(MambaMoEConfig(bands=bands, classes=5, components=8, channels=32))
        return step_arithmetic(network, 8).multiply_adds

    assert multiply_adds(65) - multiply_adds(64) == 64 * 8  # pixels, components
