"""Guards against flipped bits: of the carried state, of memory that nothing changes, of answers that are no numbers.

A bit that flips in the carried state would stay visible for thousands of lines. So the state is folded into one word
after every block and compared before the next; a copy of it, and one of the block before, stand ready to go back to.
One that flips in the weights would stay for ever. They are compared after every block, before its answer is believed,
and mended from a copy.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import HyperlineError
from hyperline.plugins.native import NativeLibrary
from hyperline.runtime.engines import Engine
from hyperline.runtime.ring import parity


class MemoryGuard:
    """Memory that nothing should change, a copy of it, and the words that tell which of the two has changed."""

    def __init__(self, memory: Sequence[NDArray[np.uint64]]) -> None:
        """Take the memory as it is now.

        Args:
            memory: contiguous arrays, each the memory itself.
        """
        self._memory = memory
        self._copies = [one.copy() for one in memory]
        self._words = [_word(one) for one in memory]

    def mend(self) -> bool:
        """Compare the memory with what was taken, and put back what has changed.

        Returns:
            Whether something had.

        Raises:
            HyperlineError: it is damaged, and so is its copy.
        """
        damaged = False
        for number, (memory, word) in enumerate(zip(self._memory, self._words, strict=True)):
            if _word(memory) == word:
                continue
            copy = self._copies[number]
            if _word(copy) == word:
                np.copyto(memory, copy)
            elif np.array_equal(memory, copy):  # the word itself is what changed
                self._words[number] = _word(copy)
            else:
                raise HyperlineError("the weights in memory and their copy are both damaged")
            damaged = True
        return damaged


def _word(memory: NDArray[np.uint64]) -> int:
    """Fold memory into one word, as `parity` does."""
    return int(np.bitwise_xor.reduce(memory))


class StateGuard:
    """A two-deep copy of an engine's state, and the words that tell whether either has changed.

    Attributes:
        repaired: times that the state was damaged and its own copy was intact: nothing was lost.
        rolled_back: times that the copy was damaged too, and the state of the block before was taken.
    """

    def __init__(self) -> None:
        self.repaired = self.rolled_back = 0
        self._copies: list[NDArray[np.float32]] = []
        self._words: list[int] = []

    def start(self, state: NDArray[np.float32]) -> None:
        """Take the state of a strip's start, or of a resumed one."""
        if not self._copies or self._copies[0].size != state.size:
            self._copies = [np.empty_like(state) for _ in "AB"]
        for copy in self._copies:  # a strip that begins anew allocates nothing
            np.copyto(copy, state)
        self._words = [parity(state)] * 2

    def keep(self, state: NDArray[np.float32]) -> bool:
        """Take the state after a block, if it holds numbers alone.

        Returns:
            Whether it does. Otherwise the latest stays, and the one before it is gone.
        """
        word, finite = _copy(state, self._copies[1])
        if not finite:
            self._copies[1][...] = self._copies[0]
            self._words[1] = self._words[0]
            return False
        self._words[1] = word
        self._copies.reverse()
        self._words.reverse()
        return True

    @property
    def latest(self) -> NDArray[np.float32]:
        """The copy of the latest state, intact when it was made."""
        return self._copies[0]

    def check(self, engine: Engine) -> None:
        """Compare the state that the next step starts from with what was kept, and mend it.

        Raises:
            HyperlineError: it is damaged, and so are both copies.
        """
        if parity(engine.state) == self._words[0]:
            return
        for age, (copy, word) in enumerate(zip(self._copies, self._words, strict=True)):
            if parity(copy) == word:
                engine.load_state(copy)
                if age == 0:
                    self.repaired += 1
                else:
                    self.rolled_back += 1
                    self._words[0] = word
                    np.copyto(self._copies[0], copy)
                return
        raise HyperlineError("the carried state and both of its copies are damaged; start a new strip")


def _copy(state: NDArray[np.float32], to: NDArray[np.float32]) -> tuple[int, bool]:
    """Copy a state; return its `parity`, and whether it holds numbers alone.

    One pass over memory where our library is. Elsewhere the sum of the state's squares tells: it overflows only beyond
    10^19, which no intact state comes near.
    """
    library = _library()
    if library is not None:
        return library.copy_and_look(state, to)
    np.copyto(to, state)
    with np.errstate(over="ignore", invalid="ignore"):
        return parity(to), bool(np.isfinite(np.dot(state, state)))


@functools.cache
def _library() -> NativeLibrary | None:
    try:
        return NativeLibrary()
    except HyperlineError:  # whoever loads the engine says so
        return None
