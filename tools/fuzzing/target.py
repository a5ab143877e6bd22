"""What a target of the fuzzer is: it damages inputs, and judges what the product makes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from hyperline.errors import HyperlineError

Read = TypeVar("Read")
MOST_CHARACTERS = 1000


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        done: what was done to it, a name for each damage; empty for an original.
        files: its bytes by name.
    """

    done: tuple[str, ...]
    files: Mapping[str, bytes]


class Target(ABC):
    """A part of the product that reads what may be damaged or hostile.

    Attributes:
        name: on the command line.
        accepted: the outcome of an original.
    """

    name: str
    accepted: str

    def __init__(self, folder: Path) -> None:
        """Prepare the originals.

        Args:
            folder: an empty one, in memory where the machine has such a place; the cases' files go there.
        """
        self.folder = folder

    @abstractmethod
    def originals(self) -> Iterator[Case]:
        """Give the inputs that are damaged, each as it is."""

    @abstractmethod
    def make(self, random: Random) -> Case:
        """Damage an input; the same numbers give the same case."""

    @abstractmethod
    def check(self, case: Case) -> str:
        """Read a case and say in a word what came of it.

        Raises:
            Exception: a finding, whatever its type.
        """

    def put(self, case: Case) -> None:
        """Make the case's files the only ones in the folder."""
        for path in self.folder.iterdir():
            path.unlink()
        for name, data in case.files.items():
            (self.folder / name).write_bytes(data)


@dataclass(frozen=True)
class Refusal:
    """The one error with which an input was refused."""

    message: str


def attempt(read: Callable[[], Read]) -> Read | Refusal:
    """Return what was read, or that it was refused as it should be: by one error that a person can use.

    Raises:
        AssertionError: the error has no message, or one that is long, has several lines or would drive a terminal.
        MemoryError: an allocation beyond the limit, though an error hides it.
    """
    try:
        return read()
    except HyperlineError as error:
        message = str(error)
        assert message.strip(), "refused without a message"
        assert message.isprintable(), f"the message holds a control character: {message!a}"
        assert len(message) <= MOST_CHARACTERS, f"a message of {len(message)} characters: {message[:200]}"
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        return Refusal(message)
