"""Engines in order of preference: when one fails, the next goes on with the same strip."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import HyperlineError
from hyperline.runtime.engines.engine import Engine, self_test

_LOG = logging.getLogger(__name__)

Load = Callable[[], Engine]


class EngineChain:
    """The engine that flies, and those that would take over.

    Attributes:
        engine: the one that flies.
        fallbacks: how often the next had to take over.
        failures: what each failed engine said, oldest first.
    """

    def __init__(self, loaders: Sequence[tuple[str, Load]], golden: Mapping[str, NDArray[Any]]) -> None:
        """Load the first engine that passes the self-test.

        Args:
            loaders: name and loader of each engine, the preferred first. Later ones are loaded when they are needed.
            golden: the golden block that every engine is tested on before it flies.

        Raises:
            HyperlineError: the first engine cannot be loaded or fails its test: what a user asked for is not swapped
                before the flight.
        """
        self._waiting = list(loaders)
        self._golden = golden
        self.fallbacks = 0
        self.failures: list[str] = []
        self.engine = self._next()

    def _next(self) -> Engine:
        name, load = self._waiting.pop(0)
        engine = load()
        self_test(engine, self._golden)
        _LOG.info("%s passed its self-test", name)
        return engine

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
            name = self._waiting[0][0]
            try:
                engine = self._next()
                engine.reset(samples)
                engine.load_state(state)
            except HyperlineError as error:
                self.failures.append(f"{name}: {error}")
                _LOG.warning("%s cannot take over: %s", name, error)
                continue
            self.engine = engine
            self.fallbacks += 1
            return True
        return False
