"""Packed pixels come out as their definition says, whole ones as they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.runtime.sources.pixels import FORMATS, FrameDecoder

BY_NAME = {one.name: one for one in FORMATS.values()}


def written(name: str, values: list[int]) -> bytes:
    """Write pixels by the formats' definitions, one whole number at a time."""
    bits = int(name.removeprefix("Mono").rstrip("pPacked"))
    if name.endswith("p"):  # PFNC: one stream of bits, lowest first
        stream = sum(value << bits * number for number, value in enumerate(values))
        return stream.to_bytes(len(values) * bits // 8, "little")
    if name.endswith("Packed"):  # GigE Vision: high bytes outside, what is left of both pixels between them
        low = (1 << bits - 8) - 1
        return b"".join(
            bytes([first >> bits - 8, first & low | (second & low) << 4, second >> bits - 8])
            for first, second in zip(values[::2], values[1::2], strict=True)
        )
    return b"".join(value.to_bytes(1 if bits == 8 else 2, "little") for value in values)


@pytest.mark.parametrize("name", BY_NAME)
@given(st.data())
def test_every_format_gives_back_the_values_that_were_written(name: str, data: st.DataObject) -> None:
    bits = int(name.removeprefix("Mono").rstrip("pPacked"))
    width, height = 4 * data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5))
    values = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=width * height, max_size=width * height))
    decoder = FrameDecoder(BY_NAME[name], width, height)
    frame = np.frombuffer(written(name, values) + b"chunks", np.uint8)
    assert decoder.bytes == len(frame) - len(b"chunks")
    for _ in range(2):  # its memory is used again
        decoded = decoder.decode(frame)
        assert decoded.dtype == (np.uint8 if bits == 8 else np.uint16)
        np.testing.assert_array_equal(decoded, np.reshape(values, (height, width)))


def test_whole_formats_are_views_of_the_frame() -> None:
    frame = np.zeros(2 * 6, np.uint8)
    assert np.shares_memory(FrameDecoder(BY_NAME["Mono12"], 3, 2).decode(frame), frame)


@pytest.mark.parametrize(("name", "width"), [("Mono10p", 6), ("Mono12p", 5), ("Mono12Packed", 7)])
def test_rows_that_end_within_a_byte_are_refused(name: str, width: int) -> None:
    with pytest.raises(InputError, match=f"row of {width} pixels in {name}.*set a Width that is a multiple"):
        FrameDecoder(BY_NAME[name], width, 4)
