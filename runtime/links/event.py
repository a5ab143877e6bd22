"""What is said of a place on the ground where a class was seen, and the rules that say what is worth saying."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hyperline.errors import InputError

# Class, confidence, pixels, and the weight where it is given: from the right, for a class name may hold a colon.
_RULE = re.compile(r"(?P<name>.+?):(?P<confidence>[0-9.]+):(?P<pixels>[0-9]+)(?::(?P<weight>[0-9.]+))?")

# Big-endian; docs/links.md has the fields.
_RECORD = struct.Struct(">IBBIHHIIHHIHI")
RECORD_BYTES = _RECORD.size


@dataclass(frozen=True)
class Rule:
    """Which pixels make an event.

    Attributes:
        class_id: the class, 1 or more.
        confidence: the least confidence of a pixel, 0 to 1.
        pixels: the fewest connected pixels.
        weight: how much a pixel of this class is worth; see ``Event.value``.
    """

    class_id: int
    confidence: float
    pixels: int
    weight: float = 1.0


@dataclass(frozen=True)
class Event:
    """Connected pixels of one class, each at least as sure as the rule asks.

    Attributes:
        sequence: counts the events of a strip from 0, in the order in which they ended.
        class_id: the class, 1 or more.
        class_name: its name on the model's card.
        pixels: how many.
        mean_confidence: over the pixels.
        max_confidence: over the pixels.
        first_line: of the bounding box, counted from the start of the strip; so the others, all inclusive.
        last_line: see above.
        first_sample: see above.
        last_sample: see above.
        centre_line: mean of the pixels' lines.
        centre_sample: mean of the pixels' samples.
        first_time: UNIX seconds of the first line.
        last_time: UNIX seconds of the last line.
        complete: False where the event was cut: lines are missing behind it, or too many were open at a time.
        weight: of the rule.
    """

    sequence: int
    class_id: int
    class_name: str
    pixels: int
    mean_confidence: float
    max_confidence: float
    first_line: int
    last_line: int
    first_sample: int
    last_sample: int
    centre_line: float
    centre_sample: float
    first_time: float
    last_time: float
    complete: bool
    weight: float

    @property
    def value(self) -> float:
        """What the event is worth on a thin link: weight × pixels × mean confidence."""
        return self.weight * self.pixels * self.mean_confidence

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of the JSON form (docs/links.md)."""
        return {
            "sequence": self.sequence,
            "class": self.class_id,
            "name": self.class_name,
            "pixels": self.pixels,
            "mean_confidence": round(self.mean_confidence, 4),
            "max_confidence": round(self.max_confidence, 4),
            "lines": [self.first_line, self.last_line],
            "samples": [self.first_sample, self.last_sample],
            "centre": [round(self.centre_line, 2), round(self.centre_sample, 2)],
            "time": [round(self.first_time, 3), round(self.last_time, 3)],
            "complete": self.complete,
            "value": round(self.value, 3),
        }

    def record(self) -> bytes:
        """Return the binary form of ``RECORD_BYTES`` bytes (docs/links.md); what exceeds a field saturates."""
        lasted = (self.last_time - self.first_time) * 1000
        return _RECORD.pack(
            _bounded(self.sequence, 32),
            self.class_id,
            int(self.complete),
            _bounded(self.pixels, 32),
            _bounded(self.mean_confidence * 0xFFFF, 16),
            _bounded(self.max_confidence * 0xFFFF, 16),
            _bounded(self.first_line, 32),
            _bounded(self.last_line, 32),
            _bounded(self.first_sample, 16),
            _bounded(self.last_sample, 16),
            _bounded(self.centre_line, 32),
            _bounded(self.centre_sample, 16),
            _bounded(lasted, 32),
        )


def _bounded(value: float, bits: int) -> int:
    return min(max(round(value), 0), (1 << bits) - 1)


def parse_rule(text: str, class_names: Sequence[str]) -> Rule:
    """Read ``CLASS:CONFIDENCE:PIXELS[:WEIGHT]``; CLASS is a name of the card, in any case, or a number.

    Raises:
        InputError: another form, an unknown class, a confidence outside 0 to 1, or no pixels.
    """
    form = "CLASS:CONFIDENCE:PIXELS, such as Corn:0.9:20, and if wanted a weight behind: Corn:0.9:20:2.5"
    match = _RULE.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        confidence, pixels = float(match["confidence"]), int(match["pixels"])
        weight = float(match["weight"] or 1)
    except ValueError:
        raise InputError(f"events {text!r}: expected {form}") from None
    known = [name.casefold() for name in class_names]
    name = match["name"].strip().casefold()
    if name in known:
        class_id = known.index(name) + 1
    elif name.isascii() and name.isdigit() and 1 <= int(name) <= len(known):
        class_id = int(name)
    else:
        raise InputError(
            f"events {text!r}: the model has no class {match['name']!r}; it has "
            + ", ".join(f"{number} {name}" for number, name in enumerate(class_names, start=1))
        )
    if confidence > 1 or pixels < 1:
        raise InputError(f"events {text!r}: the confidence must be from 0 to 1 and the pixels at least 1")
    return Rule(class_id, confidence, pixels, weight)
