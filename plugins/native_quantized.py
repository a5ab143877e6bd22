"""The INT8 layers, called through their C interface (plugins/include/hyperline/quantized.h) with NumPy arrays.

Their meaning is `hyperline.plugins.reference`, whose shape letters stand here too. Models run them through onnxruntime;
this is for tests and for whoever has no graph. Weights are packed anew in every call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import HyperlineError, InputError
from hyperline.plugins.native import NativeLibrary
from hyperline.plugins.reference import Activation

Array = NDArray[Any]
Float32 = NDArray[np.float32]

_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64

_AS_IS, _RELU, _ADD, _SILU, _GELU = range(5)  # HYPERLINE_AS_IS and so on
_OF_ACTIVATION: dict[Activation | None, int] = {None: _AS_IS, "silu": _SILU, "gelu": _GELU}


class _Layer(ctypes.Structure):
    """``hyperline_quantized_layer``."""

    _fields_ = (("weight", _POINTER), ("weight_scale", _POINTER), ("x_scale", ctypes.c_float))


class _Rows(ctypes.Structure):
    """``hyperline_quantized_rows``."""

    _fields_ = (
        ("rows", _INTEGER),
        *((name, _POINTER) for name in ("x", "bias")),
        ("bias_stride", _INTEGER),
        ("after", ctypes.c_int32),
        *((name, _POINTER) for name in ("residual", "y")),
    )


class _Block(ctypes.Structure):
    """``hyperline_quantized_block``."""

    _fields_ = (
        *((name, _INTEGER) for name in ("lines", "samples")),
        *((name, _POINTER) for name in ("past", "x", "bias")),
        ("after", ctypes.c_int32),
        *((name, _POINTER) for name in ("residual", "y")),
    )


class _Memory(ctypes.Structure):
    """``hyperline_quantized_memory``."""

    _fields_ = (("start", _POINTER), ("bytes", _INTEGER))


class QuantizedLibrary:
    """The INT8 layers of ``libhyperline_ops``, loaded.

    Attributes:
        instruction_set: what they run on here: avx512vnni, avxvnni, avx2, sse2, neondot or neon.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Load the library of this package, or another build of it.

        Args:
            path: of that build, or of a library that is linked to it, such as the one that onnxruntime runs on.

        Raises:
            HyperlineError: it is not there, or cannot be loaded.
        """
        self._library = ctypes.CDLL(str(NativeLibrary(path).path))
        for name in ("hyperline_quantized_instruction_set", "hyperline_status_text"):
            getattr(self._library, name).restype = ctypes.c_char_p
        for name in ("hyperline_quantized_pack_linear", "hyperline_quantized_pack_block_conv"):
            getattr(self._library, name).argtypes = (_INTEGER, _INTEGER, _POINTER, _POINTER)
        self._library.hyperline_quantized_free.argtypes = (_POINTER,)
        self._library.hyperline_quantized_free.restype = None
        self._library.hyperline_quantized_linear.argtypes = (_POINTER, _POINTER)
        self._library.hyperline_quantized_block_conv.argtypes = (_POINTER, _POINTER, _INTEGER, _INTEGER)
        self._library.hyperline_quantized_packed.argtypes = (_INTEGER, _INTEGER, _POINTER)
        self._library.hyperline_quantized_packed.restype = _INTEGER
        self.instruction_set: str = self._library.hyperline_quantized_instruction_set().decode()

    @property
    def packed(self) -> int:
        """How many weights this process has packed so far, those of onnxruntime's sessions among them."""
        return int(self._library.hyperline_quantized_packed(0, 0, None))

    def packed_since(self, first: int) -> list[NDArray[np.uint64]]:
        """Return the memory of the weights packed since `packed` was ``first``.

        The arrays are that memory, not copies: they hold until whoever packed a weight frees it.
        """
        room = self.packed - first
        memory = (_Memory * room)()
        self._library.hyperline_quantized_packed(first, room, memory)
        return [
            np.ctypeslib.as_array((ctypes.c_uint64 * (one.bytes // 8)).from_address(one.start))
            for one in memory
            if one.start
        ]

    def linear(
        self,
        x: Array,
        x_scale: Array,
        weight: Array,
        weight_scale: Array,
        bias: Array,
        residual: Array | None = None,
        activation: Activation | None = None,
    ) -> Float32:
        """Run the layer ``Linear``, ``LinearAdd``, ``LinearSilu`` or ``LinearGelu``; see `reference.quantized_linear`.

        Returns:
            (..., O).

        Raises:
            InputError: a shape does not fit the others, or weight is not int8.
            HyperlineError: the layer is too wide for sums of 32 bits, or memory ran out.
        """
        if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[0]:
            raise InputError(f"the layer takes x (..., I) and weight (I, O), not {x.shape} and {weight.shape}")
        inputs, outputs = weight.shape
        shape = (*x.shape[:-1], outputs)
        if weight_scale.shape != (outputs,) or bias.shape not in ((outputs,), shape):
            raise InputError(
                f"weight {weight.shape} needs weight_scale ({outputs},) and bias ({outputs},) or {shape}, "
                f"not {weight_scale.shape} and {bias.shape}"
            )
        self._check_residual(residual, shape)
        if residual is not None and activation is not None:
            raise InputError("a linear layer has an activation or a residual, not both")
        bias_stride = 0 if bias.shape == (outputs,) else outputs
        residual = None if residual is None else np.ascontiguousarray(residual, np.float32)
        x, weight_scale, bias = (np.ascontiguousarray(array, np.float32) for array in (x, weight_scale, bias))
        y = np.empty(shape, np.float32)
        pack = self._library.hyperline_quantized_pack_linear
        with self._layer(pack, inputs, outputs, x_scale, weight, weight_scale) as layer:
            rows = _Rows(
                y[..., 0].size,
                x.ctypes.data,
                bias.ctypes.data,
                bias_stride,
                *_after(residual, _OF_ACTIVATION[activation]),
                y.ctypes.data,
            )
            self._check(self._library.hyperline_quantized_linear(layer, ctypes.byref(rows)))
        return y

    def block_conv(
        self,
        past: Array,
        x: Array,
        x_scale: Array,
        weight: Array,
        weight_scale: Array,
        bias: Array,
        residual: Array | None = None,
        relu: bool = False,
    ) -> Float32:
        """Run the layer ``BlockConv``, ``BlockConvRelu`` or ``BlockConvAdd``; see `reference.quantized_block_conv`.

        Returns:
            (K, W, O).

        Raises:
            InputError: a shape does not fit the others, or weight is not int8.
            HyperlineError: the layer is too wide for sums of 32 bits, or memory ran out.
        """
        if x.ndim != 3 or weight.ndim != 4 or weight.shape[1:] != (x.shape[2], 3, 3):
            raise InputError(f"the layer takes x (K, W, I) and weight (O, I, 3, 3), not {x.shape} and {weight.shape}")
        (lines, samples, inputs), outputs = x.shape, weight.shape[0]
        if past.shape != (1, samples, inputs) or weight_scale.shape != (outputs,) or bias.shape != (outputs,):
            raise InputError(
                f"x {x.shape} and weight {weight.shape} need past (1, {samples}, {inputs}), weight_scale ({outputs},) "
                f"and bias ({outputs},), not {past.shape}, {weight_scale.shape} and {bias.shape}"
            )
        self._check_residual(residual, (lines, samples, outputs))
        if residual is not None and relu:
            raise InputError("a convolution has a ReLU or a residual, not both")
        residual = None if residual is None else np.ascontiguousarray(residual, np.float32)
        past, x, weight_scale, bias = (
            np.ascontiguousarray(array, np.float32) for array in (past, x, weight_scale, bias)
        )
        y = np.empty((lines, samples, outputs), np.float32)
        pack = self._library.hyperline_quantized_pack_block_conv
        with self._layer(pack, inputs, outputs, x_scale, weight, weight_scale) as layer:
            arrays = (past.ctypes.data, x.ctypes.data, bias.ctypes.data)
            block = _Block(lines, samples, *arrays, *_after(residual, _RELU if relu else _AS_IS), y.ctypes.data)
            self._check(self._library.hyperline_quantized_block_conv(layer, ctypes.byref(block), 0, samples))
        return y

    @contextmanager
    def _layer(
        self, pack: Any, inputs: int, outputs: int, x_scale: Array, weight: Array, weight_scale: Float32
    ) -> Iterator[Any]:
        if weight.dtype != np.int8:
            raise InputError(f"weight is {weight.dtype}; it must be int8")
        packed = _POINTER()
        self._check(pack(inputs, outputs, np.ascontiguousarray(weight).ctypes.data, ctypes.byref(packed)))
        try:
            yield ctypes.byref(_Layer(packed, weight_scale.ctypes.data, float(x_scale)))
        finally:
            self._library.hyperline_quantized_free(packed)

    @staticmethod
    def _check_residual(residual: Array | None, shape: tuple[int, ...]) -> None:
        if residual is not None and residual.shape != shape:
            raise InputError(f"the residual must be {shape} like the result, not {residual.shape}")

    def _check(self, status: int) -> None:
        if status:
            raise HyperlineError(f"the INT8 layer failed: {self._library.hyperline_status_text(status).decode()}")


def _after(residual: Float32 | None, otherwise: int) -> tuple[int, int | None]:
    """Return what becomes of a result, and where its residual is."""
    return (otherwise, None) if residual is None else (_ADD, residual.ctypes.data)
