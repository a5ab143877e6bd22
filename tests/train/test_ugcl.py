"""Uncertainty, sampling and the losses of corrective learning."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperline.train.ugcl import balance_loss, published_uncertainty, sampling_mask, scale_losses, uncertainty


@given(classes=st.integers(2, 20), steps=st.integers(2, 30))
def test_uncertainty_falls_as_the_network_grows_sure(classes: int, steps: int) -> None:
    sure = torch.linspace(0, 12, steps)
    logits = torch.zeros(steps, classes)
    logits[:, 0] = sure
    u = uncertainty(logits)
    assert (u.diff() < 0).all()
    assert u[0] == pytest.approx(1.0, abs=1e-5) and u.min() >= 0


def test_the_published_uncertainty_is_not_monotone() -> None:
    logits = torch.zeros(3, 16)
    logits[:, 0] = torch.tensor([0.0, 2.2, 9.0])  # uniform, about 1/e, sure
    low, middle, high = published_uncertainty(logits)
    assert middle > low > high


def test_an_uncertain_pixel_supervises_more_often_than_a_sure_one() -> None:
    torch.manual_seed(0)
    u, labelled = torch.tensor([0.0, 0.2, 0.8, 1.0]), torch.ones(4, dtype=torch.bool)
    share = torch.stack([sampling_mask(u, labelled) for _ in range(2000)]).float().mean(0)
    assert share[0] == 0 and share[3] == 1
    assert share[1:3].tolist() == pytest.approx([0.2, 0.8], abs=0.04)


def test_a_draw_that_leaves_no_pixel_takes_them_all() -> None:
    labelled = torch.tensor([True, False, True])
    assert torch.equal(sampling_mask(torch.zeros(3), labelled), labelled)


def scores_and_labels() -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    torch.manual_seed(1)
    labels = torch.randint(0, 4, (6, 5))
    return tuple(torch.randn(6, 5, 3, requires_grad=True) for _ in range(3)), labels


def supervised(scores: torch.Tensor) -> torch.Tensor:
    """Pixels whose scores get a gradient."""
    assert scores.grad is not None
    return scores.grad.abs().sum(-1) > 0


@pytest.mark.parametrize(("variant", "full"), [("corrected", 0), ("published", 2)])
def test_the_full_labels_supervise_the_finest_head_unless_published(variant: str, full: int) -> None:
    """The published code gives the full labels to the coarsest head alone."""
    scores, labels = scores_and_labels()
    torch.stack(scale_losses(scores, labels, variant)).sum().backward()
    for scale, one in enumerate(scores):
        seen = supervised(one)
        assert not seen[labels == 0].any()
        assert bool(seen[labels > 0].all()) == (scale == full)


def test_without_corrective_learning_every_head_sees_the_full_labels() -> None:
    scores, labels = scores_and_labels()
    losses = scale_losses(scores, labels, "off")
    torch.stack(losses).sum().backward()
    assert all(torch.equal(supervised(one), labels > 0) for one in scores)


def test_the_balance_loss_is_one_for_equal_shares_and_larger_for_unequal() -> None:
    even = torch.zeros(4, 4)
    assert balance_loss((even,), (torch.eye(4),)) == pytest.approx(1.0)
    uneven = torch.tensor([[5.0, 0, 0, 0]]).repeat(4, 1)
    picked = torch.tensor([[1.0, 0, 0, 0]]).repeat(4, 1)
    assert balance_loss((uneven,), (picked,)) > 3
