"""Uncertainty-guided corrective learning: supervise most where the network is least sure.

Source: MambaMoE (arXiv 2504.20509), section 3.3: at each scale, predictive uncertainty becomes the
probability with which a labelled pixel supervises that scale; the sum over scales is the loss. The
published code departs from the text in two ways that matter: its uncertainty, -p log p of the largest
probability, peaks at p = 1/e, so that the least certain pixels are sampled less; and the full labels
supervise only the coarsest scale, while the finest, the one evaluated, sees sampled labels alone.
``corrected`` mends both; ``published`` keeps them for comparison.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

UgclVariant = Literal["corrected", "published", "off"]


def uncertainty(logits: Tensor) -> Tensor:
    """Return the entropy of the softmax as a share of its maximum: 0 certain, 1 uniform.

    Args:
        logits: (..., classes).
    """
    log_p = F.log_softmax(logits, dim=-1)
    return -(log_p.exp() * log_p).sum(-1) / math.log(max(logits.shape[-1], 2))


def published_uncertainty(logits: Tensor) -> Tensor:
    """Return -p log p of the largest probability, as the published code has it. Not monotone."""
    p = F.softmax(logits, dim=-1).amax(-1)
    return -p * torch.log(p + 1e-6)


def sampling_mask(u: Tensor, labelled: Tensor) -> Tensor:
    """Draw the labelled pixels that supervise, each with its min-max normalised uncertainty.

    Args:
        u: (P,) uncertainty.
        labelled: (P,) bool.

    Returns:
        (P,) bool, a subset of ``labelled``; all of it where the draw leaves none.
    """
    u = (u - u.min()) / (u.max() - u.min()).clamp(min=1e-6)
    drawn = labelled & (torch.rand_like(u) < u)
    return drawn if bool(drawn.any()) else labelled


def scale_losses(
    logits: tuple[Tensor, ...], labels: Tensor, variant: UgclVariant, smoothing: float = 0.0
) -> list[Tensor]:
    """Return the supervised loss of every scale, the finest first; their sum is the training loss.

    Args:
        logits: one (T, W, classes) a scale, the finest first.
        labels: (T, W) int64 class ids, 0 = unlabelled.
        variant: ``corrected`` samples every scale by uncertainty over the labelled pixels and adds the full
            labels on the finest; ``published`` samples by its uncertainty over the image and adds the full
            labels on the coarsest; ``off`` supervises every scale with the full labels, the finest twice,
            so that the scales weigh the same as with sampling.
        smoothing: label smoothing.
    """
    target = labels.flatten()
    labelled = target > 0
    full_labels_at = len(logits) - 1 if variant == "published" else 0
    losses = []
    for scale, scores in enumerate(logits):
        scores = scores.flatten(0, 1)
        if variant == "published":
            mask = sampling_mask(published_uncertainty(scores.detach()), labelled)
            loss = F.cross_entropy(scores[mask], target[mask] - 1, label_smoothing=smoothing)
        elif variant == "corrected":
            seen, wanted = scores[labelled], target[labelled] - 1
            mask = sampling_mask(uncertainty(seen.detach()), torch.ones_like(wanted, dtype=torch.bool))
            loss = F.cross_entropy(seen[mask], wanted[mask], label_smoothing=smoothing)
        else:
            loss = F.cross_entropy(scores[labelled], target[labelled] - 1, label_smoothing=smoothing)
        if scale == full_labels_at:
            loss = loss + F.cross_entropy(scores[labelled], target[labelled] - 1, label_smoothing=smoothing)
        losses.append(loss)
    return losses


def balance_loss(routing: tuple[Tensor, ...], active: tuple[Tensor, ...]) -> Tensor:
    """Return the load-balancing loss, 1 where every expert carries the same share.

    Experts times the sum over experts of (share of blocks that picked it) times (mean probability):
    Fedus et al., Switch Transformers, arXiv 2101.03961, equation 4. The mean over scales.

    Args:
        routing: one (R, experts) of router logits a scale.
        active: one (R, experts), 1 where picked, a scale.
    """
    terms = []
    for logits, picked in zip(routing, active, strict=True):
        share = picked.mean(0) / picked.sum(-1).mean()
        terms.append(logits.shape[-1] * (share * F.softmax(logits, dim=-1).mean(0)).sum())
    return torch.stack(terms).mean()
