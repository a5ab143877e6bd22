"""ONNX Runtime on the CPU: the embedded default."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hyperline.bundle.card import Card
from hyperline.runtime.engines.ort import OrtEngine, States, tensor


class _HostStates:
    """Views of one buffer, so that guarding or copying the states is one pass."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        ends = np.cumsum([0, *(math.prod(one) for one in shapes)], dtype=int)
        self._flat = np.zeros(ends[-1], np.float32)
        parts = zip(ends, ends[1:], shapes, strict=False)
        self.values: Sequence[onnxruntime.OrtValue] = [
            tensor(self._flat[first:end].reshape(one)) for first, end, one in parts
        ]

    def read(self) -> NDArray[np.float32]:
        return self._flat

    def write(self, state: NDArray[np.float32]) -> None:
        self._flat[...] = state

    def clear(self) -> None:
        self._flat[...] = 0.0


class OrtCpuEngine(OrtEngine):
    """The step on the CPU. The state is the memory that the step reads."""

    name = "ort-cpu"
    repeats = True

    def __init__(
        self,
        model: bytes,
        card: Card,
        threads: int,
        native_ops: bool = True,
        precision: str = "fp32",
        guarded: bool = True,
    ) -> None:
        """See `OrtEngine`."""
        super().__init__(
            model,
            card,
            threads,
            ["CPUExecutionProvider"],
            native_ops=native_ops,
            precision=precision,
            guarded=guarded,
        )

    def _states(self, shapes: Sequence[tuple[int, ...]]) -> States:
        return _HostStates(shapes)
