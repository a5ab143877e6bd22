"""ONNX Runtime on the CPU: the embedded default."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hyperline.bundle.card import (
    CONFIDENCE_OUTPUT,
    LABELS_OUTPUT,
    LINES_INPUT,
    LOGITS_OUTPUT,
    VALID_INPUT,
    Card,
)
from hyperline.errors import HyperlineError
from hyperline.plugins.onnxruntime_ops import runs_native_ops, try_native_ops
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines.engine import Engine, Outputs
from hyperline.scenes.files import printable

# Wraps an array without a copy: on the CPU the tensor is the array's memory.
_tensor = onnxruntime.OrtValue.ortvalue_from_numpy

# Optimizers to leave out. This one ends the process (onnxruntime 1.24 to 1.32 on x86) where a transposed FP16 tensor is
# cast and multiplied by a matrix. It blocks the channels of convolutions, which a float32 step gains from.
_DISABLED = {"fp16": ["NchwcTransformer"]}


class OrtCpuEngine(Engine):
    """The step in ONNX Runtime, all inputs and outputs bound to preallocated memory.

    The state lives in two sets of buffers, A and B. Odd steps read A and write B, even steps read B and write
    A, through two bindings made once: carrying the state on copies nothing.
    """

    name = "ort-cpu"

    def __init__(
        self, model: bytes, card: Card, threads: int, native_ops: bool = True, precision: str = "fp32"
    ) -> None:
        """See ``Engine``.

        Args:
            model: the ONNX file.
            card: what it takes and gives.
            threads: threads to use.
            native_ops: run our operators natively where that can be; False: as the model's function bodies.
            precision: which of the bundle's models it is.

        Raises:
            HyperlineError: onnxruntime cannot load the model.
        """
        super().__init__(model, card, threads, precision)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1  # the graph is one chain
        options.log_severity_level = 3
        # Threads spin within a step, some 300 parallel regions of tens of microseconds, and sleep between steps: at
        # 1024 samples, two free cores, 598 lines/s against 521 asleep throughout (bench/step_log.md). Give a machine
        # with other work on it one thread less than it has cores: there spinning costs more than it brings.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        registered = native_ops and try_native_ops(options)
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], disabled_optimizers=_DISABLED.get(precision)
            )
        except Exception as error:  # onnxruntime's errors share no base class
            raise HyperlineError(
                f"onnxruntime {onnxruntime.__version__} cannot load the model {card.name}: "
                f"{_first_line(error)}; update onnxruntime, or export the bundle again"
            ) from error
        self.native_ops = registered and runs_native_ops(self._session)
        self._require_contract()
        self._buffers: list[NDArray[np.float32]] = []
        self._bindings: list[Any] = []
        self._samples = -1

    def _require_contract(self) -> None:
        card = self.card
        for kind, held, wanted in (
            (
                "inputs",
                self._session.get_inputs(),
                {LINES_INPUT, VALID_INPUT, *(state.input for state in card.states)},
            ),
            (
                "outputs",
                self._session.get_outputs(),
                {LABELS_OUTPUT, CONFIDENCE_OUTPUT, LOGITS_OUTPUT, *(state.output for state in card.states)},
            ),
        ):
            names = {value.name for value in held}
            if names != wanted:
                raise HyperlineError(
                    f"the graph of {card.name} and its card disagree about the {kind}: only in the graph "
                    f"{sorted(names - wanted)}, only in the card {sorted(wanted - names)}; "
                    f"export the bundle again"
                )

    def reset(self, samples: int) -> None:
        """See ``Engine``."""
        if samples != self._samples:
            self._allocate(samples)
        self._buffers[0][...] = 0.0
        self._turn = 0

    @property
    def state(self) -> NDArray[np.float32]:
        """See ``Engine``."""
        return self._buffers[self._turn]

    def _allocate(self, samples: int) -> None:
        card = self.card
        shape = (card.block_lines, samples)
        classes = len(card.class_names)
        self._outputs = Outputs(
            np.empty(shape, np.uint8), np.empty(shape, np.float32), np.empty((*shape, classes), np.float32)
        )
        shapes = [state.shape_for(samples, card.sample_multiple) for state in card.states]
        ends = np.cumsum([math.prod(one) for one in shapes], dtype=int)
        # One buffer holds them all, so that guarding or copying the state is one pass.
        self._buffers = [np.zeros(ends[-1] if len(ends) else 0, np.float32) for _ in "AB"]
        states = [
            [part.reshape(one) for part, one in zip(np.split(buffer, ends[:-1]), shapes, strict=True)] if shapes else []
            for buffer in self._buffers
        ]
        self._bindings = []
        for read, write in (states, states[::-1]):
            binding = self._session.io_binding()
            for state, before, after in zip(card.states, read, write, strict=True):
                binding.bind_ortvalue_input(state.input, _tensor(before))
                binding.bind_ortvalue_output(state.output, _tensor(after))
            binding.bind_ortvalue_output(LABELS_OUTPUT, _tensor(self._outputs.labels))
            binding.bind_ortvalue_output(CONFIDENCE_OUTPUT, _tensor(self._outputs.confidence))
            binding.bind_ortvalue_output(LOGITS_OUTPUT, _tensor(self._outputs.logits))
            self._bindings.append(binding)
        self._samples = samples

    def step(self, block: Block) -> Outputs:
        """See ``Engine``. Binding the block costs some 7 µs a block and copies nothing."""
        binding = self._bindings[self._turn]
        try:
            binding.bind_ortvalue_input(LINES_INPUT, _tensor(block.lines))
            binding.bind_ortvalue_input(VALID_INPUT, _tensor(block.valid))
            self._session.run_with_iobinding(binding)
        except Exception as error:  # see __init__
            raise HyperlineError(
                f"onnxruntime failed in a step of {self.card.name} on a block of shape {block.lines.shape}: "
                f"{_first_line(error)}; export the bundle again, or update onnxruntime"
            ) from error
        self._turn = 1 - self._turn  # after a failure the state is still the one before the block
        return self._outputs


def _first_line(error: Exception) -> str:
    # It quotes names of the graph.
    return printable(str(error).strip().partition("\n")[0])[:300]
