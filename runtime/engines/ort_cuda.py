"""ONNX Runtime on an NVIDIA GPU: what flies where TensorRT is missing or fails, and needs no building."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hyperline.bundle.card import Card
from hyperline.errors import InputError
from hyperline.runtime.engines.ort import OrtEngine, States

PROVIDER = "CUDAExecutionProvider"
_allocate = onnxruntime.OrtValue.ortvalue_from_shape_and_type


class _DeviceStates:
    """Tensors on a device; reading and writing copies them."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], device: str) -> None:
        self._sizes = [math.prod(one) for one in shapes]
        self._shapes = shapes
        self.values: Sequence[onnxruntime.OrtValue] = [_allocate(list(one), np.float32, device, 0) for one in shapes]
        self.clear()

    def read(self) -> NDArray[np.float32]:
        parts = [value.numpy().reshape(-1) for value in self.values]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def write(self, state: NDArray[np.float32]) -> None:
        first = 0
        for value, size, shape in zip(self.values, self._sizes, self._shapes, strict=True):
            value.update_inplace(state[first : first + size].reshape(shape))
            first += size

    def clear(self) -> None:
        self.write(np.zeros(sum(self._sizes), np.float32))


class OrtCudaEngine(OrtEngine):
    """The step on the GPU, whose provider our operators join where they were built with CUDA.

    The state stays on the GPU from block to block; lines go there and labels come back in every step. Weights in the
    GPU's memory cannot be looked at: the self-test stands for them.
    """

    name = "ort-cuda"
    on_gpu = True

    def __init__(
        self,
        model: bytes,
        card: Card,
        threads: int,
        precision: str = "fp32",
        guarded: bool = True,
        device: str = "cuda",
    ) -> None:
        """See `OrtEngine`.

        Args:
            model: the ONNX file.
            card: what it takes and gives.
            threads: of the CPU, for what the GPU's provider leaves to it.
            precision: which of the bundle's models it is.
            guarded: as for every engine; there is nothing here that could be.
            device: where the states lie and the step runs: ``cuda``; ``cpu`` is the same code without a GPU, for tests.

        Raises:
            InputError: this onnxruntime has no CUDA, or the model is an INT8 one.
            HyperlineError: onnxruntime cannot load the model.
        """
        if precision == "int8":
            raise InputError(
                "ort-cuda runs fp32 and fp16: the INT8 layers are operators of the CPU; give --precision fp16, or "
                "--engine tensorrt or ort-cpu"
            )
        if device == "cuda":
            self.require()
        self._device = device
        super().__init__(model, card, threads, _providers(device), native_ops=True, precision=precision, guarded=False)
        if device == "cuda" and PROVIDER not in self._session.get_providers():
            # The wheel lists its provider on machines without a GPU too, and falls back to the CPU.
            raise InputError(
                f"onnxruntime {onnxruntime.__version__} started no {PROVIDER}: no NVIDIA GPU is found, or its CUDA or "
                "cuDNN is missing (nvidia-smi says what is there); use --engine ort-cpu"
            )

    @classmethod
    def require(cls) -> None:
        """See ``Engine``."""
        if PROVIDER not in onnxruntime.get_available_providers():
            raise InputError(
                f"onnxruntime {onnxruntime.__version__} here has no {PROVIDER}; on a machine with an NVIDIA GPU: "
                "pip uninstall onnxruntime && pip install 'hyperline[cuda]'"
            )

    def _states(self, shapes: Sequence[tuple[int, ...]]) -> States:
        return _DeviceStates(shapes, self._device)


def _providers(device: str) -> list[Any]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    # TF32 would round products to 10 bits, which the self-test's bar for float32 refuses. Searching for the fastest
    # convolution would choose another one in every flight.
    cuda = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    return [(PROVIDER, cuda), "CPUExecutionProvider"]
