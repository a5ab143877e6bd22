"""Frames of a camera as arrays: the monochrome pixel formats of GenICam's PFNC and of GigE Vision, decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError

# Where a pixel's bits lie in its group of bytes: byte, mask of the bits there, and how far up they go in the pixel
# (negative: down). PFNC's "p" formats fill the bytes from the lowest bit; GigE Vision's own "Packed" ones put the
# high eight bits of two pixels into bytes 0 and 2 and what is left of both into byte 1.
_Piece = tuple[int, int, int]


@dataclass(frozen=True)
class PixelFormat:
    """How a camera writes a pixel.

    Attributes:
        name: in PFNC.
        code: 32 bits, in PFNC; bits 16 to 23 are the bits that a pixel takes.
        dtype: of the decoded values.
        pieces: of each pixel of a packed group; empty where the bytes are the values.
    """

    name: str
    code: int
    dtype: np.dtype[Any]
    pieces: tuple[tuple[_Piece, ...], ...] = ()

    @property
    def group_bytes(self) -> int:
        """Bytes of a packed group."""
        return (self.code >> 16 & 0xFF) * len(self.pieces) // 8

    def frame_bytes(self, width: int, height: int) -> int:
        """Return the bytes of a frame's pixels.

        Raises:
            InputError: the rows do not end where a group of pixels does, so that cameras may pad them or not.
        """
        if self.pieces and width % len(self.pieces):
            raise InputError(
                f"a row of {width} pixels in {self.name} does not end on a whole byte; set a Width that is a multiple "
                f"of {len(self.pieces)}, or another format"
            )
        return width * height * (self.code >> 16 & 0xFF) // 8


_U1, _U2 = np.dtype("u1"), np.dtype("<u2")
FORMATS = {
    one.code: one
    for one in (
        PixelFormat("Mono8", 0x01080001, _U1),
        PixelFormat("Mono10", 0x01100003, _U2),
        PixelFormat("Mono12", 0x01100005, _U2),
        PixelFormat("Mono14", 0x01100025, _U2),
        PixelFormat("Mono16", 0x01100007, _U2),
        PixelFormat(
            "Mono10p",
            0x010A0046,
            _U2,
            (
                ((0, 0xFF, 0), (1, 0x03, 8)),
                ((1, 0xFC, -2), (2, 0x0F, 6)),
                ((2, 0xF0, -4), (3, 0x3F, 4)),
                ((3, 0xC0, -6), (4, 0xFF, 2)),
            ),
        ),
        PixelFormat("Mono12p", 0x010C0047, _U2, (((0, 0xFF, 0), (1, 0x0F, 8)), ((1, 0xF0, -4), (2, 0xFF, 4)))),
        PixelFormat("Mono10Packed", 0x010C0004, _U2, (((0, 0xFF, 2), (1, 0x03, 0)), ((2, 0xFF, 2), (1, 0x30, -4)))),
        PixelFormat("Mono12Packed", 0x010C0006, _U2, (((0, 0xFF, 4), (1, 0x0F, 0)), ((2, 0xFF, 4), (1, 0xF0, -4)))),
    )
}


class FrameDecoder:
    """Decodes frames of one format and size without allocating.

    Attributes:
        bytes: of a frame's pixels.
    """

    def __init__(self, pixel_format: PixelFormat, width: int, height: int) -> None:
        """Allocate.

        Args:
            pixel_format: of the frames.
            width: pixels of a row.
            height: rows.

        Raises:
            InputError: see ``PixelFormat.frame_bytes``.
        """
        self.bytes = pixel_format.frame_bytes(width, height)
        self._format = pixel_format
        self._shape = height, width
        if pixel_format.pieces:
            self._decoded = np.empty(self._shape, pixel_format.dtype)
            self._part = np.empty(width * height // len(pixel_format.pieces), pixel_format.dtype)

    def decode(self, data: NDArray[np.uint8]) -> NDArray[Any]:
        """Return a frame's values.

        Args:
            data: the frame's bytes, contiguous; more may follow.

        Returns:
            (row, column) of the format's dtype: a view of ``data``, or for packed formats memory of the decoder that
            the next call overwrites.
        """
        if not self._format.pieces:
            return data[: self.bytes].view(self._format.dtype).reshape(self._shape)
        groups = data[: self.bytes].reshape(-1, self._format.group_bytes)  # (group, byte)
        pixels = self._decoded.reshape(len(groups), -1)  # (group, pixel)
        part = self._part
        for column, pieces in enumerate(self._format.pieces):
            pixel = pixels[:, column]
            for number, (byte, mask, up) in enumerate(pieces):
                target = part if number else pixel
                np.bitwise_and(groups[:, byte], mask, out=target, dtype=target.dtype)
                (np.left_shift if up > 0 else np.right_shift)(target, abs(up), out=target)
                if number:
                    np.bitwise_or(pixel, part, out=pixel)
        return self._decoded
