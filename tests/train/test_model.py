"""The rule of the block-causal network, and what the published code got wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.train.models.mambamoe import MambaMoE
from hyperline.train.network import MULTIPLE, check_block_lines, pad_to_multiple
from hyperline.train.ops import TorchOps
from hyperline.train.ssm import Direction

from .conftest import small_network

BLOCKS = st.sampled_from((8, 16, 32))


def whole(network: MambaMoE, lines: torch.Tensor, valid: torch.Tensor, block_lines: int) -> torch.Tensor:
    """Logits of a strip in one call, cropped to its size."""
    padded = pad_to_multiple(lines, valid, block_lines)
    with torch.no_grad():
        logits = network(*padded, block_lines or padded[0].shape[0]).logits[0]
    return logits[: lines.shape[0], : lines.shape[1]]


def streamed(
    network: MambaMoE, lines: torch.Tensor, valid: torch.Tensor, block_lines: int, calls: list[int]
) -> torch.Tensor:
    """The same from several calls with carried state, each of as many blocks as ``calls`` says."""
    padded, padded_valid = pad_to_multiple(lines, valid, block_lines)
    state, parts, at, turn = None, [], 0, 0
    with torch.no_grad():
        while at < len(padded):
            end = at + calls[turn % len(calls)] * block_lines
            prediction = network(padded[at:end], padded_valid[at:end], block_lines, state)
            state, at, turn = prediction.state, end, turn + 1
            parts.append(prediction.logits[0])
    return torch.cat(parts)[: lines.shape[0], : lines.shape[1]]


@settings(max_examples=30, deadline=None)
@given(
    block_lines=BLOCKS,
    total=st.integers(1, 80),
    samples=st.integers(1, 21),
    calls=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
)
def test_streaming_in_blocks_equals_one_call_on_the_strip(
    block_lines: int, total: int, samples: int, calls: list[int], seed: int
) -> None:
    network = small_network()
    generator = torch.Generator().manual_seed(seed)
    lines = torch.randn(total, samples, 6, generator=generator)
    valid = torch.rand(total, samples, generator=generator) < 0.9
    expected = whole(network, lines, valid, block_lines)
    got = streamed(network, lines, valid, block_lines, calls)
    assert torch.allclose(got, expected, rtol=0, atol=1e-5)
    # a label may differ only where two scores tie within the tolerance
    differs = got.argmax(-1) != expected.argmax(-1)
    best = expected.topk(2, dim=-1).values
    assert not (differs & (best[..., 0] - best[..., 1] > 2e-5)).any()


@pytest.mark.parametrize("block_lines", [8, 16, 32])
def test_streaming_a_full_size_network_gives_the_same_class_map(block_lines: int) -> None:
    network = small_network(channels=64, experts=(4, 8, 16, 16), state=16, classes=16, bands=50, components=30)
    generator = torch.Generator().manual_seed(1)
    lines, valid = torch.randn(75, 43, 50, generator=generator), torch.ones(75, 43, dtype=torch.bool)
    expected = whole(network, lines, valid, block_lines)
    got = streamed(network, lines, valid, block_lines, [1])
    assert (got - expected).abs().max() <= 1e-5
    assert torch.equal(got.argmax(-1), expected.argmax(-1))


@settings(max_examples=20, deadline=None)
@given(block_lines=BLOCKS, total=st.integers(9, 70), at=st.data(), seed=st.integers(0, 2**16))
def test_a_changed_line_changes_nothing_before_its_block(
    block_lines: int, total: int, at: st.DataObject, seed: int
) -> None:
    network = small_network()
    changed = at.draw(st.integers(0, total - 1))
    generator = torch.Generator().manual_seed(seed)
    lines, valid = torch.randn(total, 11, 6, generator=generator), torch.ones(total, 11, dtype=torch.bool)
    before = whole(network, lines, valid, block_lines)
    lines[changed] += 1.0
    after = whole(network, lines, valid, block_lines)
    first = changed // block_lines * block_lines
    assert torch.equal(before[:first], after[:first])
    assert not torch.equal(before[first:], after[first:])


def test_what_stands_in_an_invalid_pixel_changes_nothing() -> None:
    network = small_network()
    lines, valid = torch.randn(24, 16, 6), torch.rand(24, 16) < 0.8
    other = torch.where(valid.unsqueeze(-1), lines, 1e4)
    with torch.no_grad():
        assert torch.equal(network(lines, valid, 8).logits[0][valid], network(other, valid, 8).logits[0][valid])


def test_lost_lines_hold_the_state_of_the_along_track_scan() -> None:
    network = small_network(top_k=4)
    lines, valid = torch.randn(8, 16, 6), torch.ones(8, 16, dtype=torch.bool)
    with torch.no_grad():
        state = network(lines, valid, 8).state
        after = network(torch.randn(8, 16, 6), torch.zeros_like(valid), 8, state).state
    scans = [name for name in state if name.endswith("along_track.scan")]
    assert len(scans) == 3
    for name in scans:
        assert torch.equal(state[name], after[name])
        assert state[name].abs().max() > 0


def test_two_evaluations_of_one_input_are_equal_to_the_bit() -> None:
    network = small_network()
    lines, valid = torch.randn(16, 24, 6), torch.ones(16, 24, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(network(lines, valid, 8).logits[0], network(lines, valid, 8).logits[0])


def test_saved_weights_load_strictly_and_give_the_same_answer() -> None:
    network, other = small_network(seed=0), small_network(seed=1)
    lines, valid = torch.randn(16, 24, 6), torch.ones(16, 24, dtype=torch.bool)
    other.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(network(lines, valid, 8).logits[0], other(lines, valid, 8).logits[0])


@pytest.mark.parametrize("training", [True, False])
def test_the_index_of_an_expert_is_its_direction(training: bool) -> None:
    """The published code lets the rank in the top-k list pick the direction at inference."""
    network = small_network().train(training)
    for block in network.encoder:
        assert [expert.direction for expert in block.experts.values()] == list(Direction)
    block = network.encoder[0]
    x, valid = torch.randn(3, 8, 12, 16), torch.ones(3, 8, 12)
    state = {
        key.removeprefix("encoder0."): value
        for key, value in network.initial_state(24).items()
        if key.startswith("encoder0.")
    }
    for index, (name, expert) in enumerate(block.experts.items()):
        with torch.no_grad():
            block.router.weight.zero_()
            block.router.weight[index] = 100 * torch.sign(block.expand(block.norm(x))[..., 16:].mean((0, 1, 2)))
        chosen: list[tuple[str, float]] = []

        def note(module: torch.nn.Module, inputs: tuple, _output: object, chosen: list = chosen) -> None:
            chosen.append((module.direction.value, inputs[1].sum().item()))

        hooks = [other.register_forward_hook(note) for other in block.experts.values()]
        block.top_k = 1
        block(x, valid, state)
        for hook in hooks:
            hook.remove()
        assert [key for key, pixels in chosen if pixels] == [name]
        assert expert.direction.value == name


@pytest.mark.parametrize("direction", list(Direction))
def test_laying_out_sequences_and_back_is_the_identity_for_unequal_sides(direction: Direction) -> None:
    """The published code scrambles transposed scans unless height equals width."""
    x = torch.arange(2 * 5 * 7 * 3).reshape(2, 5, 7, 3)
    assert torch.equal(direction.blocks(direction.sequences(x), (2, 5, 7)), x)


@pytest.mark.parametrize("direction", list(Direction))
def test_a_direction_scans_along_its_axis_and_its_way(direction: Direction) -> None:
    """An impulse reaches the pixels ahead of it in the direction of the scan, and no others."""
    u = torch.zeros(2, 4, 6, 1)
    u[0, 2, 3] = 1.0
    sequences = direction.sequences(u)
    ones = torch.ones_like(sequences)
    y, _ = TorchOps().selective_scan(
        sequences, ones, -torch.ones(1, 1), ones, ones, torch.zeros(1), torch.zeros(1),
        torch.zeros(1, 1, 1), torch.ones(1, 1), direction.reverse,
    )  # fmt: skip
    reached = {tuple(index) for index in (direction.blocks(y, (2, 4, 6))[..., 0] > 0).nonzero().tolist()}
    expected = {
        Direction.CROSS_TRACK: {(0, 2, sample) for sample in range(3, 6)},
        Direction.CROSS_TRACK_REVERSE: {(0, 2, sample) for sample in range(4)},
        Direction.ALONG_TRACK: {(0, 2, 3), (0, 3, 3)} | {(1, line, 3) for line in range(4)},
        Direction.ALONG_TRACK_REVERSE: {(0, line, 3) for line in range(3)},
    }
    assert reached == expected[direction]


def test_the_spectral_flip_is_not_a_no_op() -> None:
    """The published code flips an axis of length 1."""
    network = small_network()
    spectral = network.encoder[0].spectral
    v = torch.randn(5, 4, 4)
    forward = spectral._scan(v, 0)
    for name in ("A_log", "D", "dt_bias", "dt_weight"):
        getattr(spectral, name)[1].data.copy_(getattr(spectral, name)[0].data)
    spectral.x_proj[1].load_state_dict(spectral.x_proj[0].state_dict())
    backward = spectral._scan(v, 1)
    assert not torch.allclose(forward, backward)
    assert torch.allclose(spectral._scan(v.flip(1), 1).flip(1), forward, atol=1e-6)


def test_the_spectral_expert_has_weights_that_learn() -> None:
    """The published code makes them anew in every forward pass."""
    network = small_network().train()
    assert {"encoder.0.spectral.x_proj.1.weight", "encoder.0.spectral.A_log.0"} <= set(network.state_dict())
    prediction = network(torch.randn(16, 16, 6), torch.ones(16, 16, dtype=torch.bool), 8)
    torch.stack([scores.square().mean() for scores in prediction.logits]).sum().backward()
    for name, parameter in network.encoder[0].spectral.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_sparse_top_k_equals_the_dense_reference() -> None:
    """Experts that the router leaves out may be left uncomputed: the rest gives the same answer."""
    network = small_network()
    block = network.encoder[0]
    x, valid = torch.randn(1, 8, 12, 16), torch.ones(1, 8, 12)
    state = {
        key.removeprefix("encoder0."): value
        for key, value in network.initial_state(24).items()
        if key.startswith("encoder0.")
    }
    with torch.no_grad():
        dense, *_ = block(x, valid, state)
        spectral, spatial = block.expand(block.norm(x)).chunk(2, dim=-1)
        weights = torch.softmax(block.router(spatial.mean((1, 2))), -1)[0]
        mixed = spatial.clone()
        for index in weights.argsort(descending=True)[:2].tolist():
            name = list(block.experts)[index]
            own = {k.removeprefix(name + "."): v for k, v in state.items() if k.startswith(name + ".")}
            mixed += weights[index] * block.experts[name](spatial, valid, own)[0]
        sparse = x + block.project(torch.cat([block.spectral(spectral), mixed], -1))
        sparse = sparse + block.mlp(block.mlp_norm(sparse))
    assert torch.allclose(sparse, dense, atol=1e-6)


def test_the_forward_pass_needs_no_labels() -> None:
    """The published forward pass takes the ground truth at test time."""
    network = small_network()
    with torch.no_grad():
        prediction = network(torch.randn(8, 8, 6), torch.ones(8, 8, dtype=torch.bool), 8)
    assert [scores.shape for scores in prediction.logits] == [(8, 8, 3)] * 3


def test_state_specs_describe_the_state_in_order() -> None:
    network = small_network()
    with torch.no_grad():
        state = network(torch.randn(8, 24, 6), torch.ones(8, 24, dtype=torch.bool), 8).state
    specs = network.state_specs()
    assert [spec.name for spec in specs] == list(state)
    for spec in specs:
        shape = list(spec.shape)
        shape[spec.sample_axis] *= 24 // MULTIPLE
        assert state[spec.name].shape == tuple(shape)


@pytest.mark.parametrize("block_lines", [0, -8, 4, 12, 9])
def test_a_block_that_cannot_be_halved_three_times_is_refused(block_lines: int) -> None:
    with pytest.raises(InputError, match="multiple of 8"):
        check_block_lines(block_lines)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 4), st.sampled_from((1, 4, 8))),
    reverse=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_the_scan_and_its_gradients_equal_a_plain_loop(
    size: tuple[int, int, int, int], reverse: bool, seed: int
) -> None:
    S, L, D, N = size
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=shape)).requires_grad_()

    u, delta, B, C = draw(S, L, D), draw(S, L, D), draw(S, L, N), draw(S, L, N)
    A = (-torch.from_numpy(rng.uniform(0.1, 2, (D, N)))).requires_grad_()
    skip, bias = draw(D), draw(D)
    h0, mask = draw(S, D, N).detach(), torch.from_numpy((rng.random((S, L)) < 0.7).astype(float))
    y, last = TorchOps().selective_scan(u, delta, A, B, C, skip, bias, h0, mask, reverse)

    step = torch.nn.functional.softplus(delta + bias) * mask.unsqueeze(-1)
    h, outputs = h0, [torch.empty(0)] * L
    for t in reversed(range(L)) if reverse else range(L):
        h = torch.exp(step[:, t, :, None] * A) * h + (step[:, t] * u[:, t]).unsqueeze(-1) * B[:, t, None]
        outputs[t] = (h * C[:, t, None]).sum(-1) + skip * u[:, t]
    expected = torch.stack(outputs, 1)
    assert torch.allclose(y, expected) and torch.allclose(last, h)
    weight = torch.from_numpy(rng.normal(size=(S, L, D)))
    inputs = (u, delta, A, B, C, skip, bias)
    got = torch.autograd.grad((y * weight).sum(), inputs)
    for name, one, other in zip(
        ("u", "delta", "A", "B", "C", "D", "bias"),
        got,
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-10), name
