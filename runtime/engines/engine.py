"""One interface for every engine, the table of engines, and the self-test that stands before a flight."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle.card import EXPERTS_OUTPUT, Card
from hyperline.errors import HyperlineError, InputError
from hyperline.machine import cpus
from hyperline.runtime.blocks import Block

# engine name -> (module, class). A module loads when its engine is asked for.
ENGINES = {
    "ort-cpu": ("hyperline.runtime.engines.ort_cpu", "OrtCpuEngine"),
    "ort-cuda": ("hyperline.runtime.engines.ort_cuda", "OrtCudaEngine"),
    "tensorrt": ("hyperline.runtime.engines.tensorrt", "TensorRTEngine"),
}
# Who takes over from whom, the preferred first.
_BEHIND = {"tensorrt": ("ort-cuda", "ort-cpu"), "ort-cuda": ("ort-cpu",)}


@dataclass(frozen=True)
class Bar:
    """What the self-test asks of an engine, whose golden block is the float32 model's answer.

    Attributes:
        labels: fraction of the valid pixels whose label must be right. It may differ where two classes are all but
            equal.
        logits: how far a logit may be off.
        logits_relative: how much further, as a fraction of the largest golden logit.
    """

    labels: float
    logits: float = 0.0
    logits_relative: float = 0.0


# Logits are of the order of 10. Another CPU's order of summation moves float32's by about 1e-5, FP16 moves them by a
# thousandth. INT8 may be far off in logits of classes that are out of the question: its labels are judged, and the bar
# on logits finds those that are no numbers.
SELF_TEST = {
    "fp32": Bar(labels=0.999, logits=1e-3),
    "fp16": Bar(labels=0.99, logits_relative=0.05),
    "int8": Bar(labels=0.95, logits_relative=0.5),
}


@dataclass(frozen=True)
class Outputs:
    """What one step gives. The arrays belong to the engine and hold until its next step.

    Attributes:
        labels: (block_lines, samples) uint8 class ids, 0 where not valid.
        confidence: (block_lines, samples) float32 probability of the label.
        logits: (block_lines, samples, classes) float32.
        uncertainty: (block_lines, samples) float32, the entropy of the softmax as a share of its maximum: 0 certain, 1
            uniform; 0 where not valid. None where the graph is of before there was one; likewise the next.
        experts: (scales, experts) float32, the weight that the router of each scale, the finest first, gave each expert
            in this block, 0 where it was left out.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    logits: NDArray[np.float32]
    uncertainty: NDArray[np.float32] | None = None
    experts: NDArray[np.float32] | None = None

    def copy(self) -> Outputs:
        """Return a copy that holds beyond the engine's next step."""
        return Outputs(
            self.labels.copy(),
            self.confidence.copy(),
            self.logits.copy(),
            None if self.uncertainty is None else self.uncertainty.copy(),
            None if self.experts is None else self.experts.copy(),
        )


# No network has as many; a stranger's graph may claim any.
_MOST_EXPERTS = 1 << 10


def experts_shape(card: Card, shape: Sequence[Any]) -> tuple[int, int]:
    """Return the shape of a graph's ``experts`` output.

    Args:
        card: of the model.
        shape: as the graph states it; a size that is not fixed is none of 1 to 1024.

    Raises:
        HyperlineError: it is not (scales, experts) of fixed sizes.
    """
    match list(shape):
        case [int(scales), int(experts)] if 0 < scales <= _MOST_EXPERTS and 0 < experts <= _MOST_EXPERTS:
            return scales, experts
    raise HyperlineError(
        f"the graph of {card.name} gives {EXPERTS_OUTPUT} in shape ({', '.join(map(str, shape))}), which must be "
        f"(scales, experts), each 1 to {_MOST_EXPERTS}; export the bundle again"
    )


