"""Relevance: all of it accounted for, none where the network cannot look, and the bands that matter on top."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hyperline.errors import HyperlineError, InputError
from hyperline.scenes import Scene
from hyperline.splits import random_split
from hyperline.train.explain import rules, windows
from hyperline.train.explain.classes import class_relevance
from hyperline.train.explain.pixel import explain_pixel
from hyperline.train.explain.relevance import ExplainedStrip, Relevance
from hyperline.train.explain.rules import Rules
from hyperline.train.models.mambamoe import MambaMoE, MambaMoEConfig
from hyperline.train.ops import TorchOps
from hyperline.train.trainer import TrainConfig, start, train

from .conftest import small_network

TELLING_BAND = 4


def network_with_biases(seed: int, scale: float = 0.3) -> MambaMoE:
    """Random weights, scans that move, and biases that are not the zeros of the start; ``scale`` 0 makes them zeros."""
    network = small_network(seed)
    network.mnf_mean.copy_(torch.randn(6))
    for name, parameter in network.named_parameters():
        if "dt_bias" in name:  # no bias of a layer: the step size of a scan, which at the start is nearly none
            nn.init.zeros_(parameter)
        elif "x_proj" in name:  # B and C
            nn.init.normal_(parameter)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=scale)
    return network


def random_strip(seed: int, total: int = 24, samples: int = 13) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lines = torch.randn(total, samples, 6, generator=generator)
    return lines, torch.rand(total, samples, generator=generator) < 0.9


def explained(strip: ExplainedStrip, line: int, sample: int, index: int) -> Relevance:
    weights = torch.zeros_like(strip.logits)
    weights[line, sample, index] = 1
    return strip.relevance(weights)


def adds_up(made: Relevance) -> bool:
    """Whether the parts are the whole, to a thousandth."""
    total = made.values.sum(dtype=torch.float64).item() + made.biases + made.carried
    return total == pytest.approx(made.score, rel=1e-3, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    block_lines=st.sampled_from((0, 8, 16)),
    line=st.integers(0, 23),
    sample=st.integers(0, 12),
    index=st.integers(0, 2),
)
def test_relevance_and_biases_add_up_to_the_logit(
    seed: int, block_lines: int, line: int, sample: int, index: int
) -> None:
    strip = ExplainedStrip(network_with_biases(seed), *random_strip(seed), block_lines)
    made = explained(strip, line, sample, index)
    assert made.score == pytest.approx(strip.logits[line, sample, index].item())
    assert made.carried == 0
    assert made.biases != 0  # how large is chance: now and then they nearly cancel
    assert adds_up(made)


@pytest.mark.parametrize("seed", range(3))
def test_without_biases_the_lines_have_all_of_the_logit(seed: int) -> None:
    strip = ExplainedStrip(network_with_biases(seed, scale=0.0), *random_strip(seed), 8)
    made = explained(strip, 12, 6, 1)
    assert made.biases == made.carried == 0
    assert made.values.sum(dtype=torch.float64).item() == pytest.approx(made.score, rel=1e-3)


def test_the_explained_logits_are_those_of_the_network() -> None:
    network = network_with_biases(0)
    lines, valid = random_strip(0, total=16, samples=16)
    with torch.no_grad():
        own = network(torch.where(valid[..., None], lines, 0.0), valid, 8)
    strip = ExplainedStrip(network, lines, valid, 8)
    torch.testing.assert_close(strip.logits, own.logits[0], rtol=1e-5, atol=1e-5)
    for name, tensor in own.state.items():
        torch.testing.assert_close(strip.state[name], tensor, rtol=1e-5, atol=1e-5)


def test_invalid_pixels_and_lines_past_the_block_get_exactly_nothing() -> None:
    lines, valid = random_strip(1, total=32)
    lines[~valid] = torch.nan
    made = explained(ExplainedStrip(network_with_biases(1), lines, valid, 8), 17, 6, 2)
    assert not made.values[24:].any()
    assert not made.values[~valid].any()
    # every valid pixel that the rule lets the network see has a share: lines before the block, and all of it
    assert made.values[8:24][valid[8:24]].abs().sum(-1).gt(0).float().mean() > 0.5
    assert made.values[23].any()


def test_a_strip_cut_in_two_gives_the_same_relevance_and_says_what_came_before() -> None:
    network, (lines, valid) = network_with_biases(2), random_strip(2)
    whole = explained(ExplainedStrip(network, lines, valid, 8), 20, 5, 0)
    before = ExplainedStrip(network, lines[:16], valid[:16], 8)
    after = explained(ExplainedStrip(network, lines[16:], valid[16:], 8, before.state), 4, 5, 0)
    torch.testing.assert_close(after.values, whole.values[16:], rtol=1e-4, atol=1e-6)
    assert after.carried != 0
    assert adds_up(after)
    came = whole.values[:16].sum(dtype=torch.float64).item() + whole.biases
    assert after.carried + after.biases == pytest.approx(came, abs=1e-5)


@pytest.mark.parametrize("rule", ["_ACTIVATIONS", "_PRODUCTS", "_BIASED", "scan", "norm"])
def test_without_any_one_rule_relevance_is_lost_and_said_to_be(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if rule == "scan":
        monkeypatch.setattr(Rules, "selective_scan", lambda self, *inputs: TorchOps().selective_scan(*inputs))
    elif rule == "norm":
        monkeypatch.setattr(
            Rules, "_layer_norm", lambda self, *inputs, **more: nn.functional.layer_norm(*inputs, **more)
        )
    else:
        monkeypatch.setattr(rules, rule, {})
    strip = ExplainedStrip(network_with_biases(3), *random_strip(3), 8)
    with pytest.raises(HyperlineError, match="has no rule"):
        explained(strip, 12, 6, 1)


def test_a_network_with_a_layer_of_another_kind_is_refused() -> None:
    network = network_with_biases(0)
    network.heads[0][3] = nn.Softplus()
    strip = ExplainedStrip(network, *random_strip(0), 8)
    with pytest.raises(HyperlineError, match="MambaMoE"):
        explained(strip, 3, 3, 0)


def test_the_factors_of_a_gate_get_half_each_and_a_softmax_nothing() -> None:
    signal, gate = torch.tensor([2.0, -1.0], requires_grad=True), torch.tensor([3.0, 0.5], requires_grad=True)
    with Rules(TorchOps()):
        product, weighed = signal * gate, torch.softmax(gate, 0) * signal
    of_signal, of_gate = torch.autograd.grad(product.sum(), (signal, gate))
    torch.testing.assert_close(of_signal * signal, (signal * gate / 2).detach())
    torch.testing.assert_close(of_gate * gate, (signal * gate / 2).detach())
    of_signal, of_gate = torch.autograd.grad(weighed.sum(), (signal, gate), allow_unused=True)
    torch.testing.assert_close(of_signal, torch.softmax(gate.detach(), 0))
    assert of_gate is None


def test_parameters_that_are_added_are_biases() -> None:
    x, position = torch.tensor([2.0, -1.0], requires_grad=True), nn.Parameter(torch.tensor([0.5, 3.0]), False)
    followed = Rules(TorchOps())
    with followed:
        y = torch.addcmul(position, x + position, torch.tensor(4.0))
    torch.testing.assert_close(y, 4 * (x + position) + position)
    of_x, *of_biases = torch.autograd.grad(y.sum(), (x, *followed.biases))
    assert [one.tolist() for one in of_biases] == [[4.0, 4.0], [1.0, 1.0]]
    assert of_x.tolist() == [4.0, 4.0]


def telling_scene() -> Scene:
    """Three materials that one band alone tells apart, in fields."""
    rng = np.random.default_rng(0)
    fields = (np.arange(32)[:, None] // 7 + np.arange(24)[None] // 6) % 3
    cube = rng.normal(500, 20, (32, 24, 8))
    cube[..., TELLING_BAND] += 400 * fields
    cube[3, 5] = np.nan
    return Scene("telling", cube.astype(np.float32), (fields + 1).astype(np.uint8), ("low", "middle", "high"))


@pytest.fixture(scope="module")
def trained() -> tuple[MambaMoE, Scene]:
    scene = telling_scene()
    assert scene.labels is not None
    sizes = {"channels": 16, "experts": (4, 4, 4, 4), "spectral_groups": 4, "spectral_inner": 4, "state": 4}
    config = TrainConfig(epochs=25, threads=1, consistency=0.0)
    model = MambaMoEConfig(bands=8, classes=3, **sizes)
    strips = [(scene, random_split(scene.labels, 20, 0).train)]
    network = train(start(strips, model, config), strips, config)
    assert isinstance(network, MambaMoE)
    return network, scene


def test_the_relevance_of_a_trained_network_adds_up_too(trained: tuple[MambaMoE, Scene]) -> None:
    network, scene = trained
    lines, valid = windows.read_lines(scene, slice(None))
    for block_lines in (0, 8):
        strip = ExplainedStrip(network, lines, valid, block_lines)
        for index in range(3):
            made = explained(strip, 20, 11, index)
            assert adds_up(made)
            assert not made.values[~valid].any()


def test_the_band_that_tells_a_class_has_most_relevance(trained: tuple[MambaMoE, Scene]) -> None:
    network, scene = trained
    assert scene.labels is not None
    made = class_relevance(network, scene, scene.labels, pixels=30, block_lines=8)
    assert made.pixels.tolist() == [30, 30, 30]
    for index in (0, 2):  # the middle class is at the mean, from which relevance counts
        assert made.bands[index].argmax() == TELLING_BAND
        assert made.bands[index, TELLING_BAND] > 2 * np.abs(np.delete(made.bands[index], TELLING_BAND)).max()


def test_the_mean_of_a_class_is_that_of_its_pixels(trained: tuple[MambaMoE, Scene]) -> None:
    network, scene = trained
    truth = np.zeros((32, 24), np.uint8)
    places = [(2, 3), (9, 20), (31, 11)]
    for line, sample in places:
        truth[line, sample] = 2
    together = class_relevance(network, scene, truth, pixels=10, block_lines=8)
    alone = [explain_pixel(network, scene, *place, 2, 8) for place in places]
    assert together.pixels.tolist() == [0, 3, 0]
    np.testing.assert_allclose(together.bands[1], np.mean([one.bands for one in alone], axis=0), rtol=1e-3, atol=1e-5)
    assert together.scores[1] == pytest.approx(np.mean([one.score for one in alone]), rel=1e-4)
    fewer = class_relevance(network, scene, truth, pixels=2, block_lines=8)
    assert fewer.pixels.tolist() == [0, 2, 0]
    with pytest.raises(InputError, match="no labelled pixel"):
        class_relevance(network, scene, np.zeros_like(truth), pixels=2, block_lines=8)


def test_a_pixel_is_explained_from_its_block_back_to_the_first_line(trained: tuple[MambaMoE, Scene]) -> None:
    network, scene = trained
    one = explain_pixel(network, scene, 18, 7, None, 8)
    assert one.block == slice(16, 24)
    assert (one.first_line, one.pixels.shape) == (0, (24, 24))
    assert one.class_id == one.label
    assert one.pixels.sum() + one.biases == pytest.approx(one.score, rel=1e-3, abs=1e-5)
    np.testing.assert_allclose(one.bands.sum(), one.pixels.sum(), rtol=1e-4)
    np.testing.assert_allclose(one.own.sum(), one.pixels[18, 7], rtol=1e-4)
    shares = one.shares()
    assert sum(shares.values()) == pytest.approx(1)
    sizes = np.abs(one.pixels)
    assert shares["pixel"] + shares["line"] == pytest.approx(sizes[18].sum() / sizes.sum(), rel=1e-4)
    assert shares["earlier"] == pytest.approx(sizes[:16].sum() / sizes.sum(), rel=1e-4)
    assert shares["carried"] == 0


def test_a_strip_too_long_for_memory_is_explained_from_where_it_fits(
    trained: tuple[MambaMoE, Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, scene = trained
    whole = explain_pixel(network, scene, 30, 7, 3, 8)
    monkeypatch.setattr(windows, "_MOST_PIXELS", 16 * 24)
    part = explain_pixel(network, scene, 30, 7, 3, 8)
    assert (part.first_line, part.pixels.shape) == (16, (16, 24))
    assert part.score == pytest.approx(whole.score, rel=1e-4)
    np.testing.assert_allclose(part.own, whole.own, rtol=1e-3, atol=1e-6)
    assert part.shares()["carried"] > 0
    assert part.pixels.sum() + part.biases + part.carried == pytest.approx(part.score, rel=1e-3, abs=1e-5)
    with pytest.raises(InputError, match="fewer --block-lines"):
        explain_pixel(network, scene, 30, 7, 3, 32)


@pytest.mark.parametrize(
    ("line", "sample", "said"),
    [(32, 0, "line 32 .* 0 to 31"), (-1, 0, "line -1"), (0, 24, "sample 24 .* 0 to 23"), (3, 5, "no measurement")],
)
def test_a_pixel_that_cannot_be_explained_is_refused(
    trained: tuple[MambaMoE, Scene], line: int, sample: int, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        explain_pixel(*trained, line, sample, None, 8)


def test_a_scene_of_other_bands_is_refused(trained: tuple[MambaMoE, Scene]) -> None:
    network, scene = trained
    with pytest.raises(InputError, match="7 bands"):
        explain_pixel(network, replace(scene, cube=scene.cube[..., :7]), 0, 0, None, 8)
