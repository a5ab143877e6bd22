"""Engines in order of preference: when one fails, it is loaded again, or the next goes on with the same strip."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import HyperlineError
from hyperline.runtime.engines.engine import Engine, Outputs, self_test
from hyperline.runtime.guards import MemoryGuard

_LOG = logging.getLogger(__name__)

Load = Callable[[], Engine]
Golden = Callable[[], Mapping[str, NDArray[Any]]]


class _Tested:
    """An engine that has passed its self-test, and what must stay as it was then."""

    def __init__(self, name: str, load: Load, golden: Mapping[str, NDArray[Any]]) -> None:
        self.name, self.load = name, load
        self.engine = load()
        self.constants = MemoryGuard((*self.engine.shapes, *self.engine.weights))
        self.golden = {key: array.copy() for key, array in golden.items()}
        self.answer = self_test(self.engine, self.golden).copy()
        _LOG.info("%s passed its self-test", name)


class EngineChain:
    """The engine that flies, and those that would take over.

    Attributes:
        fallbacks: how often the next had to take over.
        reloads: how often the same engine was loaded again.
        failures: what each failed engine said, oldest first.
    """

    def __init__(self, loaders: Sequence[tuple[str, Load]], golden: Golden) -> None:
        """Load the first engine that passes the self-test.

        Args:
            loaders: name and loader of each engine, the preferred first. Later ones are loaded when they are needed.
            golden: gives the golden block that every engine is tested on before it flies.

        Raises:
            HyperlineError: the first engine cannot be loaded or fails its test: what a user asked for is not swapped
                before the flight.
        """
        self._golden = golden
        self.fallbacks = self.reloads = 0
        self.failures: list[str] = []
        (name, load), *self._waiting = loaders
        self._flying = _Tested(name, load, golden())

    @property
    def engine(self) -> Engine:
        """The engine that flies."""
        return self._flying.engine

    @property
    def answer(self) -> Outputs:
        """What the engine that flies said of the golden block before it flew."""
        return self._flying.answer

    def mend_shapes(self) -> bool:
        """Put back what has changed of the whole numbers among the engine's constants; see `MemoryGuard.mend`."""
        return self._flying.constants.mend(len(self.engine.shapes))

    def mend(self) -> bool:
        """Put back what has changed of all the engine's constants; see `MemoryGuard.mend`."""
        return self._flying.constants.mend()

    def test(self) -> None:
        """Test the engine on the golden block, between two blocks of the strip.

        Raises:
            HyperlineError: it fails as `self_test` says, or an engine that repeats itself to the bit did not.
        """
        flying = self._flying
        logits = self_test(flying.engine, flying.golden).logits
        changed = np.count_nonzero(logits.view(np.uint32) != flying.answer.logits.view(np.uint32))
        if flying.engine.repeats and changed:
            raise HyperlineError(
                f"{flying.name} answers the golden block otherwise than before the flight: {changed} of {logits.size} "
                "logits differ"
            )

    def reload(self, reason: str, samples: int, state: NDArray[np.float32]) -> bool:
        """Load the engine that flies once more, from the bundle, or go on with the next; see `fall_back`."""
        self._waiting.insert(0, (self._flying.name, self._flying.load))
        return self.fall_back(reason, samples, state)

    def fall_back(self, reason: str, samples: int, state: NDArray[np.float32]) -> bool:
        """Go on with the next engine that works.

        Args:
            reason: why this one cannot.
            samples: of a (padded) line.
            state: to go on from.

        Returns:
            False where none is left; the engine is then the one it was.
        """
        self.failures.append(reason)
        _LOG.warning("%s fails: %s", self.engine.name, reason)
        while self._waiting:
            name, load = self._waiting.pop(0)
            try:
                tested = _Tested(name, load, self._golden())
                tested.engine.reset(samples)
                tested.engine.load_state(state)
            except HyperlineError as error:
                self.failures.append(f"{name}: {error}")
                _LOG.warning("%s cannot take over: %s", name, error)
                continue
            if load is self._flying.load:
                self.reloads += 1
            else:
                self.fallbacks += 1
            self._flying = tested
            return True
        return False
