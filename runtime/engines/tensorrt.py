"""TensorRT on an NVIDIA GPU: one CUDA graph a block."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

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
from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines.engine import Engine, Outputs, experts_shape
from hyperline.runtime.tensorrt.build import input_shapes
from hyperline.runtime.tensorrt.cache import EngineCache, EngineKey
from hyperline.runtime.tensorrt.toolkit import ErrorLog, Toolkit, find_toolkit

if TYPE_CHECKING:
    import tensorrt
    from cuda.core import Buffer
    from cuda.core.graph import Graph, GraphBuilder


@dataclass(frozen=True)
class _Mirror:
    """An array in page-locked memory, which a GPU copies without help of the CPU, and its twin on the GPU."""

    array: NDArray[Any]
    pinned: Buffer
    device: Buffer


class TensorRTEngine(Engine):
    """The step as an engine that ``hyperline build`` made on this machine.

    The state never leaves the GPU. It lives in two sets of buffers, A and B: odd blocks read A and write B, even ones
    read B and write A. Each of the two is one CUDA graph: copy the block in, run the network, copy the answer out. A
    block costs the CPU a copy into page-locked memory, one launch and one wait.
    """

    name = "tensorrt"

    def __init__(
        self,
        model: bytes,
        card: Card,
        threads: int,
        cache: Path | None = None,
        toolkit: Toolkit | None = None,
        precision: str = "fp32",
        guarded: bool = True,
    ) -> None:
        """See ``Engine``.

        Args:
            model: the ONNX file, which says which engine; it is not read.
            card: what it takes and gives.
            threads: not used; the GPU does the work.
            cache: folder of the engines; None for the default one.
            toolkit: TensorRT and the GPU; None: look for them.
            precision: which of the bundle's models it is.
            guarded: as for every engine; weights in the GPU's memory cannot be looked at.

        Raises:
            InputError: TensorRT or a GPU is missing, or this model was not built here.
            HyperlineError: TensorRT cannot load the engine, or it is not the card's.
        """
        super().__init__(model, card, threads, precision, guarded)
        self._toolkit = toolkit or find_toolkit()
        self.native_ops = self._toolkit.plugin is not None
        trt = self._toolkit.trt
        found = EngineCache(cache)
        kept = found.find(EngineKey.of(model, self._toolkit))
        if kept is None:
            raise InputError(
                f"no engine of {card.name} for {self._toolkit.gpu}, TensorRT {trt.__version__} and this plugin is in "
                f"{found.folder}; build it here: hyperline build FILE.hlb"
            )
        self._built_for = kept.samples
        # Objects of TensorRT do not keep alive what they were made from.
        self._log = ErrorLog(trt)
        self._runtime = trt.Runtime(self._log.logger)
        engine: tensorrt.ICudaEngine | None = self._runtime.deserialize_cuda_engine(kept.engine)
        context = engine.create_execution_context() if engine else None
        if engine is None or context is None:
            raise HyperlineError(
                f"TensorRT {trt.__version__} cannot load the engine {kept.path} of {card.name}: {self._log.reason()}; "
                "delete it and build again: hyperline build FILE.hlb"
            )
        self._engine, self._context = engine, context
        self._require_contract()
        self._stream = self._toolkit.device.create_stream()
        self._samples = -1

    @classmethod
    def require(cls) -> None:
        """See ``Engine``."""
        find_toolkit()

    def _require_contract(self) -> None:
        """Refuse an engine whose tensors are not those that memory will be given for."""
        engine, card, types = self._engine, self.card, self._toolkit.trt.DataType
        wanted = dict.fromkeys((LINES_INPUT, CONFIDENCE_OUTPUT, LOGITS_OUTPUT), types.FLOAT)
        wanted |= {VALID_INPUT: types.BOOL, LABELS_OUTPUT: types.UINT8}
        wanted |= {name: types.FLOAT for state in card.states for name in (state.input, state.output)}
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        held = {name: engine.get_tensor_dtype(name) for name in names}
        self._optional = OPTIONAL_OUTPUTS & held.keys()
        wanted |= dict.fromkeys(self._optional, types.FLOAT)
        if held != wanted:
            differing = sorted(name for name in held.keys() | wanted.keys() if held.get(name) != wanted.get(name))
            raise HyperlineError(
                f"the engine of {card.name} and its card disagree about {', '.join(differing)}; export the bundle again"
            )

    def reset(self, samples: int) -> None:
        """See ``Engine``.

        Raises:
            InputError: the engine was not built for so many samples.
            HyperlineError: the GPU has no memory left, or cannot capture the step.
        """
        built = self._built_for
        if not built.minimum <= samples <= built.maximum:
            raise InputError(
                f"the engine of {self.card.name} takes lines of {built.minimum} to {built.maximum} samples, not "
                f"{samples}; build it for them: hyperline build FILE.hlb --samples MIN:OPT:MAX"
            )
        try:
            if samples != self._samples:
                self._allocate(samples)
            for state in self._states[0]:
                state.fill(0, stream=self._stream)
        except HyperlineError:
            raise
        except Exception as error:  # the driver's errors share no base class
            raise self._failure(f"for {samples} samples", error) from error
        self._turn = 0

    def _allocate(self, samples: int) -> None:
        self._samples = -1  # until all is there
        card, context = self.card, self._context
        shapes = input_shapes(card, samples)
        for name, shape in shapes.items():
            if not context.set_input_shape(name, self._toolkit.trt.Dims(shape)):
                raise HyperlineError(
                    f"the engine of {card.name} does not take {name} in shape {shape}, as its card says; export the "
                    "bundle again"
                )
        block = shapes[VALID_INPUT]
        answers: dict[str, tuple[int, ...]] = {
            LABELS_OUTPUT: block,
            CONFIDENCE_OUTPUT: block,
            LOGITS_OUTPUT: (*block, len(card.class_names)),
        }
        if UNCERTAINTY_OUTPUT in self._optional:
            answers[UNCERTAINTY_OUTPUT] = block
        if EXPERTS_OUTPUT in self._optional:
            answers[EXPERTS_OUTPUT] = experts_shape(card, self._shape(EXPERTS_OUTPUT))
        # A wrong size here would write beyond the buffers.
        for name, shape in answers.items() | {state.output: shapes[state.input] for state in card.states}.items():
            given = self._shape(name)
            if given != shape:
                raise HyperlineError(
                    f"the engine of {card.name} gives {name} in shape {given} where its card says {shape}; "
                    "export the bundle again"
                )
        types = {VALID_INPUT: np.bool_, LABELS_OUTPUT: np.uint8}
        self._inputs = [
            self._mirror(name, shapes[name], types.get(name, np.float32)) for name in (LINES_INPUT, VALID_INPUT)
        ]
        mirrors = {name: self._mirror(name, shape, types.get(name, np.float32)) for name, shape in answers.items()}
        self._answers = list(mirrors.values())
        held = {name: mirror.array for name, mirror in mirrors.items()}
        self._outputs = Outputs(
            held[LABELS_OUTPUT],
            held[CONFIDENCE_OUTPUT],
            held[LOGITS_OUTPUT],
            held.get(UNCERTAINTY_OUTPUT),
            held.get(EXPERTS_OUTPUT),
        )
        sizes = [4 * int(np.prod(shapes[state.input])) for state in card.states]
        device, stream = self._toolkit.device, self._stream
        self._states = [[device.allocate(size, stream=stream) for size in sizes] for _ in "AB"]
        self._graphs = [self._capture(*states) for states in (self._states, self._states[::-1])]
        self._state_mirrors = [self._pinned(size) for size in sizes]
        self._samples = samples

    def _shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, now that those of the inputs are set."""
        dims = self._context.get_tensor_shape(name)
        return tuple(dims[axis] for axis in range(len(dims)))

    @property
    def state(self) -> NDArray[np.float32]:
        """See ``Engine``: a copy of what lies on the GPU."""
        for (_, pinned), buffer in zip(self._state_mirrors, self._states[self._turn], strict=True):
            buffer.copy_to(pinned, stream=self._stream)
        self._stream.sync()
        parts = [memory.view(np.float32) for memory, _ in self._state_mirrors]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def load_state(self, state: NDArray[np.float32]) -> None:
        """See ``Engine``."""
        first = 0
        for (memory, pinned), buffer in zip(self._state_mirrors, self._states[self._turn], strict=True):
            part = memory.view(np.float32)
            part[...] = state[first : first + part.size]
            first += part.size
            buffer.copy_from(pinned, stream=self._stream)
        self._stream.sync()

    def _pinned(self, size: int) -> tuple[NDArray[np.uint8], Buffer]:
        """Allocate page-locked memory of so many bytes, as an array and as the buffer behind it."""
        pinned = self._toolkit.cuda.LegacyPinnedMemoryResource().allocate(size)
        memory = memoryview((ctypes.c_char * size).from_address(int(pinned.handle)))
        return np.frombuffer(memory, np.uint8), pinned

    def _mirror(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> _Mirror:
        """Allocate an input or output, and tell TensorRT where it is."""
        memory, pinned = self._pinned(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        device = self._toolkit.device.allocate(memory.size, stream=self._stream)
        self._context.set_tensor_address(name, int(device.handle))
        return _Mirror(memory.view(dtype).reshape(shape), pinned, device)

    def _capture(self, read: list[Buffer], write: list[Buffer]) -> Graph:
        """Record the step that reads one set of states and writes the other."""
        for state, before, after in zip(self.card.states, read, write, strict=True):
            self._context.set_tensor_address(state.input, int(before.handle))
            self._context.set_tensor_address(state.output, int(after.handle))
        # TensorRT finishes its own preparations in the first run, which therefore stands outside of the graph.
        for mirror in self._inputs:
            mirror.device.fill(0, stream=self._stream)
        for state in read:
            state.fill(0, stream=self._stream)
        self._run(int(self._stream.handle))
        self._stream.sync()
        builder: GraphBuilder = self._stream.create_graph_builder()
        builder.begin_building()
        try:
            for mirror in self._inputs:
                mirror.device.copy_from(mirror.pinned, stream=builder)
            self._run(int(builder.stream.handle))
            for mirror in self._answers:
                mirror.device.copy_to(mirror.pinned, stream=builder)
        finally:
            builder.end_building()
        graph = builder.complete()
        graph.upload(self._stream)
        return graph

    def _run(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise HyperlineError(
                f"TensorRT {self._toolkit.trt.__version__} failed in a step of {self.card.name}: {self._log.reason()}; "
                "build the engine again: hyperline build FILE.hlb"
            )

    def step(self, block: Block) -> Outputs:
        """See ``Engine``."""
        for mirror, values in zip(self._inputs, (block.lines, block.valid), strict=True):
            if values.shape != mirror.array.shape:
                raise HyperlineError(
                    f"a block of shape {values.shape} cannot be taken by the engine of {self.card.name}, which was "
                    f"reset for {mirror.array.shape}"
                )
            np.copyto(mirror.array, values)
        try:
            self._graphs[self._turn].launch(self._stream)
            self._stream.sync()
        except Exception as error:  # see reset
            raise self._failure(f"in a step on a block of shape {block.lines.shape}", error) from error
        self._turn = 1 - self._turn
        return self._outputs

    def aside(self, block: Block) -> Outputs:
        """See ``Engine``. Where the width is another one, memory is given and both graphs are captured, twice."""
        samples = self._samples
        if samples < 0:  # no strip yet
            self.reset(block.valid.shape[1])
            return self.step(block)
        state = self.state
        self.reset(block.valid.shape[1])
        try:
            return self.step(block).copy()
        finally:
            self.reset(samples)
            self.load_state(state)

    def _failure(self, where: str, error: Exception) -> HyperlineError:
        reason = str(error).strip().partition("\n")[0]
        return HyperlineError(
            f"{self._toolkit.gpu} failed {where} of {self.card.name}: {reason}; free its memory or restart it, and "
            "build the engine again: hyperline build FILE.hlb"
        )
