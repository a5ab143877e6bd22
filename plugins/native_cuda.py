"""The native operators on a GPU, called through their C interface (plugins/include/hyperline/cuda_ops.h).

Their meaning is `hyperline.plugins.reference`, whose shape letters stand here too. Arrays are whatever shows
``__cuda_array_interface__``: torch, CuPy, Numba. Nothing here needs one of them.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from hyperline.errors import HyperlineError, InputError
from hyperline.plugins.native import find_library

CUDA_LIBRARY = "libhyperline_cuda.so"
INTERFACE_VERSION = 1
_TYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1}


class CudaArray(Protocol):
    """An array in device memory."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Address, shape, strides and type, as Numba's documentation defines them (version 2 or 3)."""


@dataclass(frozen=True)
class _Tensor:
    """An array's address, shape, strides (in numbers) and type."""

    name: str
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, name: str, array: CudaArray) -> _Tensor:
        interface = getattr(array, "__cuda_array_interface__", None)
        if interface is None:
            raise InputError(f"{name} is {type(array).__name__}, not an array on a GPU; move it there first")
        shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
        strides = interface.get("strides") or tuple(
            math.prod(shape[axis + 1 :]) * dtype.itemsize for axis in range(len(shape))
        )
        return cls(name, interface["data"][0], shape, tuple(stride // dtype.itemsize for stride in strides), dtype)

    def check(self, dtype: DTypeLike, *shapes: tuple[int, ...], contiguous_axes: int) -> None:
        """Refuse another type, another shape, or gaps within the last so many axes."""
        if self.dtype != dtype:
            raise InputError(f"{self.name} is {self.dtype}; it must be {np.dtype(dtype)}")
        if self.shape not in shapes:
            raise InputError(f"{self.name} has shape {self.shape}; it must be {' or '.join(map(str, shapes))}")
        for axis in range(-contiguous_axes, 0):
            if self.shape[axis] > 1 and self.strides[axis] != math.prod(self.shape[len(self.shape) + axis + 1 :]):
                raise InputError(f"{self.name} has gaps within its last {contiguous_axes} axes; make it contiguous")

    def stride(self, axis: int) -> int:
        """Return the stride along an axis, 0 where its one entry broadcasts."""
        return 0 if self.shape[axis] == 1 else self.strides[axis]


class _Rows(ctypes.Structure):
    """``hyperline_cuda_input`` and ``hyperline_cuda_output``: a tensor (S, L, X) with strides."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("sequence_stride", ctypes.c_int64),
        ("step_stride", ctypes.c_int64),
    )


class _Scan(ctypes.Structure):
    """``hyperline_cuda_scan``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("sequences", "length", "channels", "states")),
        *((name, ctypes.c_int32) for name in ("reverse", "type")),
        *((name, _Rows) for name in ("u", "delta", "B", "C", "mask")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "delta_bias", "h0")),
        ("h0_sequence_stride", ctypes.c_int64),
    )


