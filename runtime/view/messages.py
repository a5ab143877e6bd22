"""What goes over the websocket: lines as bytes, all else as JSON (docs/view.md)."""

from __future__ import annotations

import json
import struct
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hyperline.errors import InputError
from hyperline.runtime.feed import Lines

# magic, first line, samples, lines; 16 bytes are a multiple of what the page's views need
_HEAD = struct.Struct("<4sIII")
_MAGIC = b"HLV1"
_MOST_LINE = 2**32 - 1

# A page asks for a few numbers.
MOST_BYTES = 256
MOST_LINES_ASKED = 4096


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class WantLines(_Asked):
    """Ask for lines that the page lacks."""

    want: Literal["lines"]
    first: int = Field(ge=0, le=_MOST_LINE)
    count: int = Field(ge=1, le=MOST_LINES_ASKED)


class WantSpectrum(_Asked):
    """Ask for the spectrum nearest to a pixel."""

    want: Literal["spectrum"]
    line: int = Field(ge=0, le=_MOST_LINE)
    sample: int = Field(ge=0, le=65535)


Want = WantLines | WantSpectrum
_WANT: TypeAdapter[Want] = TypeAdapter(Annotated[Want, Field(discriminator="want")])


def read_want(text: str) -> Want:
    """Read what a page asks for.

    Raises:
        InputError: it is nothing that a page asks for.
    """
    if len(text) > MOST_BYTES:
        raise InputError(f"a message of {len(text)} characters")
    try:
        return _WANT.validate_json(text)
    except ValidationError as error:
        raise InputError(f"{error.error_count()} faults in a message") from error


def lines_message(lines: Lines) -> bytes:
    """Return lines as one message: the head, then all colours, all labels, all confidences."""
    head = _HEAD.pack(_MAGIC, lines.first, lines.labels.shape[1], lines.count)
    return b"".join((head, lines.colours.tobytes(), lines.labels.tobytes(), lines.confidence.tobytes()))


def json_message(kind: str, content: dict[str, Any]) -> str:
    """Return anything else as one message."""
    return json.dumps({"kind": kind, **content}, separators=(",", ":"), allow_nan=False, default=str)
