"""What our operators mean: NumPy twins that every kernel and function body is tested against.

Clarity before speed: one plain loop over the steps. The recurrence is Mamba's selective scan (Gu and Dao,
arXiv 2312.00752, section 3.2), discretised as its published code does: exp(δA) for the state and δB for the
input.

Shape letters:
    S  sequences scanned side by side (samples, lines or pixels)
    L  steps of a sequence
    D  channels
    N  states of a channel
    C  channels of a pixel
    R  rows of gate logits, one a block
    E  experts
    K  lines of a block
    W  samples of a line
    I  inputs, O  outputs of a layer
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float64 = NDArray[np.float64]
Activation = Literal["silu", "gelu"]


def selective_scan(
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array,
    delta_bias: Array,
    h0: Array,
    mask: Array,
    reverse: bool,
) -> tuple[Float64, Float64]:
    """Run the operator ``SelectiveScan``.

    With the step size δ = softplus(delta + delta_bias) · mask::

        h_t = exp(δ_t A) h_{t-1} + δ_t u_t B_t
        y_t = C_t · h_t + D u_t

    so a step whose mask is 0 holds the state exactly: exp(0) = 1 and no input is added.

    Args:
        u: (S, L, D) input.
        delta: (S, L, D) step size before bias and softplus.
        A: (D, N) decay rates, negative.
        B: (S, L, N) weights of the input.
        C: (S, L, N) weights of the output.
        D: (D,) weight of the input in the output.
        delta_bias: (D,).
        h0: (S or 1, D, N) state before the first step taken.
        mask: (S or 1, L or 1) factor on the step size, 0 or 1.
        reverse: go from the last step to the first; y stays in place, and h is the state after step 0.

    Returns:
        y (S, L, D), and h (S, D, N), the state after the last step taken.
    """
    u, delta, A, B, C, D, delta_bias, h0, mask = (
        np.asarray(array, dtype=np.float64) for array in (u, delta, A, B, C, D, delta_bias, h0, mask)
    )
    sequences, length, _ = u.shape
    step = np.logaddexp(0.0, delta + delta_bias) * mask[:, :, None]  # (S, L, D)
    h = np.broadcast_to(h0, (sequences, *A.shape))  # (S, D, N)
    y = np.empty_like(u)
    for t in reversed(range(length)) if reverse else range(length):
        decay = np.exp(step[:, t, :, None] * A)  # (S, D, N)
        h = decay * h + (step[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        y[:, t] = (h * C[:, t, None, :]).sum(axis=-1) + D * u[:, t]
    return y, np.array(h)


def expert_gate(logits: Array, k: int) -> tuple[Float64, Float64]:
    """Run the operator ``ExpertGate``: softmax, kept for the k largest logits of a row, zero elsewhere.

    The kept weights are not renormalised. Of equal logits the one with the lower index goes first.

    Args:
        logits: (R, E).
        k: experts kept in a row, 1 to E.

    Returns:
        weights (R, E), and active (R, E), 1 where an expert is kept and 0 elsewhere.
    """
    logits = np.asarray(logits, dtype=np.float64)
    exponential = np.exp(logits - logits.max(axis=-1, keepdims=True))
    softmax = exponential / exponential.sum(axis=-1, keepdims=True)
    kept = np.argsort(-logits, axis=-1, kind="stable")[:, :k]
    active = np.zeros_like(softmax)
    np.put_along_axis(active, kept, 1.0, axis=-1)
    return softmax * active, active


def norm(
    x: Array,
    scale: Array,
    bias: Array,
    epsilon: float,
    addend: Array | None = None,
    keep: Array | None = None,
    gate: Array | None = None,
    activation: Literal["silu"] | None = None,
) -> Float64:
    """Run a norm of domain ``hyperline.fused``: each row less its mean, over its standard deviation.

    Args:
        x: (..., C).
        scale: (C,) factors of the result.
        bias: (C,), added to it.
        epsilon: added to the variance.
        addend: like x, added to it before: ``SumNormGated``.
        keep: (..., 1); negative results become 0, and rows where it is 0 wholly, whatever x is there: ``NormRelu``.
        gate: as many numbers as x; the result is multiplied by gate · sigmoid(gate): ``SumNormGated``.
        activation: v · sigmoid(v) of the result v: ``NormSilu``.

    Returns:
        Like x, or like gate where there is one.
    """
    x = np.asarray(x, dtype=np.float64) + (0.0 if addend is None else np.asarray(addend, np.float64))
    off = x - x.mean(axis=-1, keepdims=True)
    y: Float64 = off / np.sqrt(np.square(off).mean(axis=-1, keepdims=True) + epsilon) * scale + bias
    if keep is not None:
        y = np.where(keep != 0, np.maximum(y, 0.0), 0.0)
    if gate is not None:
        y = y.reshape(gate.shape) * _silu(np.asarray(gate, np.float64))
    return _silu(y) if activation == "silu" else y


def centred_linear(x: Array, mean: Array, weight: Array, bias: Array) -> Float64:
    """Run ``CentredLinear``: (x - mean) weight + bias; x (..., I), mean (I,), weight (I, O), bias (O,)."""
    y: Float64 = (np.asarray(x, np.float64) - mean) @ np.asarray(weight, np.float64) + bias
    return y


def pool(x: Array, mask: Array) -> tuple[Float64, Float64]:
    """Run ``Pool``: the mean of the valid pixels of every 2x2 cell.

    Args:
        x: (K W, C), 0 where not valid.
        mask: (K, W), 1 where valid and 0 elsewhere; both sizes even.

    Returns:
        (K W / 4, C), 0 where no pixel of the cell is valid; and (K / 2, W / 2), 1 where one is.
    """
    lines, samples = mask.shape
    cells = np.asarray(x, np.float64).reshape(lines // 2, 2, samples // 2, 2, -1).sum(axis=(1, 3))
    count = np.asarray(mask, np.float64).reshape(lines // 2, 2, samples // 2, 2).sum(axis=(1, 3))
    means = cells / np.maximum(count, 1.0)[..., None]
    return means.reshape(-1, x.shape[1]), (count > 0).astype(np.float64)


def decide(logits: Array, valid: Array) -> tuple[NDArray[np.uint8], Float64, Float64]:
    """Run ``Decide``.

    Args:
        logits: (..., classes).
        valid: (...) bool.

    Returns:
        The class of the greatest logit, the first of equals, counted from 1; its softmax; and the entropy of the
        softmax as a share of what it is for as many equal classes, two at least. All 0 where not valid.
    """
    logits = np.asarray(logits, np.float64)
    x = logits - logits.max(axis=-1, keepdims=True)
    total = np.exp(x).sum(axis=-1)
    entropy = np.log(total) - (x * np.exp(x)).sum(axis=-1) / total
    uncertainty = entropy / np.log(max(logits.shape[-1], 2))
    label = np.where(valid, logits.argmax(axis=-1) + 1, 0).astype(np.uint8)
    return label, np.where(valid, 1 / total, 0.0), np.where(valid, uncertainty, 0.0)


def _silu(v: Float64) -> Float64:
    silu: Float64 = v * np.exp(-np.logaddexp(0.0, -v))
    return silu


def quantize(x: Array, scale: Array) -> NDArray[np.int8]:
    """Return x / scale rounded to the nearest int8, ties to even, as ONNX's ``QuantizeLinear`` does with zero point 0.

    The division is one of float32, for that decides ties.
    """
    ratio = np.asarray(x, np.float32) / np.asarray(scale, np.float32)
    return np.clip(np.rint(ratio), -128, 127).astype(np.int8)


def quantized_linear(
    x: Array,
    x_scale: Array,
    weight: Array,
    weight_scale: Array,
    bias: Array,
    residual: Array | None = None,
    activation: Activation | None = None,
) -> Float64:
    """Run the INT8 layer ``Linear``: v = x_scale weight_scale (x_int8 · weight) + bias.

    ``LinearAdd`` gives v + residual, ``LinearSilu`` v / (1 + exp(-v)), ``LinearGelu`` the tanh form of the GELU
    (Hendrycks and Gimpel, arXiv 1606.08415, section 2), v (1 + tanh(sqrt(2 / π) (v + 0.044715 v³))) / 2.

    Args:
        x: (..., I) float32.
        x_scale: () float32, of all of x.
        weight: (I, O) int8.
        weight_scale: (O,) float32.
        bias: (O,), or of the shape of the result: what is added.
        residual: of the shape of the result, added to it.
        activation: of v, if any.

    Returns:
        (..., O).
    """
    products = quantize(x, x_scale).astype(np.int64) @ weight.astype(np.int64)
    y = products * (np.float64(x_scale) * weight_scale.astype(np.float64)) + bias
    if activation is not None:
        inside = y if activation == "silu" else 2 * np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)
        y = y * np.exp(-np.logaddexp(0.0, -inside))
    return y if residual is None else y + residual


def quantized_block_conv(
    past: Array,
    x: Array,
    x_scale: Array,
    weight: Array,
    weight_scale: Array,
    bias: Array,
    residual: Array | None = None,
    relu: bool = False,
) -> Float64:
    """Run the INT8 layer ``BlockConv``, ``BlockConvRelu`` or ``BlockConvAdd``: a 3×3 convolution of a block of lines.

    It sees the line before the block, and zeros after it and beside it (`hyperline.train.ssm.BlockConv`).

    Args:
        past: (1, W, I) float32, the line before the block.
        x: (K, W, I) float32.
        x_scale: () float32, of all of both.
        weight: (O, I, 3, 3) int8.
        weight_scale: (O,) float32.
        bias: (O,) float32.
        residual: (K, W, O), added to the result.
        relu: whether negative results become 0.

    Returns:
        (K, W, O).
    """
    lines = np.pad(quantize(np.concatenate([past, x]), x_scale).astype(np.int64), ((0, 1), (1, 1), (0, 0)))
    K, W, _ = x.shape
    sums = sum(
        lines[down : down + K, right : right + W] @ weight[:, :, down, right].T.astype(np.int64)
        for down in range(3)
        for right in range(3)
    )
    y = sums * (np.float64(x_scale) * weight_scale.astype(np.float64)) + bias
    y = np.maximum(y, 0.0) if relu else y
    return y if residual is None else y + residual