class CudaLibrary:
    """``libhyperline_cuda``, loaded. Calls only queue work on a stream: no allocation, no waiting, graph capture works.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Load the library of this package, or another build of it.

        Raises:
            HyperlineError: it is not there, cannot be loaded, or speaks another version of the interface.
        """
        found = path or find_library(CUDA_LIBRARY)
        if found is None:
            raise HyperlineError(
                f"{CUDA_LIBRARY} is not installed; where nvcc is found, install hyperline again with "
                "--config-settings=cmake.define.HYPERLINE_CUDA=ON"
            )
        self.path = found
        try:
            self._library = ctypes.CDLL(str(found))
            version: int = self._library.hyperline_cuda_ops_version()
        except (OSError, AttributeError) as error:
            raise HyperlineError(f"{found} cannot be loaded ({error}); install hyperline again") from error
        if version != INTERFACE_VERSION:
            raise HyperlineError(
                f"{found} has version {version} of the interface, this package needs {INTERFACE_VERSION}; "
                "install hyperline again"
            )
        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        self._library.hyperline_cuda_status_text.restype = ctypes.c_char_p
        self._library.hyperline_cuda_selective_scan.argtypes = (pointer, _Rows, pointer, pointer)
        self._library.hyperline_cuda_expert_gate.argtypes = (
            *(integer, integer, integer, ctypes.c_int32),
            *(pointer, pointer, pointer, pointer),
        )

    def selective_scan(
        self,
        u: CudaArray,
        delta: CudaArray,
        A: CudaArray,
        B: CudaArray,
        C: CudaArray,
        D: CudaArray,
        delta_bias: CudaArray,
        h0: CudaArray,
        mask: CudaArray,
        reverse: bool,
        *,
        y: CudaArray,
        h: CudaArray,
        stream: int = 0,
    ) -> None:
        """Queue the operator ``SelectiveScan``; see `reference.selective_scan` for its meaning.

        Args:
            u: (S, L, D), float32 or float16, rows contiguous.
            delta: (S, L, D), as u.
            A: (D, N) float32.
            B: (S, L, N), as u.
            C: (S, L, N), as u.
            D: (D,) float32.
            delta_bias: (D,) float32.
            h0: (S or 1, D, N) float32.
            mask: (S or 1, L or 1) float32.
            reverse: from the last step to the first.
            y: (S, L, D) of u's type, written; overlaps no input.
            h: (S, D, N) float32, written; may be h0 where that has S rows.
            stream: a ``cudaStream_t`` as a number; 0 is the default stream.

        Raises:
            InputError: a type or shape does not fit.
            HyperlineError: the launch failed.
        """
        arrays = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "delta_bias": delta_bias, "h0": h0}
        arrays |= {"mask": mask, "y": y, "h": h}
        t = {name: _Tensor.of(name, array) for name, array in arrays.items()}
        if len(t["u"].shape) != 3 or len(t["A"].shape) != 2 or t["u"].dtype not in _TYPES:
            raise InputError(
                f"the scan takes u (S, L, D) in float32 or float16 and A (D, N), not {t['u'].shape} in {t['u'].dtype} "
                f"and {t['A'].shape}"
            )
        (S, L, channels), N, dtype = t["u"].shape, t["A"].shape[1], t["u"].dtype
        for name in ("u", "delta", "y"):
            t[name].check(dtype, (S, L, channels), contiguous_axes=1)
        for name in ("B", "C"):
            t[name].check(dtype, (S, L, N), contiguous_axes=1)
        t["A"].check(np.float32, (channels, N), contiguous_axes=2)
        for name in ("D", "delta_bias"):
            t[name].check(np.float32, (channels,), contiguous_axes=1)
        t["h0"].check(np.float32, (S, channels, N), (1, channels, N), contiguous_axes=2)
        t["h"].check(np.float32, (S, channels, N), contiguous_axes=3)
        t["mask"].check(np.float32, (S, L), (1, L), (S, 1), (1, 1), contiguous_axes=0)

        rows = {name: _Rows(t[name].address, t[name].stride(0), t[name].stride(1)) for name in ("u", "delta", "B", "C")}
        rows |= {name: _Rows(t[name].address, t[name].stride(0), t[name].stride(1)) for name in ("mask", "y")}
        scan = _Scan(
            *(S, L, channels, N, int(reverse), _TYPES[dtype]),
            *(rows[name] for name in ("u", "delta", "B", "C", "mask")),
            *(t[name].address for name in ("A", "D", "delta_bias", "h0")),
            t["h0"].stride(0),
        )
        self._check(self._library.hyperline_cuda_selective_scan(ctypes.byref(scan), rows["y"], t["h"].address, stream))

    def expert_gate(self, logits: CudaArray, k: int, *, weights: CudaArray, active: CudaArray, stream: int = 0) -> None:
        """Queue the operator ``ExpertGate``; see `reference.expert_gate` for its meaning.

        Args:
            logits: (R, E), float32 or float16, contiguous.
            k: experts kept in a row, 1 to E.
            weights: (R, E) of the logits' type, written.
            active: likewise.
            stream: a ``cudaStream_t`` as a number; 0 is the default stream.

        Raises:
            InputError: a type or shape does not fit, or k is not in 1..E.
            HyperlineError: the launch failed.
        """
        tensors = [
            _Tensor.of(name, array) for name, array in (("logits", logits), ("weights", weights), ("active", active))
        ]
        shape, dtype = tensors[0].shape, tensors[0].dtype
        if len(shape) != 2 or not 1 <= k <= shape[1] or dtype not in _TYPES:
            raise InputError(f"the gate keeps 1 to E experts of float logits (R, E), not {k} of {shape} in {dtype}")
        for tensor in tensors:
            tensor.check(dtype, shape, contiguous_axes=2)
        self._check(
            self._library.hyperline_cuda_expert_gate(
                *shape, k, _TYPES[dtype], *(tensor.address for tensor in tensors), stream
            )
        )

    def _check(self, status: int) -> None:
        if status:
            reason = self._library.hyperline_cuda_status_text(status).decode()
            raise HyperlineError(f"the GPU operator was not started: {reason}")
