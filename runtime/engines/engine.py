"""One interface for every engine, the table of engines, and the self-test that stands before a flight."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle.card import Card
from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.blocks import Block

# engine name -> (module, class). A module loads when its engine is asked for.
ENGINES = {
    "ort-cpu": ("hyperline.runtime.engines.ort_cpu", "OrtCpuEngine"),
    "tensorrt": ("hyperline.runtime.engines.tensorrt", "TensorRTEngine"),
}

# The self-test's bars. Labels may differ where two classes are all but equal; logits are of the order of 10,
# and another CPU's order of summation moves them by about 1e-5.
SELF_TEST_LABELS = 0.999
SELF_TEST_LOGITS = 1e-3


@dataclass(frozen=True)
class Outputs:
    """What one step gives. The arrays belong to the engine and hold until its next step.

    Attributes:
        labels: (block_lines, samples) uint8 class ids, 0 where not valid.
        confidence: (block_lines, samples) float32 probability of the label.
        logits: (block_lines, samples, classes) float32.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    logits: NDArray[np.float32]


class Engine(ABC):
    """Runs the step of one model and carries its state from block to block.

    Attributes:
        name: as in ``ENGINES``.
        native_ops: whether hyperline's operators ran as compiled kernels; False: as their function bodies.
        threads: threads that the engine was told to use.
    """

    name: str
    native_ops: bool = False

    def __init__(self, model: bytes, card: Card, threads: int) -> None:
        """Load the model.

        Args:
            model: the ONNX file.
            card: what it takes and gives.
            threads: threads to use.

        Raises:
            HyperlineError: the engine cannot load the model.
        """
        self.card = card
        self.threads = threads

    @classmethod  # noqa: B027  # most engines need nothing that is not installed anyway
    def require(cls) -> None:
        """Check that what this kind of engine needs is here, without a model.

        Raises:
            HyperlineError: something is missing; the message says what, and how to get it.
        """

    @abstractmethod
    def reset(self, samples: int) -> None:
        """Start a strip: zero the state, and allocate what lines of ``samples`` (padded) samples need."""

    @abstractmethod
    def step(self, block: Block) -> Outputs:
        """Classify one block and carry the state on.

        Raises:
            HyperlineError: the engine failed.
        """


def load_engine(name: str, model: bytes, card: Card, threads: int | None = None) -> Engine:
    """Load a model into the engine of that name.

    Args:
        name: a key of ``ENGINES``; ``tensorrt:FOLDER`` where the engine was built into another folder than the
            default one.
        model: the ONNX file.
        card: what it takes and gives.
        threads: threads to use; None for every CPU that this process may run on.

    Raises:
        InputError: no such engine, or fewer than one thread.
        HyperlineError: the engine cannot load the model.
    """
    kind_name, _, folder = name.partition(":")
    if kind_name not in ENGINES or (folder and kind_name != "tensorrt"):
        raise InputError(f"no engine is called {name!r}; there are: {', '.join(ENGINES)}")
    if threads is None:
        affinity = getattr(os, "sched_getaffinity", None)  # not on every platform
        threads = len(affinity(0)) if affinity else os.cpu_count() or 1
    if threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")
    module, kind = ENGINES[kind_name]
    options = {"cache": Path(folder)} if folder else {}
    engine: Engine = getattr(importlib.import_module(module), kind)(model, card, threads, **options)
    return engine


def self_test(engine: Engine, golden: Mapping[str, NDArray[Any]]) -> None:
    """Refuse to fly an engine that does not give what the exporter saw.

    Args:
        engine: a loaded engine; its state is lost.
        golden: the bundle's golden block (``Bundle.golden``), of which at least one pixel is valid.

    Raises:
        HyperlineError: labels equal on less than ``SELF_TEST_LABELS`` of the valid pixels, or a valid pixel's
            logit further than ``SELF_TEST_LOGITS`` from the expected one.
    """
    # Copies, because the bundle's arrays are views into its bytes, at any alignment.
    lines, valid = golden["lines"].copy(), golden["valid"].copy()
    engine.reset(valid.shape[1])
    outputs = engine.step(Block(lines, valid, len(lines)))
    equal = float(np.mean(outputs.labels[valid] == golden["labels"][valid]))
    off = float(np.max(np.abs(outputs.logits[valid] - golden["logits"][valid])))
    # `not <=` so that a NaN fails.
    if equal < SELF_TEST_LABELS or not off <= SELF_TEST_LOGITS:
        raise HyperlineError(
            f"self-test of {engine.card.name} on {engine.name} failed: {equal:.2%} of the golden labels are "
            f"right (at least {SELF_TEST_LABELS:.1%} must be) and logits are up to {off:.2g} off (at most "
            f"{SELF_TEST_LOGITS:g} may be). This machine would not classify as the exporter did: try another "
            f"onnxruntime, or export the bundle again"
        )
