"""Stream lines through a step's graph, state and all, and look at any tensor on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from hyperline.bundle.card import LABELS_OUTPUT, LINES_INPUT, LOGITS_OUTPUT, VALID_INPUT, Card
from hyperline.calibration.lines import Lines
from hyperline.errors import HyperlineError
from hyperline.plugins.onnxruntime_ops import try_native_ops

Look = Callable[[int, Mapping[str, NDArray[Any]]], None]


@dataclass(frozen=True)
class Answer:
    """What a graph says of a strip.

    Attributes:
        labels: (line, sample) uint8, 0 where not valid; without the padding.
        logits: (line, sample, class) float32.
    """

    labels: NDArray[np.uint8]
    logits: NDArray[np.float32]


def stream(
    model: onnx.ModelProto,
    card: Card,
    lines: Lines,
    threads: int = 1,
    tensors: Iterable[str] = (),
    look: Look | None = None,
) -> Answer:
    """Stream a strip block by block from zero state.

    Args:
        model: the step's graph in any precision.
        card: of its bundle.
        lines: the strip.
        threads: of onnxruntime.
        tensors: names of tensors of the graph to look at.
        look: called after every block with its index and those tensors.

    Raises:
        HyperlineError: the graph does not run in onnxruntime.
    """
    wanted = list(dict.fromkeys(tensors))
    labels, logits = [], []
    try:
        session = open_session(_with_outputs(model, wanted), threads)
        names = [LABELS_OUTPUT, LOGITS_OUTPUT, *(state.output for state in card.states), *wanted]
        samples = lines.valid.shape[1]
        state = {one.input: np.zeros(one.shape_for(samples, card.sample_multiple), np.float32) for one in card.states}
        for index, (values, valid) in enumerate(blocks(lines, card.block_lines)):
            outputs = session.run(names, {LINES_INPUT: values, VALID_INPUT: valid, **state})
            labels.append(outputs[0])
            logits.append(outputs[1])
            state = dict(zip(state, outputs[2 : 2 + len(state)], strict=True))
            if look is not None:
                look(index, dict(zip(wanted, outputs[2 + len(state) :], strict=True)))
    except Exception as error:  # onnxruntime derives its errors from Exception alone
        if isinstance(error, HyperlineError):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise HyperlineError(f"{card.name} does not run in onnxruntime: {reason}; export the bundle again") from error
    rows, columns = slice(0, len(lines.valid)), slice(0, lines.samples)
    return Answer(np.concatenate(labels)[rows, columns], np.concatenate(logits)[rows, columns])


def open_session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph in onnxruntime on the CPU, with the native operators where they are installed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try_native_ops(options)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def blocks(lines: Lines, block_lines: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Cut a strip into blocks; the last one is filled up with lines that are not valid."""
    for first in range(0, len(lines.valid), block_lines):
        values, valid = lines.values[first : first + block_lines], lines.valid[first : first + block_lines]
        missing = block_lines - len(valid)
        yield np.pad(values, ((0, missing), (0, 0), (0, 0))), np.pad(valid, ((0, missing), (0, 0)))


def _with_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Return the model with more of its tensors as outputs; types and shapes follow from the graph."""
    given = {output.name for output in model.graph.output}
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    infos = {info.name: info for info in model.graph.value_info}
    for name in names:
        if name not in given:
            shown.graph.output.append(infos.get(name) or onnx.helper.make_empty_tensor_value_info(name))
    return shown
