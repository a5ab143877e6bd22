"""Does the exported graph say what the trained network says? Export refuses to write one that does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperline.bundle.card import (
    EXPERTS_OUTPUT,
    LABELS_OUTPUT,
    LINES_INPUT,
    LOGITS_OUTPUT,
    UNCERTAINTY_OUTPUT,
    VALID_INPUT,
)
from hyperline.errors import HyperlineError
from hyperline.export.excerpt import Excerpt
from hyperline.export.step import state_tensors
from hyperline.plugins.onnxruntime_ops import try_native_ops
from hyperline.train.network import Network
from hyperline.train.ugcl import uncertainty

# Several blocks, because the carried state must be right too; and enough pixels that one label in 10 000, a tie
# of two classes but for rounding, is not refused.
_BLOCKS = 3
_LINES = 96
MAX_LOGIT_DIFFERENCE = 1e-4
MAX_STATE_DIFFERENCE = 1e-4
MIN_EQUAL_LABELS = 0.9999
# Of numbers from 0 to 1.
MAX_SHARE_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class Parity:
    """How far the graph is from the network.

    Attributes:
        max_logit_difference: largest absolute difference of a logit.
        max_state_difference: largest difference of a carried value after the last block, relative to the value
            where that is above 1.
        max_uncertainty_difference: largest difference of a valid pixel's uncertainty.
        max_expert_difference: largest difference of a weight that a router gives an expert; None without routers.
        equal_labels: fraction of the valid pixels given the same label.
        pixels: valid pixels compared, each way of running the graph on its own.
    """

    max_logit_difference: float
    max_state_difference: float
    max_uncertainty_difference: float
    max_expert_difference: float | None
    equal_labels: float
    pixels: int

    def as_dict(self) -> dict[str, float]:
        """Return plain numbers for the card."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Answer:
    """What a network or a graph says of some lines.

    Attributes:
        labels: (line, sample) uint8, 0 where not valid.
        logits: (line, sample, class) float32.
        uncertainty: (line, sample) float32, 0 where not valid.
        experts: (block, scale, expert) float32, the weights that the routers give; None without routers.
        state: carried tensors after the last block, by the names of the network's `state_specs`.
    """

    labels: NDArray[np.uint8]
    logits: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    experts: NDArray[np.float32] | None
    state: Mapping[str, NDArray[np.float32]]


