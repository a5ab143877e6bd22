"""What the engines over ONNX Runtime share: the session, the contract with the card, and the memory of a strip."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hyperline.bundle.card import (
    CONFIDENCE_OUTPUT,
    EXPERTS_OUTPUT,
    LABELS_OUTPUT,
    LINES_INPUT,
    LOGITS_OUTPUT,
    OPTIONAL_OUTPUTS,
    UNCERTAINTY_OUTPUT,
    VALID_INPUT,
    Card,
)
from hyperline.errors import HyperlineError
from hyperline.plugins.native import find_library
from hyperline.plugins.native_quantized import QuantizedLibrary
from hyperline.plugins.onnxruntime_ops import ORT_LIBRARY, runs_native_ops, try_native_ops
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines.constants import Constants
from hyperline.runtime.engines.engine import Engine, Outputs, experts_shape
from hyperline.scenes.files import printable

# Wraps an array without a copy: on the CPU the tensor is the array's memory.
tensor = onnxruntime.OrtValue.ortvalue_from_numpy

# Optimizers to leave out. This one ends the process (onnxruntime 1.24 to 1.32 on x86) where a transposed FP16 tensor is
# cast and multiplied by a matrix. It blocks the channels of convolutions, which a float32 step gains from.
_DISABLED = {"fp16": ["NchwcTransformer"]}

# Weights that a session packs are known by when they were packed: no two sessions may be made at once.
_MAKING = threading.Lock()


class States(Protocol):
    """One set of the states of a strip, wherever it lies.

    Attributes:
        values: of each state, in the card's order, as onnxruntime takes it.
    """

    values: Sequence[onnxruntime.OrtValue]

    def read(self) -> NDArray[np.float32]:
        """Return all states in one flat array; see `Engine.state`."""

    def write(self, state: NDArray[np.float32]) -> None:
        """Replace all states."""

    def clear(self) -> None:
        """Zero all states."""


@dataclass
class _Lane:
    """What lines of one width need.

    Attributes:
        samples: of a line.
        outputs: of a step.
        states: two sets, A and B. Odd steps read A and write B, even steps read B and write A, through two bindings
            made once: carrying the state on copies nothing.
        bindings: of either step.
        turn: which of the two comes next.
    """

    samples: int
    outputs: Outputs
    states: tuple[States, States]
    bindings: list[Any]
    turn: int = 0


class OrtEngine(Engine):
    """The step in ONNX Runtime, all inputs and outputs bound to preallocated memory.

    Attributes:
        on_gpu: whether it runs on a GPU, where operators with a kernel for the CPU alone run as their bodies.
    """

    on_gpu = False

    def __init__(
        self,
        model: bytes,
        card: Card,
        threads: int,
        providers: Sequence[Any],
        *,
        native_ops: bool,
        precision: str,
        guarded: bool,
    ) -> None:
        """See ``Engine``.

        Args:
            model: the ONNX file.
            card: what it takes and gives.
            threads: threads to use.
            providers: of onnxruntime.
            native_ops: run our operators natively where that can be; False: as the model's function bodies.
            precision: which of the bundle's models it is.
            guarded: hold the weights in memory of our own; only on the CPU.

        Raises:
            HyperlineError: onnxruntime cannot load the model.
        """
        super().__init__(model, card, threads, precision, guarded)
        self._providers = providers
        self._registered = False
        with _MAKING:
            try:
                self._session = self._guarded(model, native_ops) if guarded else self._plain(model, native_ops)
            except Exception as error:  # onnxruntime's errors share no base class
                raise HyperlineError(
                    f"onnxruntime {onnxruntime.__version__} cannot load the model {card.name}: "
                    f"{first_line(error)}; update onnxruntime, or export the bundle again"
                ) from error
        self.native_ops = self._registered and runs_native_ops(self._session)
        self._require_contract()
        self._strip: _Lane | None = None
        self._aside: _Lane | None = None

    def _options(self, native_ops: bool) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1  # the graph is one chain
        options.log_severity_level = 3
        # Threads spin within a step, some 300 parallel regions of tens of microseconds, and sleep between steps: at
        # 1024 samples, two free cores, 598 lines/s against 521 asleep throughout (bench/step_log.md). Give a machine
        # with other work on it one thread less than it has cores: there spinning costs more than it brings.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._registered = native_ops and try_native_ops(options, gpu=self.on_gpu)
        return options

    def _plain(self, model: bytes, native_ops: bool) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(
            model,
            self._options(native_ops),
            providers=self._providers,
            disabled_optimizers=_DISABLED.get(self.precision),
        )

    def _guarded(self, model: bytes, native_ops: bool) -> onnxruntime.InferenceSession:
        """Make a session over constants that lie in `shapes` and `weights`; see `hyperline.runtime.engines.constants`.

        Without onnxruntime's packed copies a step is as fast: a matrix is packed once for thousands of pixels.
        """
        options = self._options(native_ops)
        file = os.memfd_create("hyperline-model")  # onnxruntime writes to paths alone, and the disk may be read-only
        try:
            options.optimized_model_filepath = f"/proc/self/fd/{file}"
            onnxruntime.InferenceSession(
                model, options, providers=self._providers, disabled_optimizers=_DISABLED.get(self.precision)
            )
            optimised = os.pread(file, os.fstat(file).st_size, 0)
        finally:
            os.close(file)
        self._constants = constants = Constants.of(optimised)
        options = self._options(native_ops)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        for name, value in constants.values.items():
            options.add_initializer(name, value)
        # Through the library that the session runs on: another copy of ours may be loaded, with weights of its own.
        library = QuantizedLibrary(find_library(ORT_LIBRARY)) if self._registered else None
        before = library.packed if library else 0
        session = onnxruntime.InferenceSession(optimised, options, providers=self._providers)
        self.shapes = (constants.shapes,)
        packed = library.packed_since(before) if library else []
        # Where every weight of 8 bits was packed, nothing reads it any more.
        read = [] if len(packed) == constants.eight_constants else [constants.eights]
        self.weights = (constants.weights, *read, *packed)
        return session

    def _require_contract(self) -> None:
        card = self.card
        given = {value.name: value.shape for value in self._session.get_outputs()}
        self._uncertain = UNCERTAINTY_OUTPUT in given
        self._experts = experts_shape(card, given[EXPERTS_OUTPUT]) if EXPERTS_OUTPUT in given else None
        for kind, names, wanted in (
            (
                "inputs",
                {value.name for value in self._session.get_inputs()},
                {LINES_INPUT, VALID_INPUT, *(state.input for state in card.states)},
            ),
            (
                "outputs",
                given.keys() - OPTIONAL_OUTPUTS,
                {LABELS_OUTPUT, CONFIDENCE_OUTPUT, LOGITS_OUTPUT, *(state.output for state in card.states)},
            ),
        ):
            if names != wanted:
                raise HyperlineError(
                    f"the graph of {card.name} and its card disagree about the {kind}: only in the graph "
                    f"{sorted(names - wanted)}, only in the card {sorted(wanted - names)}; "
                    f"export the bundle again"
                )

    @abstractmethod
    def _states(self, shapes: Sequence[tuple[int, ...]]) -> States:
        """Allocate one set of states of these shapes, all zero."""

    def _lane(self, samples: int) -> _Lane:
        card = self.card
        shape = (card.block_lines, samples)
        classes = len(card.class_names)
        outputs = Outputs(
            np.empty(shape, np.uint8),
            np.empty(shape, np.float32),
            np.empty((*shape, classes), np.float32),
            np.empty(shape, np.float32) if self._uncertain else None,
            np.empty(self._experts, np.float32) if self._experts else None,
        )
        shapes = [state.shape_for(samples, card.sample_multiple) for state in card.states]
        states = (self._states(shapes), self._states(shapes))
        bindings = []
        for read, write in (states, states[::-1]):
            binding = self._session.io_binding()
            for state, before, after in zip(card.states, read.values, write.values, strict=True):
                binding.bind_ortvalue_input(state.input, before)
                binding.bind_ortvalue_output(state.output, after)
            binding.bind_ortvalue_output(LABELS_OUTPUT, tensor(outputs.labels))
            binding.bind_ortvalue_output(CONFIDENCE_OUTPUT, tensor(outputs.confidence))
            binding.bind_ortvalue_output(LOGITS_OUTPUT, tensor(outputs.logits))
            if outputs.uncertainty is not None:
                binding.bind_ortvalue_output(UNCERTAINTY_OUTPUT, tensor(outputs.uncertainty))
            if outputs.experts is not None:
                binding.bind_ortvalue_output(EXPERTS_OUTPUT, tensor(outputs.experts))
            bindings.append(binding)
        return _Lane(samples, outputs, states, bindings)

    def reset(self, samples: int) -> None:
        """See ``Engine``."""
        if self._strip is None or self._strip.samples != samples:
            self._strip = None  # its memory first
            self._strip = self._lane(samples)
        self._strip.turn = 0
        self._strip.states[0].clear()

    @property
    def _flown(self) -> _Lane:
        if self._strip is None:
            raise HyperlineError(f"the engine of {self.card.name} was not reset for a strip; call reset first")
        return self._strip

    @property
    def state(self) -> NDArray[np.float32]:
        """See ``Engine``."""
        return self._flown.states[self._flown.turn].read()

    def load_state(self, state: NDArray[np.float32]) -> None:
        """See ``Engine``."""
        self._flown.states[self._flown.turn].write(state)

    def step(self, block: Block) -> Outputs:
        """See ``Engine``."""
        return self._run(self._flown, block)

    def aside(self, block: Block) -> Outputs:
        """See ``Engine``. The memory for it is allocated once."""
        samples = block.valid.shape[1]
        if self._aside is None or self._aside.samples != samples:
            self._aside = self._lane(samples)
        self._aside.turn = 0
        self._aside.states[0].clear()
        return self._run(self._aside, block)

    def _run(self, lane: _Lane, block: Block) -> Outputs:
        """Classify a block. Binding it costs some 7 µs and, on the CPU, copies nothing."""
        binding = lane.bindings[lane.turn]
        try:
            binding.bind_ortvalue_input(LINES_INPUT, tensor(block.lines))
            binding.bind_ortvalue_input(VALID_INPUT, tensor(block.valid))
            self._session.run_with_iobinding(binding)
        except Exception as error:  # see __init__
            raise HyperlineError(
                f"onnxruntime failed in a step of {self.card.name} on a block of shape {block.lines.shape}: "
                f"{first_line(error)}; export the bundle again, or update onnxruntime"
            ) from error
        lane.turn = 1 - lane.turn  # after a failure the state is still the one before the block
        return lane.outputs


def first_line(error: Exception) -> str:
    """Return what an error of onnxruntime says, without its trace."""
    # It quotes names of the graph.
    return printable(str(error).strip().partition("\n")[0])[:300]
