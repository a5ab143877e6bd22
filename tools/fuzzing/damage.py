"""What happens to bytes, numbers, text and JSON on their way."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Damage = Callable[[bytearray, Random], None]

# Where sizes and counts overflow, and their neighbours.
EXTREMES = (0, 1, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
# What may stand where a number should.
WORDS = (
    *("", "0", "-0", "1", "-1", "2", "7", "255", "65535", "65536", "2147483647", "2147483648", "4294967296"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616"),
    *(
        "1e308",
        "-1e308",
        "1e309",
        "5e-324",
        "1e-310",
        "nan",
        "inf",
        "-inf",
        "1.5",
        "1e3",
        "1_0",
        "0x10",
        "+3",
        "٣",
        "½",
    ),
    *("true", "null", "{", "}", "{}", "{,}", "=", ";", "\x00", "\x1b[2J", "\u202e", "\ufeff", "é", "a\tb"),
    *("9" * 400, "9" * 4300, "9" * 5000, "-" + "9" * 4300, "1e" + "9" * 400, "0." + "3" * 5000),
)


def flip(data: bytearray, random: Random) -> None:
    """Flip a bit."""
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def overwrite(data: bytearray, random: Random) -> None:
    """Put noise over some bytes."""
    at = place(data, random)
    noise = random.randbytes(random.randint(1, 40))
    data[at : at + len(noise)] = noise


def insert(data: bytearray, random: Random) -> None:
    """Put noise between two bytes."""
    at = place(data, random)
    data[at:at] = random.randbytes(random.randint(1, 200))


def delete(data: bytearray, random: Random) -> None:
    """Take bytes out."""
    at = place(data, random)
    del data[at : at + random.randint(1, 200)]


def repeat(data: bytearray, random: Random) -> None:
    """Put a copy of some bytes elsewhere."""
    at = place(data, random)
    copied = data[at : at + random.randint(1, 300)]
    at = place(data, random)
    data[at:at] = copied


def truncate(data: bytearray, random: Random) -> None:
    """End early."""
    del data[place(data, random) :]


def put_extreme(data: bytearray, random: Random) -> None:
    """Put an extreme integer of one to eight bytes over some."""
    width = random.choice((1, 2, 4, 8))
    if len(data) >= width:
        at = random.randrange(len(data) - width + 1)
        data[at : at + width] = extreme(width, random)


BYTES: tuple[Damage, ...] = (flip, overwrite, insert, delete, repeat, truncate, put_extreme)


def place(data: bytearray, random: Random) -> int:
    """Choose a place between two bytes, or at either end."""
    return random.randrange(len(data) + 1)


def extreme(width: int, random: Random) -> bytes:
    """Return an extreme integer as so many bytes, little-endian."""
    return (random.choice(EXTREMES) & (1 << 8 * width) - 1).to_bytes(width, "little")


def splice(data: bytearray, other: bytes, random: Random) -> None:
    """Go on with the end of another file."""
    del data[place(data, random) :]
    data += other[random.randrange(len(other) + 1) :]


def damage_bytes(data: bytearray, random: Random, others: Sequence[bytes] = ()) -> str:
    """Do one thing to some bytes and return its name."""
    if others and random.random() < 0.1:
        splice(data, random.choice(others), random)
        return "splice"
    chosen = random.choice(BYTES)
    chosen(data, random)
    return chosen.__name__


def odd_value(random: Random) -> Any:
    """Return a JSON value that is seldom right."""
    return random.choice(
        (
            lambda: None,
            lambda: random.random() < 0.5,
            lambda: random.choice((0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**19, 10**25)),
            lambda: random.choice((0.5, -0.0, 1.0, 1e308, -1e308, 5e-324, 1e-310, float("nan"), float("inf"))),
            lambda: random.choice(("", "1", "é", "\x00", "\x1b[2J", "\u202e", "\ud800", "x" * 201, "x" * 70_000)),
            lambda: [],
            lambda: {},
            lambda: [random.choice((0, None, "a", 1e308))] * random.choice((1, 2, 3, 300)),
            lambda: {"a": random.choice((0, None, "a"))},
            lambda: nested(random.choice((3, 31, 33, 200))),
        )
    )()


def nested(depth: int) -> Any:
    """Return lists within lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def damage_value(value: Any, random: Random) -> tuple[Any, str]:
    """Change a JSON value in one place: another value, another type, a key too few or too many.

    Returns:
        The value, changed in place where it is a container, and what was done.
    """
    if not isinstance(value, (dict, list)) or not value:
        return odd_value(random), "json value"
    holder, key = value, _key(value, random)
    while isinstance(holder[key], (dict, list)) and holder[key] and random.random() < 0.7:
        holder = holder[key]
        key = _key(holder, random)
    kind = random.random()
    if kind < 0.6:
        held = holder[key]
        if isinstance(held, (int, float)) and not isinstance(held, bool) and random.random() < 0.5:
            holder[key] = random.choice((held + 1, held - 1, -held, held * 2, float(held), str(held), [held]))
        else:
            holder[key] = odd_value(random)
        return value, "json value"
    if kind < 0.75:
        del holder[key]
        return value, "json delete"
    if isinstance(holder, list):
        holder[key:key] = [holder[key]] * random.choice((1, 2, 300))
        return value, "json repeat"
    holder[random.choice(("", "format", "self", "a", "\x1b", "é", "name"))] = odd_value(random)
    return value, "json add"


def _key(value: Any, random: Random) -> Any:
    return random.choice(sorted(value, key=str)) if isinstance(value, dict) else random.randrange(len(value))


def compact(value: Any) -> bytes:
    """Return JSON as a bundle spells it, NaN and lone surrogates included."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def damage_json(text: bytes, random: Random) -> tuple[bytes, str]:
    """Change a JSON text: a value within it, or what only its text can say."""
    kind = random.random()
    if kind < 0.75:
        try:
            value, done = damage_value(json.loads(text), random)
            return compact(value), done
        except (ValueError, RecursionError):  # it is damaged already
            kind = 1.0
    if kind < 0.8:
        depth = random.choice((31, 32, 33, 1000, 20_000))
        opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"1" + b"}")))
        return opening * depth + closing * depth * (random.random() < 0.8) + b"\n", "json depth"
    if kind < 0.85:
        at = text.find(b":", random.randrange(len(text) + 1)) + 1
        number = random.choice((b"9" * 5000, b"-" + b"9" * 21, b"1e400", b"1E1", b"01"))
        return text[:at] + number + text[at:], "json number"
    if kind < 0.9:
        key = text[1 : text.find(b":") + 1]
        return b"{" + key + b"1," + text[1:], "json key twice"
    data = bytearray(text)
    done = damage_bytes(data, random)
    return bytes(data), done
