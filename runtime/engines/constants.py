"""The constants of a model in memory of our own, where a flipped bit can be found and mended.

onnxruntime keeps constants where nobody else can look. So an engine first lets it optimise the graph and write it down,
then takes the constants out of what was written (`read_constants`), puts them side by side into memory that it owns
(`Constants`), and makes the session that flies from the finished graph over that memory, without packed copies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hyperline.errors import InputError

# Fields of ONNX's messages (onnx.proto), and its numbers of data types.
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _FLOATS, _INT32S, _INT64S, _NAME, _RAW, _DOUBLES, _UINT64S = 1, 2, 4, 5, 7, 8, 9, 10, 11
_DTYPES = {
    number: np.dtype(name)
    for number, name in {
        1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4",
        13: "<u8",
    }.items()
}  # fmt: skip
_CACHE_LINE = 64

Field = tuple[int, int | memoryview]


@dataclass(frozen=True)
class Constants:
    """Constants side by side.

    Attributes:
        shapes: the memory of whole numbers of 32 bits and more, of which shapes, axes and indices are made.
        weights: the memory of all others but those of 8 bits.
        eights: the memory of those of int8, and `eight_constants`: how many they are. Kernels that pack them read them
            once.
        values: each constant as onnxruntime takes it, by name; views of that memory, which must outlive the session.
    """

    shapes: NDArray[np.uint64]
    weights: NDArray[np.uint64]
    eights: NDArray[np.uint64]
    eight_constants: int
    values: dict[str, onnxruntime.OrtValue]

    @classmethod
    def of(cls, model: bytes) -> Constants:
        """Copy the constants of an ONNX file; those of graphs within its graph, and strings, are left where they are.

        Raises:
            InputError: it is no ONNX file that onnxruntime wrote.
        """
        found = dict(read_constants(model))
        arrays = {name: array for name, array in found.items() if array.size}
        shapes = {name: array for name, array in arrays.items() if array.dtype.kind in "iu" and array.itemsize >= 4}
        eights = {name: array for name, array in arrays.items() if array.dtype == np.int8}
        weights = {name: array for name, array in arrays.items() if name not in shapes | eights}
        values: dict[str, onnxruntime.OrtValue] = {}
        return cls(
            _side_by_side(shapes, values),
            _side_by_side(weights, values),
            _side_by_side(eights, values),
            len(eights),
            values,
        )


def _side_by_side(
    arrays: dict[str, NDArray[np.generic]], values: dict[str, onnxruntime.OrtValue]
) -> NDArray[np.uint64]:
    """Copy arrays into one piece of memory, each at a cache line, and wrap the copies for onnxruntime."""
    sizes = [-(-array.nbytes // _CACHE_LINE) * _CACHE_LINE for array in arrays.values()]
    whole = np.zeros(sum(sizes) + _CACHE_LINE, np.uint8)
    first = -whole.ctypes.data % _CACHE_LINE
    memory = whole[first : first + sum(sizes)]
    start = 0
    for (name, array), size in zip(arrays.items(), sizes, strict=True):
        own = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        own[...] = array
        values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(own)
        start += size
    return memory.view(np.uint64)


def read_constants(model: bytes) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Give name and value of each constant of a model's graph.

    The few fields of protobuf that it takes are read here, because what flies has no onnx package.

    Raises:
        InputError: the bytes are no ONNX file.
    """
    try:
        for number, graph in _fields(memoryview(model)):
            if number == _MODEL_GRAPH and isinstance(graph, memoryview):
                for kind, tensor in _fields(graph):
                    if kind == _GRAPH_INITIALIZER and isinstance(tensor, memoryview):
                        yield from _constant(tensor)
    except (IndexError, ValueError) as error:
        raise InputError(f"the model is not an ONNX file ({error}); export the bundle again") from error


def _constant(tensor: memoryview) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Give a tensor, unless its type is none that is a number."""
    dims: list[int] = []
    words: list[int] = []
    raw, name, data_type = b"", "", 0
    for number, value in _fields(tensor):
        if number == _DIMS:
            dims += _varints(value)
        elif number == _DATA_TYPE and isinstance(value, int):
            data_type = value
        elif number == _NAME and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif number in (_RAW, _FLOATS, _DOUBLES) and isinstance(value, memoryview):
            raw += bytes(value)
        elif number in (_INT32S, _INT64S, _UINT64S):
            words += _varints(value)
    dtype = _DTYPES.get(data_type)
    if dtype is None:
        return
    if words:  # one a number, sign-extended to 64 bits; of an FP16 number, its bits
        raw = np.array(words, np.uint64).astype(f"<u{dtype.itemsize}").tobytes()
    if len(raw) != math.prod(dims) * dtype.itemsize:
        raise ValueError(f"constant {name} of shape {tuple(dims)} has {len(raw)} bytes")
    yield name, np.frombuffer(raw, dtype).reshape(dims)


def _varints(value: int | memoryview) -> list[int]:
    """Return repeated whole numbers, however they are packed."""
    if isinstance(value, int):
        return [value]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(number)
    return numbers


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position


def _fields(data: memoryview) -> Iterator[Field]:
    """Give number and value of each field of a message: a whole number, or the bytes that it holds."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire = key & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if wire == 2:
            size, position = _varint(data, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of wire type {wire}")
        if position + size > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[position : position + size]
        position += size
