"""The golden block: one real block with the output expected of it, for the self-test on the device."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle.card import Card
from hyperline.errors import InputError

# Member -> its dtype as .npy spells it. States start at zero, so they are not stored.
GOLDEN_DTYPES = {"lines": "<f4", "valid": "|b1", "labels": "|u1", "logits": "<f4"}
# The header that NumPy writes for a C-ordered array, format 1.0. Matching it, instead of evaluating it,
# leaves no room for object arrays, which are pickles.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)\{'descr': '(?P<dtype>[^']{3})', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d{1,9}(?:, \d{1,9}){0,3}),?\), \} *\n",
    re.DOTALL,
)


def golden_name(name: str) -> str:
    """Return the member that holds one array of the golden block."""
    return f"golden/{name}.npy"


def encode_golden(golden: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """Return the golden block as bundle members.

    Args:
        golden: ``lines`` (block_lines, samples, bands) float32, ``valid`` (block_lines, samples) bool,
            ``labels`` (block_lines, samples) uint8, ``logits`` (block_lines, samples, classes) float32.
    """
    members = {}
    for name, array in golden.items():
        file = io.BytesIO()
        np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
        members[golden_name(name)] = file.getvalue()
    return members


def decode_golden(members: Mapping[str, bytes], card: Card) -> dict[str, NDArray[Any]]:
    """Return the golden block of untrusted members: read-only views, nothing is copied.

    Raises:
        InputError: a member is not a plain array of the dtype and shape that the card demands, or the
            block could not test anything.
    """
    golden = {name: _array(members[golden_name(name)], name) for name in GOLDEN_DTYPES}
    block = (card.block_lines, golden["lines"].shape[1] if golden["lines"].ndim == 3 else 0)
    shapes = {
        "lines": (*block, card.bands),
        "valid": block,
        "labels": block,
        "logits": (*block, len(card.class_names)),
    }
    for name, shape in shapes.items():
        if golden[name].shape != shape:
            raise InputError(
                f"member {golden_name(name)!a} has shape {golden[name].shape}; the card and the lines demand {shape}"
            )
    if block[1] % card.sample_multiple:
        raise InputError(
            f"member {golden_name('lines')!a} has {block[1]} samples, no multiple of {card.sample_multiple}"
        )
    if golden["valid"].view(np.uint8).max(initial=0) > 1 or not golden["valid"].any():
        raise InputError(f"member {golden_name('valid')!a} is no mask with at least one valid pixel")
    if golden["labels"].max() > len(card.class_names) or golden["labels"][~golden["valid"]].any():
        raise InputError(
            f"member {golden_name('labels')!a} holds a class that the card does not name, or labels an invalid pixel"
        )
    return golden


def _array(data: bytes, name: str) -> NDArray[Any]:
    header = _HEADER.match(data)
    if header is None or int.from_bytes(header["length"], "little") != header.end() - 10:
        raise InputError(f"member {golden_name(name)!a} is not a plain .npy array")
    dtype = np.dtype(GOLDEN_DTYPES[name])
    if header["dtype"].decode("latin-1") != GOLDEN_DTYPES[name]:
        raise InputError(f"member {golden_name(name)!a} has dtype {header['dtype']!r}; {dtype} is demanded")
    shape = tuple(int(length) for length in header["shape"].split(b","))
    size = dtype.itemsize
    for length in shape:
        size *= length
    if header.end() + size != len(data):
        raise InputError(f"member {golden_name(name)!a} declares {size} bytes of data and has another number")
    return np.frombuffer(data, dtype, offset=header.end()).reshape(shape)
