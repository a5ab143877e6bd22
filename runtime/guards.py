"""Guards against flipped bits: of the carried state, of memory that nothing changes, of answers that are no numbers.

A bit that flips in the carried state would stay visible for thousands of lines. So the state is folded into one word
after every block and compared before the next; a copy of it, and one of the block before, stand ready to go back to.
One that flips in the weights would stay for ever. They are compared after every block, before its answer is believed,
and mended from a copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import HyperlineError
from hyperline.plugins.native import installed_library
from hyperline.runtime.engines import Engine
from hyperline.runtime.ring import parity
from hyperline.runtime.state_copies import StateCopies, StateCopy


class MemoryGuard:
    """Memory that nothing should change, a copy of it, and the words that tell which of the two has changed."""

    def __init__(self, memory: Sequence[NDArray[np.uint64]]) -> None:
        """Take the memory as it is now.

        Args:
            memory: contiguous arrays, each the memory itself.
        """
        self._memory = _Pieces(memory)
        self._copies = [one.copy() for one in memory]
        self._words = self._memory.words().copy()

    def mend(self, pieces: int | None = None) -> bool:
        """Compare the memory with what was taken, and put back what has changed.

        Args:
            pieces: look at so many of the first arrays alone.

        Returns:
            Whether something had.

        Raises:
            HyperlineError: it is damaged, and so is its copy.
        """
        changed = np.flatnonzero(self._memory.words(pieces) != self._words[:pieces])
        for number in changed.tolist():
            memory, copy = self._memory.arrays[number], self._copies[number]
            if parity(copy) == self._words[number]:
                np.copyto(memory, copy)
            elif np.array_equal(memory, copy):  # the word itself is what changed
                self._words[number] = parity(copy)
            else:
                raise HyperlineError("the weights in memory and their copy are both damaged")
        return bool(changed.size)


class _Pieces:
    """Pieces of memory that are folded in one call, each into a word of its own."""

    def __init__(self, arrays: Sequence[NDArray[np.uint64]]) -> None:
        self.arrays = list(arrays)
        self._words = np.zeros(len(self.arrays), np.uint64)
        library = installed_library()
        self._fold = library.folder(self.arrays, self._words) if library is not None else self._fold_each

    def words(self, count: int | None = None) -> NDArray[np.uint64]:
        """Return the `parity` of each of the first ``count`` pieces, or of all; it holds until the next call."""
        count = len(self.arrays) if count is None else count
        self._fold(count)
        return self._words[:count]

    def _fold_each(self, count: int) -> None:
        self._words[:count] = [parity(one) for one in self.arrays[:count]]


class StateGuard:
    """A two-deep copy of an engine's state, and the words that tell whether either has changed.

    Attributes:
        repaired: times that the state was damaged and its own copy was intact: nothing was lost.
        rolled_back: times that the copy was damaged too, and the state of the block before was taken.
    """

    COPIES = 3  # that it holds at once: of the latest state, of the one before, and one that is being made

    def __init__(self, copies: StateCopies) -> None:
        """Begin without a state; see `start`.

        Args:
            copies: of which `COPIES` are for the guard.
        """
        self.repaired = self.rolled_back = 0
        self._memory = copies
        self._copies: list[StateCopy] = []  # the latest first

    def start(self, state: NDArray[np.float32]) -> None:
        """Take the state of a strip's start, or of a resumed one."""
        while self._copies:
            self._copies.pop().release()
        for _ in "AB":
            copy = self._memory.take()
            np.copyto(copy.state, state)
            copy.word = parity(state)
            self._copies.append(copy)

    def keep(self, state: NDArray[np.float32]) -> bool:
        """Take the state after a block, if it holds numbers alone.

        Returns:
            Whether it does. Otherwise the latest stays.
        """
        copy = self._memory.take()
        copy.word, finite = _copy(state, copy.state)
        if not finite:
            copy.release()
            return False
        self._copies[1].release()
        self._copies = [copy, self._copies[0]]
        return True

    @property
    def latest(self) -> StateCopy:
        """The copy of the latest state, intact when it was made."""
        return self._copies[0]

    def check(self, engine: Engine) -> None:
        """Compare the state that the next step starts from with what was kept, and mend it.

        Raises:
            HyperlineError: it is damaged, and so are both copies.
        """
        latest, before = self._copies
        if _word(engine.state) == latest.word:
            return
        if parity(latest.state) == latest.word:
            engine.load_state(latest.state)
            self.repaired += 1
        elif parity(before.state) == before.word:
            engine.load_state(before.state)
            self.rolled_back += 1
            copy = self._memory.take()  # the damaged one may be on its way to the disk: it is let go, not changed
            np.copyto(copy.state, before.state)
            copy.word = before.word
            latest.release()
            self._copies[0] = copy
        else:
            raise HyperlineError("the carried state and both of its copies are damaged; start a new strip")


def _word(state: NDArray[np.float32]) -> int:
    """Return the `parity` of a state."""
    library = installed_library()
    return library.fold(state) if library is not None else parity(state)


def _copy(state: NDArray[np.float32], to: NDArray[np.float32]) -> tuple[int, bool]:
    """Copy a state; return its `parity`, and whether it holds numbers alone.

    One pass over memory where our library is. Elsewhere the sum of the state's squares tells: it overflows only beyond
    10^19, which no intact state comes near.
    """
    library = installed_library()
    if library is not None:
        return library.copy_and_look(state, to)
    np.copyto(to, state)
    with np.errstate(over="ignore", invalid="ignore"):
        return parity(to), bool(np.isfinite(np.dot(state, state)))
