"""SS-Mamba under the rule of blocks, and what is its own: two kinds of tokens that enhance each other."""

from __future__ import annotations

import pytest
import torch

from hyperline.errors import InputError
from hyperline.scenes import Scene
from hyperline.train.cells import from_cells, to_cells
from hyperline.train.models.ssmamba import SSMamba, SSMambaConfig

from .strips import BANDS, accuracy_after_training, at_once, block_by_block, made_up_strip

SMALL = SSMambaConfig(
    bands=BANDS,
    classes=3,
    hidden=16,
    channels=16,
    depth=2,
    spectral_tokens=4,
    spatial_inner=8,
    spectral_inner=8,
    state=4,
)


def small_network() -> SSMamba:
    torch.manual_seed(0)
    network = SSMamba(SMALL).eval()
    network.mnf_projection.copy_(torch.randn_like(network.mnf_projection))
    return network


@pytest.mark.parametrize("side", [2, 4, 8])
def test_cutting_into_cells_and_back_is_the_identity(side: int) -> None:
    x = torch.arange(3 * 8 * 24 * 2).reshape(3, 8, 24, 2)
    cells = to_cells(x, side)
    assert cells.shape == (3, 8 // side, 24 // side, side * side, 2)
    assert torch.equal(cells[1, 0, 1, side], x[1, 1, side])  # second line of the second cell
    assert torch.equal(from_cells(cells, side), x)


@pytest.mark.parametrize("block_lines", [8, 16])
def test_streaming_block_by_block_equals_one_call_to_the_states(block_lines: int) -> None:
    network, strip = small_network(), made_up_strip(48, 24)
    expected, last = at_once(network, *strip, block_lines)
    got, state = block_by_block(network, *strip, block_lines)
    assert torch.allclose(got, expected, rtol=0, atol=1e-5)
    for name, tensor in last.items():
        assert torch.allclose(state[name], tensor, rtol=0, atol=1e-5), name
        assert tensor.abs().max() > 0, name


def test_nothing_past_the_block_is_looked_at_and_everything_in_it_may_be() -> None:
    network, (lines, valid) = small_network(), made_up_strip(32, 16)
    before, _ = at_once(network, lines, valid, 16)
    lines[20], valid[20] = lines[20] + 1, True
    after, _ = at_once(network, lines, valid, 16)
    assert torch.equal(before[:16], after[:16])
    assert ((before - after).abs().amax((1, 2))[16:] > 0).all()  # earlier lines of its block too


def test_what_stands_in_an_invalid_pixel_changes_nothing_elsewhere() -> None:
    network, (lines, valid) = small_network(), made_up_strip(24, 16)
    other = torch.where(valid.unsqueeze(-1), lines, 1e4)
    (one, state), (two, other_state) = (at_once(network, cube, valid, 8) for cube in (lines, other))
    assert torch.equal(one[valid], two[valid])
    assert all(torch.equal(state[name], other_state[name]) for name in state)


def test_lost_lines_hold_the_scans() -> None:
    network, (lines, valid) = small_network(), made_up_strip(8, 16)
    _, state = at_once(network, lines, valid, 8)
    after = network(lines + 1, torch.zeros_like(valid), 8, state).state
    for index in range(SMALL.depth):
        assert torch.equal(state[f"block{index}.scan"], after[f"block{index}.scan"])


def test_a_gradient_reaches_every_parameter() -> None:
    network = small_network().train()
    network(*made_up_strip(16, 16), 8).logits[0].square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_each_kind_of_token_enhances_the_other() -> None:
    block = small_network().blocks[0]
    shape = (1, 4, 8, 4)
    spatial, spectral, mask = torch.randn(1, 4, 8, 16), torch.randn(*shape, 4, 16), torch.ones(shape)
    past = torch.zeros(8, 8, 4)
    with torch.no_grad():
        plain = block(spatial, spectral, mask, past)
        other_spatial = block(torch.randn_like(spatial), spectral, mask, past)
        other_spectral = block(spatial, torch.randn_like(spectral), mask, past)
    assert not torch.allclose(plain[1], other_spatial[1])
    assert not torch.allclose(plain[0], other_spectral[0])
    assert torch.equal(plain[2], other_spectral[2])  # the scan along track comes before


def test_it_learns_an_easy_scene(stripes: Scene) -> None:
    assert accuracy_after_training(SMALL, stripes, 25) > 0.9


def test_tokens_that_do_not_divide_the_stem_are_refused() -> None:
    with pytest.raises(InputError, match="5 spectral_tokens"):
        SSMambaConfig(bands=6, classes=3, spectral_tokens=5)
