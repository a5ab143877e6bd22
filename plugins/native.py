"""The native operators, called through their C interface (plugins/include/hyperline/ops.h) with NumPy arrays.

Their meaning is `hyperline.plugins.reference`, whose shape letters stand here too. Nothing here needs torch.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.resources
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import HyperlineError, InputError

Array = NDArray[Any]
Float32 = NDArray[np.float32]

OPS_LIBRARY = "libhyperline_ops.so"
INTERFACE_VERSION = 4


def find_library(name: str) -> Path | None:
    """Return where a native library of this package is installed, or None.

    Args:
        name: file name, such as `OPS_LIBRARY`.
    """
    # An editable install keeps the sources and the built libraries in two folders; resources know both.
    file = importlib.resources.files("hyperline.plugins") / "lib" / name
    return Path(str(file)) if file.is_file() else None


class _Rows(ctypes.Structure):
    """``hyperline_input`` and ``hyperline_output``: a tensor (S, L, X) with strides."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("sequence_stride", ctypes.c_int64),
        ("step_stride", ctypes.c_int64),
    )


class _Scan(ctypes.Structure):
    """``hyperline_scan``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("sequences", "length", "channels", "states")),
        *((name, ctypes.c_int32) for name in ("reverse", "threads")),
        *((name, _Rows) for name in ("u", "delta", "B", "C", "mask")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "delta_bias", "h0")),
        ("h0_sequence_stride", ctypes.c_int64),
    )


class _Gradients(ctypes.Structure):
    """``hyperline_scan_gradients``."""

    _fields_ = (
        *((name, _Rows) for name in ("u", "delta", "B", "C")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "delta_bias")),
    )


@dataclass(frozen=True)
class ScanInputs:
    """The inputs of a scan, of matching shapes and in float32; make it with `scan_inputs`.

    Attributes:
        u, delta: (S, L, D), B, C: (S, L, N), with contiguous rows.
        A: (D, N), D, delta_bias: (D,), contiguous.
        h0: (S or 1, D, N), each sequence contiguous.
        mask: (S, L), broadcast by strides of zero where it was smaller.
        reverse: from the last step to the first.
    """

    u: Float32
    delta: Float32
    A: Float32
    B: Float32
    C: Float32
    D: Float32
    delta_bias: Float32
    h0: Float32
    mask: Float32
    reverse: bool


def scan_inputs(
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array,
    delta_bias: Array,
    h0: Array,
    mask: Array,
    reverse: bool,
) -> ScanInputs:
    """Check the inputs of `reference.selective_scan` and bring them to float32; views stay views where they can.

    Raises:
        InputError: a shape does not fit the others.
    """
    if u.ndim != 3 or A.ndim != 2:
        raise InputError(f"the scan takes u (S, L, D) and A (D, N), not {u.shape} and {A.shape}")
    S, L, channels = u.shape
    N = A.shape[1]
    wanted: dict[str, tuple[Array, tuple[tuple[int, ...], ...]]] = {
        "u": (u, ((S, L, channels),)),
        "delta": (delta, ((S, L, channels),)),
        "A": (A, ((channels, N),)),
        "B": (B, ((S, L, N),)),
        "C": (C, ((S, L, N),)),
        "D": (D, ((channels,),)),
        "delta_bias": (delta_bias, ((channels,),)),
        "h0": (h0, ((S, channels, N), (1, channels, N))),
        "mask": (mask, ((S, L), (1, L), (S, 1), (1, 1))),
    }
    for name, (array, shapes) in wanted.items():
        if array.shape not in shapes:
            raise InputError(
                f"the scan's {name} has shape {array.shape}; with {S} sequences of {L} steps, {channels} channels and "
                f"{N} states it must be {' or '.join(map(str, shapes))}"
            )
    if not channels or not N:
        raise InputError(f"a scan needs at least one channel and one state, not {channels} and {N}")
    u, delta, B, C = (_rows(array) for array in (u, delta, B, C))
    A, D, delta_bias, h0 = (np.ascontiguousarray(array, dtype=np.float32) for array in (A, D, delta_bias, h0))
    mask = np.broadcast_to(mask.astype(np.float32, copy=False), (S, L))
    return ScanInputs(u, delta, A, B, C, D, delta_bias, h0, mask, reverse)


@dataclass(frozen=True)
class ScanGradients:
    """Gradients of a loss of y, each of the shape of its input."""

    u: Float32
    delta: Float32
    A: Float32
    B: Float32
    C: Float32
    D: Float32
    delta_bias: Float32


@dataclass(frozen=True)
class Stretch:
    """Which bands a picture shows, and how: a colour is band · gain + offset, without its fraction, within 0 to 255.

    Attributes:
        bands: shown red, green and blue.
        gain, offset: of each.
    """

    bands: tuple[int, int, int]
    gain: tuple[float, float, float]
    offset: tuple[float, float, float]


class _Colours(ctypes.Structure):
    _fields_ = (
        ("pixels", ctypes.c_int64),
        ("bands", ctypes.c_int64),
        ("shown", ctypes.c_int64 * 3),
        ("gain", ctypes.c_float * 3),
        ("offset", ctypes.c_float * 3),
    )


@functools.cache
def installed_library() -> NativeLibrary | None:
    """Return the library of this package, or None where there is none that works; whoever loads an engine says why."""
    try:
        return NativeLibrary()
    except HyperlineError:
        return None


class NativeLibrary:
    """``libhyperline_ops``, loaded.

    Attributes:
        path: the file.
        instruction_set: what the kernels run on here: avx512, avx2, sse2 or neon.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Load the library of this package, or another build of it.

        Raises:
            HyperlineError: it is not there, cannot be loaded, or speaks another version of the interface.
        """
        found = path or find_library(OPS_LIBRARY)
        if found is None:
            raise HyperlineError(
                f"{OPS_LIBRARY} is not installed; install hyperline again where a C++ compiler (g++) is found"
            )
        self.path = found
        try:
            self._library = ctypes.CDLL(str(found))
            version: int = self._library.hyperline_ops_version()
        except (OSError, AttributeError) as error:
            raise HyperlineError(f"{found} cannot be loaded ({error}); install hyperline again") from error
        if version != INTERFACE_VERSION:
            raise HyperlineError(
                f"{found} has version {version} of the interface, this package needs {INTERFACE_VERSION}; "
                "install hyperline again"
            )
        for name in ("hyperline_status_text", "hyperline_instruction_set"):
            getattr(self._library, name).restype = ctypes.c_char_p
        self.instruction_set = self._library.hyperline_instruction_set().decode()
        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        self._library.hyperline_selective_scan.argtypes = (pointer, _Rows, pointer)
        self._library.hyperline_selective_scan_backward.argtypes = (pointer, _Rows, pointer)
        # What takes less time than it would take to get the interpreter's lock back from another thread keeps it.
        self._brief = ctypes.PyDLL(str(found))
        self._brief.hyperline_copy_and_look.argtypes = (pointer, pointer, integer, pointer, pointer)
        self._brief.hyperline_fold.argtypes = (pointer, pointer, integer, pointer)
        self._brief.hyperline_colours_of.argtypes = (pointer, pointer, pointer, pointer)
        self._brief.hyperline_shares_as_bytes.argtypes = (integer, pointer, pointer)
        self._library.hyperline_expert_gate.argtypes = (integer, integer, integer, pointer, pointer, pointer)

    def __reduce__(self) -> tuple[type[NativeLibrary], tuple[Path]]:
        # A copy of a network copies what it computes with; the library itself is loaded once.
        return NativeLibrary, (self.path,)

    def selective_scan(self, inputs: ScanInputs, threads: int = 1) -> tuple[Float32, Float32]:
        """Run the operator ``SelectiveScan``; see `reference.selective_scan`.

        Args:
            inputs: from `scan_inputs`.
            threads: at most this many; the result does not depend on it.

        Returns:
            y (S, L, D), and h (S, D, N), the state after the last step taken; contiguous float32.

        Raises:
            HyperlineError: memory ran out.
        """
        y = np.empty(inputs.u.shape, np.float32)
        h = np.empty((inputs.u.shape[0], *inputs.A.shape), np.float32)
        scan = _scan(inputs, threads)
        self._check(self._library.hyperline_selective_scan(ctypes.byref(scan), _view(y), h.ctypes.data))
        return y, h

    def selective_scan_backward(self, inputs: ScanInputs, grad_y: Array, threads: int = 1) -> ScanGradients:
        """Return the gradients of a loss by the inputs of a scan; h0 and mask have none.

        Args:
            inputs: from `scan_inputs`.
            grad_y: (S, L, D), the gradient of the loss by y.
            threads: at most this many; the result does not depend on it.

        Raises:
            InputError: ``grad_y`` has another shape than u.
            HyperlineError: memory ran out.
        """
        if grad_y.shape != inputs.u.shape:
            raise InputError(f"the gradient of y has shape {grad_y.shape}, y itself {inputs.u.shape}")
        rows = {name: np.empty(getattr(inputs, name).shape, np.float32) for name in ("u", "delta", "B", "C")}
        sums = {name: np.empty(getattr(inputs, name).shape, np.float32) for name in ("A", "D", "delta_bias")}
        into = _Gradients(
            **{name: _view(array) for name, array in rows.items()},
            **{name: array.ctypes.data for name, array in sums.items()},
        )
        grad_y = _rows(grad_y)
        scan = _scan(inputs, threads)
        self._check(
            self._library.hyperline_selective_scan_backward(ctypes.byref(scan), _view(grad_y), ctypes.byref(into))
        )
        return ScanGradients(**rows, **sums)

    def expert_gate(self, logits: Array, k: int) -> tuple[Float32, Float32]:
        """Run the operator ``ExpertGate``; see `reference.expert_gate`.

        Args:
            logits: (R, E).
            k: experts kept in a row, 1 to E.

        Returns:
            weights and active, both (R, E) float32.

        Raises:
            InputError: ``logits`` is no table, or k is not in 1..E.
        """
        if logits.ndim != 2 or not 1 <= k <= logits.shape[1]:
            raise InputError(f"the gate keeps 1 to E experts of logits (R, E), not {k} of {logits.shape}")
        logits = np.ascontiguousarray(logits, dtype=np.float32)
        weights, active = np.empty_like(logits), np.empty_like(logits)
        self._check(
            self._library.hyperline_expert_gate(
                *logits.shape, k, *(array.ctypes.data for array in (logits, weights, active))
            )
        )
        return weights, active

    def copy_and_look(self, source: Float32, target: Float32) -> tuple[int, bool]:
        """Copy a flat array into another of its size.

        Returns:
            The exclusive or of its 64-bit words, an odd last number with zeros above it; and whether all are numbers.

        Raises:
            InputError: they are not flat, contiguous float32 arrays of one size.
        """
        for array in (source, target):
            if array.dtype != np.float32 or array.shape != (source.size,) or not array.flags.c_contiguous:
                raise InputError(f"source and target must be flat float32 arrays of one size, not {array.shape}")
        word, finite = ctypes.c_uint64(), ctypes.c_int32()
        self._check(
            self._brief.hyperline_copy_and_look(
                source.ctypes.data, target.ctypes.data, source.size, ctypes.byref(word), ctypes.byref(finite)
            )
        )
        return word.value, bool(finite.value)

    def fold(self, array: Float32) -> int:
        """Return the exclusive or of a flat array's 64-bit words, an odd last number with zeros above it.

        Raises:
            InputError: it is no flat, contiguous float32 array.
        """
        if array.dtype != np.float32 or array.ndim != 1 or not array.flags.c_contiguous:
            raise InputError(f"an array that is folded must be flat and float32, not {array.dtype} {array.shape}")
        start, count, word = ctypes.c_void_p(array.ctypes.data), ctypes.c_int64(array.size // 2), ctypes.c_uint64()
        self._check(self._brief.hyperline_fold(ctypes.byref(start), ctypes.byref(count), 1, ctypes.byref(word)))
        return word.value ^ (int(array[-1:].view(np.uint32)[0]) if array.size % 2 else 0)

    def folder(self, pieces: Sequence[NDArray[np.uint64]], words: NDArray[np.uint64]) -> Callable[[int], None]:
        """Return what folds the first so many pieces of memory into a word each: the exclusive or of its 64-bit words.

        Args:
            pieces: contiguous arrays, whose memory is read at every call.
            words: one a piece, overwritten at every call.

        Raises:
            InputError: they are not contiguous uint64 arrays, or as many words.
        """
        for array in (*pieces, words):
            if array.dtype != np.uint64 or not array.flags.c_contiguous:
                raise InputError(f"memory is folded in contiguous uint64 arrays, not in {array.dtype}")
        if words.shape != (len(pieces),):
            raise InputError(f"{len(pieces)} pieces of memory fold into as many words, not into {words.shape}")
        starts = np.array([piece.ctypes.data for piece in pieces], np.uintp)
        counts = np.array([piece.size for piece in pieces], np.int64)
        held = (*pieces, starts, counts, words)  # for as long as their addresses are used
        addresses = starts.ctypes.data, counts.ctypes.data, words.ctypes.data

        def fold(count: int, _held: object = held) -> None:
            self._check(self._brief.hyperline_fold(addresses[0], addresses[1], min(count, len(pieces)), addresses[2]))

        return fold

    def colours(self, lines: Float32, valid: NDArray[np.bool_], stretch: Stretch, colours: NDArray[np.uint8]) -> None:
        """Make red, green and blue bytes of a block's pixels, 1 to 255, and 0 where not valid.

        Args:
            lines: (block_lines, samples, bands).
            valid: (block_lines, samples).
            stretch: of the bands that are shown.
            colours: (block_lines, samples, 3), overwritten.

        Raises:
            InputError: the arrays are not contiguous, of other types, or do not fit each other.
        """
        shape = valid.shape
        fit = lines.shape[:-1] == shape and colours.shape == (*shape, 3) and lines.dtype == np.float32
        if not fit or not all(array.flags.c_contiguous for array in (lines, valid, colours)):
            raise InputError(f"lines {lines.shape}, valid {shape} and colours {colours.shape} do not fit each other")
        bands = lines.shape[-1]
        form = _Colours(valid.size, bands, stretch.bands, stretch.gain, stretch.offset)
        self._check(
            self._brief.hyperline_colours_of(
                ctypes.byref(form), lines.ctypes.data, valid.ctypes.data, colours.ctypes.data
            )
        )

    def shares_as_bytes(self, shares: Float32, target: NDArray[np.uint8]) -> None:
        """Write numbers from 0 to 1 as the nearest of 0 to 255; what is no number becomes 0.

        Raises:
            InputError: they are not contiguous arrays of float32 and uint8 of one shape.
        """
        fit = shares.shape == target.shape and shares.dtype == np.float32 and target.dtype == np.uint8
        if not fit or not (shares.flags.c_contiguous and target.flags.c_contiguous):
            raise InputError(f"shares {shares.shape} {shares.dtype} do not fit bytes {target.shape} {target.dtype}")
        self._check(self._brief.hyperline_shares_as_bytes(shares.size, shares.ctypes.data, target.ctypes.data))

    def _check(self, status: int) -> None:
        if status:
            reason = self._library.hyperline_status_text(status).decode()
            raise HyperlineError(f"the native operator failed: {reason}; give it smaller blocks, or more memory")


def _rows(array: Array) -> Float32:
    """Return ``array`` in float32 with contiguous rows: itself where it is so already."""
    array = array.astype(np.float32, copy=False)
    item = array.itemsize
    fits = array.strides[-1] == item or array.shape[-1] == 1
    # A stride that is no multiple of a float cannot be told in floats.
    return array if fits and not any(stride % item for stride in array.strides) else np.ascontiguousarray(array)


def _view(array: Float32) -> _Rows:
    sequence, step = (stride // array.itemsize for stride in array.strides[:2])
    return _Rows(array.ctypes.data, sequence, step)


def _scan(inputs: ScanInputs, threads: int) -> _Scan:
    if threads < 1:
        raise InputError(f"{threads} threads cannot scan; ask for at least 1")
    S, L, channels = inputs.u.shape
    N = inputs.A.shape[1]
    return _Scan(
        *(S, L, channels, N, int(inputs.reverse), threads),
        *(_view(array) for array in (inputs.u, inputs.delta, inputs.B, inputs.C, inputs.mask)),
        *(array.ctypes.data for array in (inputs.A, inputs.D, inputs.delta_bias, inputs.h0)),
        0 if inputs.h0.shape[0] == 1 else math.prod(inputs.A.shape),
    )
