"""The network on the native operators against the network on torch's."""

from __future__ import annotations

import copy
import logging

import pytest
import torch

from hyperline.errors import HyperlineError
from hyperline.plugins.native import OPS_LIBRARY, find_library
from hyperline.train import native_ops
from hyperline.train.native_ops import NativeOps, fastest_ops
from hyperline.train.ops import TorchOps

from .conftest import small_network

needs_library = pytest.mark.skipif(find_library(OPS_LIBRARY) is None, reason=f"{OPS_LIBRARY} is not built")


@needs_library
def test_a_network_has_the_same_logits_and_gradients_on_both() -> None:
    native = small_network(state=16)
    plain = copy.deepcopy(native)
    plain.use_ops(TorchOps())
    assert isinstance(native.encoder[0].ops, NativeOps)
    lines, valid = torch.randn(16, 24, 6), torch.rand(16, 24) < 0.9
    lines = torch.where(valid.unsqueeze(-1), lines, 0.0)
    logits = []
    for network in (native, plain):
        prediction = network(lines, valid, 8)
        logits.append(prediction.logits[0])
        torch.stack([scores.square().mean() for scores in prediction.logits]).sum().backward()
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)
    for (name, one), other in zip(native.named_parameters(), plain.parameters(), strict=True):
        if other.grad is not None:
            scale = other.grad.abs().max().item()
            assert one.grad is not None
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4 * scale + 1e-8, msg=name)


@needs_library
def test_double_precision_goes_to_torch() -> None:
    shapes = ((2, 5, 3), (2, 5, 3), (3, 4), (2, 5, 4), (2, 5, 4), (3,), (3,), (1, 3, 4), (1, 1))
    tensors = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    y, h = fastest_ops().selective_scan(*tensors, False)
    expected_y, expected_h = TorchOps().selective_scan(*tensors, False)
    assert y.dtype == torch.float64 and torch.equal(y, expected_y) and torch.equal(h, expected_h)


def test_without_the_library_torch_takes_over_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> None:
        raise HyperlineError("libhyperline_ops.so is not installed; install hyperline again")

    monkeypatch.setattr(native_ops, "NativeLibrary", missing)
    with caplog.at_level(logging.INFO):
        ops = fastest_ops()
    assert type(ops) is TorchOps
    assert [record.getMessage() for record in caplog.records] == [
        "scans run in torch, several times slower: libhyperline_ops.so is not installed; install hyperline again"
    ]
