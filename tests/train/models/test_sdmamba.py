"""SDMamba under the rule of blocks, and what is its own: which tokens are scanned."""

from __future__ import annotations

import pytest
import torch

from hyperline.errors import InputError
from hyperline.scenes import Scene
from hyperline.train.models.sdmamba import SDMamba, SDMambaConfig, choose

from .strips import BANDS, accuracy_after_training, at_once, block_by_block, made_up_strip

SMALL = SDMambaConfig(
    bands=BANDS, classes=3, channels=16, groups=4, spatial_inner=8, spectral_inner=8, state=4, depth=2
)


def small_network() -> SDMamba:
    torch.manual_seed(0)
    network = SDMamba(SMALL).eval()
    network.mnf_projection.copy_(torch.randn_like(network.mnf_projection))
    return network


@pytest.mark.parametrize("block_lines", [8, 16])
def test_streaming_block_by_block_equals_one_call_to_the_states(block_lines: int) -> None:
    network, strip = small_network(), made_up_strip(48, 24)
    expected, last = at_once(network, *strip, block_lines)
    got, state = block_by_block(network, *strip, block_lines)
    assert torch.allclose(got, expected, rtol=0, atol=1e-5)
    for name, tensor in last.items():
        assert torch.allclose(state[name], tensor, rtol=0, atol=1e-5), name
        assert tensor.abs().max() > 0, name


def test_nothing_past_the_block_is_looked_at() -> None:
    network, (lines, valid) = small_network(), made_up_strip(32, 16)
    before, _ = at_once(network, lines, valid, 16)
    lines[20], valid[20] = lines[20] + 1, True
    after, _ = at_once(network, lines, valid, 16)
    assert torch.equal(before[:16], after[:16])
    assert not torch.equal(before[16:19], after[16:19])  # earlier lines of its block see it
    assert not torch.equal(before[24:], after[24:])  # and the next cells


def test_what_stands_in_an_invalid_pixel_changes_nothing_elsewhere() -> None:
    network, (lines, valid) = small_network(), made_up_strip(24, 16)
    valid[:8, 8:] = False  # a cell without a valid pixel
    other = torch.where(valid.unsqueeze(-1), lines, 1e4)
    (one, state), (two, other_state) = (at_once(network, cube, valid, 8) for cube in (lines, other))
    assert torch.isfinite(one).all()
    assert torch.equal(one[valid], two[valid])
    assert all(torch.equal(state[name], other_state[name]) for name in state)


def test_lost_lines_hold_the_scans() -> None:
    network, (lines, valid) = small_network(), made_up_strip(8, 16)
    _, state = at_once(network, lines, valid, 8)
    after = network(lines + 1, torch.zeros_like(valid), 8, state).state
    for index in range(SMALL.depth):
        assert torch.equal(state[f"spatial{index}.scan"], after[f"spatial{index}.scan"])


def test_a_gradient_reaches_every_parameter() -> None:
    network = small_network().train()
    network(*made_up_strip(16, 16), 8).logits[0].square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_the_tokens_nearest_in_angle_to_their_mean_are_chosen_in_their_order() -> None:
    angles = torch.tensor([1.2, 0.1, -0.9, -0.2, 0.5, 0.0])
    tokens = torch.stack([angles.cos(), angles.sin()], -1) * torch.tensor([1.0, 5, 1, 1, 1, 2]).unsqueeze(-1)
    anchor = torch.atan2(*tokens.sum(0).flip(0))
    ranked = (angles - anchor).abs().argsort()
    index, weight = choose(tokens, torch.ones(6), 3)
    assert index.tolist() == sorted(ranked[:3].tolist())
    assert weight[index == ranked[0]] >= weight[index == ranked[2]] > 0


def test_a_token_that_is_not_valid_is_not_chosen_while_others_are_there() -> None:
    tokens, mask = torch.randn(64, 8), torch.zeros(64)
    mask[[3, 40, 41, 60]] = 1
    index, weight = choose(tokens * mask.unsqueeze(-1), mask, 3)
    assert set(index.tolist()) < {3, 40, 41, 60}
    index, weight = choose(tokens * mask.unsqueeze(-1), mask, 10)
    assert {3, 40, 41, 60} < set(index.tolist())
    assert torch.equal(weight, mask[index])


def test_two_tokens_that_change_places_in_the_ranking_make_no_step() -> None:
    """A choice that hangs on rounding would let two machines disagree."""
    network = small_network()
    module = network.spatial[0]
    generator = torch.Generator().manual_seed(1)
    start, end = (torch.randn(1, 1, 2, 64, 16, generator=generator) for _ in range(2))
    mask, past = torch.ones(1, 1, 2, 64), torch.zeros(2, 8, 4)
    with torch.no_grad():
        shares = torch.linspace(0, 0.2, 401)
        path = [(start * (1 - share) + end * share) for share in shares]
        chosen = {tuple(choose(x, mask, module.count)[0].flatten().tolist()) for x in path}
        answers = torch.stack([module(x, mask, past)[0] for x in path])
    assert len(chosen) > 3  # others were chosen on the way
    steps = (answers[1:] - answers[:-1]).abs().amax((1, 2, 3, 4, 5))
    assert steps.max() < 5 * steps.median()


def test_only_the_share_is_changed_by_the_scan() -> None:
    module = small_network().spatial[0]
    x, mask = torch.randn(1, 1, 3, 64, 16), torch.ones(1, 1, 3, 64)
    with torch.no_grad():
        mixed, _ = module(x, mask, torch.zeros(3, 8, 4))
    assert module.count == 20
    assert ((mixed != x).any(-1).sum(-1) <= 20).all()
    assert (mixed != x).any()


def test_it_learns_an_easy_scene(stripes: Scene) -> None:
    assert accuracy_after_training(SMALL, stripes, 15) > 0.9


@pytest.mark.parametrize("wrong", [{"groups": 5}, {"share": 0.9}, {"share": 0.0}])
def test_what_cannot_be_chosen_from_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="use a"):
        SDMambaConfig(bands=6, classes=3, **wrong)