def parity_lines(block_lines: int) -> int:
    """Return how many lines `check_parity` streams, a multiple of ``block_lines``."""
    return max(_BLOCKS, -(-_LINES // block_lines)) * block_lines


def check_parity(network: Network, model: bytes, excerpt: Excerpt, block_lines: int) -> Parity:
    """Stream real lines through the network and through the graph in onnxruntime, and compare.

    The graph runs on its function bodies, and again on the native operators where they are installed. Two widths are
    streamed over several blocks, one of whose lines is lost: the full one from zero state, and the half from a random
    state, because the state of an expert that the router never picks for these lines would stay zero and hide a fault.

    Args:
        network: the trained network, as it was trained: nothing folded, operators in PyTorch.
        model: the serialised graph, as it will stand in the bundle.
        excerpt: `parity_lines` lines.
        block_lines: K.

    Raises:
        HyperlineError: the graph does not run, or a logit, state, uncertainty or weight of an expert differs by more
            than 1e-4, or more than one label in 10 000 differs.
    """
    total = parity_lines(block_lines)
    if len(excerpt.lines) != total or not excerpt.valid.any():
        raise HyperlineError(f"parity needs {total} lines with a valid pixel, there are {len(excerpt.lines)}")
    narrow = excerpt.narrower()
    runs = (
        (_lossy(excerpt, block_lines), _initial_state(network, excerpt, scale=0.0)),
        (_lossy(narrow, block_lines), _initial_state(network, narrow, scale=1.0)),
    )
    expected = [classify(network, part.lines, part.valid, block_lines, state) for part, state in runs]
    try:
        pairs = [
            (answer, _stream(network, session, part, block_lines, state, answer.experts is not None))
            for session in _sessions(model)
            for answer, (part, state) in zip(expected, runs, strict=True)
        ]
    # onnxruntime derives its errors from Exception alone and gives them no common base.
    except Exception as error:
        raise HyperlineError(f"the exported graph does not run in onnxruntime: {error}") from error
    valid = [expected.labels != 0 for expected, _ in pairs]
    pixels = sum(int(mask.sum()) for mask in valid)
    equal = sum(int((a.labels == e.labels)[mask].sum()) for (e, a), mask in zip(pairs, valid, strict=True))
    experts = [np.abs(a.experts - e.experts) for e, a in pairs if e.experts is not None and a.experts is not None]
    parity = Parity(
        max_logit_difference=_largest(np.abs(a.logits - e.logits) for e, a in pairs),
        max_state_difference=_largest(
            np.abs(actual.state[name] - array) / np.maximum(np.abs(array), 1)
            for expected, actual in pairs
            for name, array in expected.state.items()
        ),
        max_uncertainty_difference=_largest(np.abs(a.uncertainty - e.uncertainty) for e, a in pairs),
        max_expert_difference=_largest(experts) if experts else None,
        equal_labels=equal / max(pixels, 1),  # nothing compared is no proof
        pixels=pixels,
    )
    # written so that a NaN fails
    if not (
        parity.max_logit_difference <= MAX_LOGIT_DIFFERENCE
        and parity.max_state_difference <= MAX_STATE_DIFFERENCE
        and parity.max_uncertainty_difference <= MAX_SHARE_DIFFERENCE
        and (parity.max_expert_difference is None or parity.max_expert_difference <= MAX_SHARE_DIFFERENCE)
        and parity.equal_labels >= MIN_EQUAL_LABELS
    ):
        raise HyperlineError(
            f"the exported graph differs from the trained network: logits by up to "
            f"{parity.max_logit_difference:.3g} (allowed {MAX_LOGIT_DIFFERENCE:g}), states by up to "
            f"{parity.max_state_difference:.3g} (allowed {MAX_STATE_DIFFERENCE:g}), uncertainties by up to "
            f"{parity.max_uncertainty_difference:.3g} and experts' weights by up to "
            f"{parity.max_expert_difference or 0:.3g} (allowed {MAX_SHARE_DIFFERENCE:g}), labels equal on "
            f"{parity.equal_labels:.4%} of {pixels} pixels (at least {MIN_EQUAL_LABELS:.2%}); no bundle was "
            "written. Please report this with the versions of torch, onnx and onnxruntime"
        )
    return parity


def _largest(differences: Iterable[NDArray[np.float32]]) -> float:
    """Return the largest of some arrays of absolute differences, 0 for none; a NaN is kept, as max() would not."""
    return float(np.max([0.0, *(one.max() for one in differences)]))


def _sessions(model: bytes) -> Iterator[onnxruntime.InferenceSession]:
    """Load the graph on its function bodies, then on the native operators if they are installed."""
    for native_ops in (False, True):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the export's own figures should not depend on the machine's cores
        if not native_ops or try_native_ops(options):
            yield onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def classify(
    network: Network,
    lines: NDArray[np.float32],
    valid: NDArray[np.bool_],
    block_lines: int,
    state: Mapping[str, Tensor] | None = None,
) -> Answer:
    """Classify lines with the trained network itself.

    Args:
        network: in evaluation mode.
        lines: (line, sample, band), the lines a multiple of ``block_lines``, the samples of 8.
        valid: (line, sample).
        block_lines: K.
        state: carried from before; None starts a strip.
    """
    with torch.inference_mode():
        prediction = network(torch.from_numpy(lines), torch.from_numpy(valid), block_lines, state)
        gates = [
            torch.softmax(routing, -1) * active
            for routing, active in zip(prediction.routing, prediction.active, strict=True)
        ]
        uncertain = torch.where(torch.from_numpy(valid), uncertainty(prediction.logits[0]), 0.0)
    logits: NDArray[np.float32] = prediction.logits[0].numpy()
    labels = np.where(valid, logits.argmax(-1) + 1, 0).astype(np.uint8)
    experts = torch.stack(gates, 1).numpy() if gates else None
    carried = {name: tensor.numpy() for name, tensor in prediction.state.items()}
    return Answer(labels, logits, uncertain.numpy(), experts, carried)


def _initial_state(network: Network, excerpt: Excerpt, scale: float) -> dict[str, Tensor]:
    """Draw a normal state of a given standard deviation."""
    generator = torch.Generator().manual_seed(0)
    zeros = network.initial_state(excerpt.valid.shape[1])
    return {name: scale * torch.randn(tensor.shape, generator=generator) for name, tensor in zeros.items()}


def _lossy(excerpt: Excerpt, block_lines: int) -> Excerpt:
    """Lose one line of the second block."""
    valid = excerpt.valid.copy()
    valid[block_lines + 1] = False
    return Excerpt(excerpt.lines, valid)


def _stream(
    network: Network,
    session: onnxruntime.InferenceSession,
    excerpt: Excerpt,
    block_lines: int,
    state: Mapping[str, Tensor],
    has_experts: bool,
) -> Answer:
    """Classify lines with the graph, block by block."""
    tensors = dict(zip(state, state_tensors(network), strict=True))
    carried = {tensors[name].input: tensor.numpy() for name, tensor in state.items()}
    fixed = [LABELS_OUTPUT, LOGITS_OUTPUT, UNCERTAINTY_OUTPUT, *([EXPERTS_OUTPUT] if has_experts else [])]
    wanted = [*fixed, *(tensor.output for tensor in tensors.values())]
    answers: list[list[NDArray[Any]]] = [[] for _ in fixed]
    for first in range(0, len(excerpt.lines), block_lines):
        block = slice(first, first + block_lines)
        outputs = session.run(wanted, {LINES_INPUT: excerpt.lines[block], VALID_INPUT: excerpt.valid[block], **carried})
        for held, output in zip(answers, outputs, strict=False):
            held.append(output)
        carried = dict(zip(carried, outputs[len(fixed) :], strict=True))
    labels, logits, uncertain, *experts = answers
    return Answer(
        np.concatenate(labels),
        np.concatenate(logits),
        np.concatenate(uncertain),
        np.stack(experts[0]) if experts else None,
        dict(zip(state, carried.values(), strict=True)),
    )
