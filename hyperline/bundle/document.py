"""The JSON documents of a bundle: one canonical text for each value, and limits on what is read."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from typing_extensions import Self

from hyperline.errors import InputError

FORMAT = 1
MAX_DEPTH = 32
# The longest 64-bit integer has 20 characters; a longer one costs quadratic time to parse.
MAX_INTEGER_DIGITS = 20


def encode(value: Any) -> bytes:
    """Return the canonical JSON text of a value: sorted keys, no spaces, UTF-8, one trailing newline.

    Raises:
        InputError: the value has no JSON form (NaN, an infinity, a type JSON does not know).
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"a value cannot be written as JSON: {error}") from error


def decode(data: bytes, where: str) -> Any:
    """Parse untrusted JSON that must be in canonical form.

    Args:
        data: the text; its caller has limited its size.
        where: what the text is, for messages, such as ``"x.hlb: card.json"``.

    Raises:
        InputError: not JSON, not canonical, a key twice in one object, an integer of more than 20
            characters, or nested deeper than 32 levels.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_object, parse_int=_integer)
        level, depth = [value], 0
        while level and depth <= MAX_DEPTH:
            level = [child for item in level for child in _children(item)]
            depth += 1
        if depth > MAX_DEPTH:
            raise RecursionError
        canonical = encode(value)
    except RecursionError:
        raise InputError(f"{where} is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise InputError(f"{where} is not JSON as hyperline writes it: {error}") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if canonical != data:
        raise InputError(f"{where} is not canonical JSON (sorted keys, no spaces, one newline at the end)")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!a} stands twice in one object")
    return value


def _integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _children(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []


def _printable(text: str) -> str:
    # Control characters would reach the terminal of whoever inspects the bundle.
    if not text.isprintable():
        raise ValueError(f"{text!a} holds a control character")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]


class Frozen(BaseModel):
    """A frozen record without unknown fields, NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Document(Frozen):
    """A record that is a whole JSON member of a bundle and so carries the format version.

    Raises:
        InputError: a value breaks a limit; the message names the field.
    """

    def __init__(self, /, **values: Any) -> None:
        # The values come from a user's scene or a stranger's file, so a fault in them is bad input.
        try:
            super().__init__(**values)
        except ValidationError as error:
            first, *others = error.errors(include_url=False, include_input=False)
            field = ascii(".".join(map(str, first["loc"])))[1:-1][:100]
            message = first["msg"].removeprefix("Value error, ")[:300]
            more = f" (and {len(others)} more)" if others else ""
            raise InputError(f"{field}: {message}{more}".removeprefix(": ")) from error

    def to_json(self) -> bytes:
        """Return the canonical JSON text.

        Raises:
            InputError: a free-form value has no JSON form.
        """
        return encode(self.model_dump())

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Self:
        """Read the document from untrusted canonical JSON.

        Args:
            data: the text, already limited in size.
            where: what the text is, for messages.

        Raises:
            InputError: not canonical JSON, another format version, or a value that breaks a limit.
        """
        value = decode(data, where)
        if not isinstance(value, dict):
            raise InputError(f"{where} is not a JSON object")
        version = value.get("format")
        if isinstance(version, int) and version != FORMAT:
            raise InputError(
                f"{where} has format version {version}; this hyperline reads version {FORMAT}: "
                "use the hyperline that wrote the file, or a newer one"
            )
        try:
            document = cls(**value)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if document.to_json() != data:  # a default left out, or 1 spelled as "1", 1.0 or true
            raise InputError(f"{where} spells a value otherwise than hyperline writes it; export it again")
        return document