class Engine(ABC):
    """Runs the step of one model and carries its state from block to block.

    Attributes:
        name: as in ``ENGINES``.
        native_ops: whether hyperline's operators ran as compiled kernels; False: as their function bodies.
        threads: threads that the engine was told to use.
        precision: of the model, as in ``SELF_TEST``.
        repeats: whether the same block always gives the same bits.
        shapes, weights: where the engine was made to be guarded and can be, all memory that its model's constants are
            read from: whole numbers, a wrong one of which may end the process, and all others.
    """

    name: str
    native_ops: bool = False
    repeats: bool = False
    shapes: Sequence[NDArray[np.uint64]] = ()
    weights: Sequence[NDArray[np.uint64]] = ()

    def __init__(self, model: bytes, card: Card, threads: int, precision: str = "fp32", guarded: bool = True) -> None:
        """Load the model.

        Args:
            model: the ONNX file.
            card: what it takes and gives.
            threads: threads to use.
            precision: which of the bundle's models it is, a key of ``SELF_TEST``.
            guarded: hold the weights where flipped bits can be found, if this kind of engine can.

        Raises:
            HyperlineError: the engine cannot load the model.
        """
        self.card = card
        self.threads = threads
        self.precision = precision

    @classmethod  # noqa: B027  # most engines need nothing that is not installed anyway
    def require(cls) -> None:
        """Check that what this kind of engine needs is here, without a model.

        Raises:
            HyperlineError: something is missing; the message says what, and how to get it.
        """

    @abstractmethod
    def reset(self, samples: int) -> None:
        """Start a strip: zero the state, and allocate what lines of ``samples`` (padded) samples need."""

    @property
    @abstractmethod
    def state(self) -> NDArray[np.float32]:
        """The state that the next step starts from, all its tensors in the card's order in one flat float32 array.

        On the CPU it is the memory that the step reads: what is written there counts. An engine whose state lives
        elsewhere returns a copy and takes changes through `load_state` alone.
        """

    def load_state(self, state: NDArray[np.float32]) -> None:
        """Replace the state; ``state`` as `state` gives it."""
        self.state[...] = state

    @abstractmethod
    def step(self, block: Block) -> Outputs:
        """Classify one block and carry the state on.

        Raises:
            HyperlineError: the engine failed.
        """

    @abstractmethod
    def aside(self, block: Block) -> Outputs:
        """Classify a block from zero state, beside the strip: width and state of that stay what they are.

        Raises:
            HyperlineError: the engine failed.
        """


def load_engine(
    name: str,
    model: bytes,
    card: Card,
    threads: int | None = None,
    precision: str = "fp32",
    guarded: bool = True,
) -> Engine:
    """Load a model into the engine of that name.

    Args:
        name: a key of ``ENGINES``; ``tensorrt:FOLDER`` where the engine was built into another folder than the
            default one.
        model: the ONNX file.
        card: what it takes and gives.
        threads: threads to use; None for every CPU that this process may run on.
        precision: which of the bundle's models it is, a key of ``SELF_TEST``.
        guarded: see ``Engine``.

    Raises:
        InputError: no such engine, or fewer than one thread.
        HyperlineError: the engine cannot load the model.
    """
    kind_name, _, folder = name.partition(":")
    if kind_name not in ENGINES or (folder and kind_name != "tensorrt"):
        raise InputError(f"no engine is called {name!r}; there are: {', '.join(ENGINES)}")
    if threads is None:
        threads = cpus()
    if threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")
    module, kind = ENGINES[kind_name]
    options: dict[str, Any] = {"cache": Path(folder)} if folder else {}
    engine: Engine = getattr(importlib.import_module(module), kind)(
        model, card, threads, precision=precision, guarded=guarded, **options
    )
    return engine


def engines_from(name: str) -> tuple[str, ...]:
    """Return an engine and those that can take over from it, the preferred first.

    Raises:
        InputError: no such engine.
    """
    kind = name.partition(":")[0]
    if kind not in ENGINES:
        raise InputError(f"no engine is called {name!r}; there are: {', '.join(ENGINES)}")
    return (name, *_BEHIND.get(kind, ()))


def self_test(engine: Engine, golden: Mapping[str, NDArray[Any]]) -> Outputs:
    """Refuse to fly an engine that does not give what the exporter saw.

    Args:
        engine: a loaded engine; the strip that it flies stays as it is.
        golden: the bundle's golden block (``Bundle.golden``), of which at least one pixel is valid.

    Returns:
        The engine's answer; it holds until the next test.

    Raises:
        HyperlineError: fewer of the valid pixels' labels right, or one of their logits further off, than the bar of the
            engine's precision in ``SELF_TEST`` allows.
    """
    # Copies, because the bundle's arrays are views into its bytes, at any alignment.
    lines, valid = golden["lines"].copy(), golden["valid"].copy()
    outputs = engine.aside(Block(lines, valid, len(lines)))
    equal = float(np.mean(outputs.labels[valid] == golden["labels"][valid]))
    expected = golden["logits"][valid]
    off = float(np.max(np.abs(outputs.logits[valid] - expected)))
    bar = SELF_TEST[engine.precision]
    allowed = bar.logits + bar.logits_relative * float(np.max(np.abs(expected)))
    # `not <=` so that a NaN fails.
    if equal < bar.labels or not off <= allowed:
        raise HyperlineError(
            f"self-test of {engine.card.name} on {engine.name} failed: {equal:.2%} of the golden labels are right (at "
            f"least {bar.labels:.1%} must be in {engine.precision}) and logits are up to {off:.2g} off (at most "
            f"{allowed:.2g} may be). This machine would not classify as the exporter did: try another "
            f"onnxruntime or another precision, or export the bundle again"
        )
    return outputs
