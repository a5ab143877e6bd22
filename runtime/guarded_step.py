"""One block through the engine that flies, with state, weights and answer guarded; or through the next that works."""

from __future__ import annotations

import numpy as np

from hyperline.errors import HyperlineError
from hyperline.runtime.blocks import Block
from hyperline.runtime.counters import Counters
from hyperline.runtime.engines import Outputs
from hyperline.runtime.engines.chain import EngineChain
from hyperline.runtime.guards import StateGuard

# A block that no engine can classify may be a flipped bit; so many in a row are not.
_MOST_FAILED_IN_A_ROW = 8
# Weights that are damaged again after so many repairs within one block lie in bad memory: the engine gets other memory.
_MOST_MENDED_IN_A_BLOCK = 2


class GuardedStep:
    """Classifies block after block of one strip."""

    def __init__(self, chain: EngineChain, guard: StateGuard | None, samples: int) -> None:
        """Take the engines.

        Args:
            chain: of engines, the first of which flies.
            guard: of the state, started with the one that the first block begins from; None for no guards at all.
            samples: of a (padded) line.
        """
        self._chain, self._guard, self._samples = chain, guard, samples
        self._failed_in_a_row = 0

    def classify(self, block: Block, counters: Counters) -> Outputs | None:
        """Classify on the engine that flies, or on the next that works; None where none can.

        Args:
            block: the next of the strip.
            counters: to which repairs of weights are added.

        Raises:
            HyperlineError: without guards the engine failed; with them, all did, or too many blocks in a row.
        """
        chain, guard = self._chain, self._guard
        if guard is None:
            return chain.engine.step(block)
        samples = self._samples
        mended, reloaded = 0, False
        while True:
            engine = chain.engine
            guard.check(engine)
            try:
                counters.weights_repaired += chain.mend_shapes()  # before they can end the process
                answer: Outputs | HyperlineError = engine.step(block)
            except HyperlineError as error:
                answer = error
            try:
                if chain.mend():  # they changed before the step or in it: what came out of it is not believed
                    counters.weights_repaired += 1
                    mended += 1
                    if mended > _MOST_MENDED_IN_A_BLOCK:
                        raise HyperlineError(f"the weights of {engine.name} were damaged {mended} times in one block")
                    engine.load_state(guard.latest.state)
                    continue
            except HyperlineError as error:
                if not reloaded and chain.reload(str(error), samples, guard.latest.state):
                    mended, reloaded = 0, True
                    continue
                raise
            if isinstance(answer, HyperlineError):
                if chain.fall_back(str(answer), samples, guard.latest.state):
                    continue
                raise answer
            if np.isfinite(answer.confidence).all() and guard.keep(engine.state):
                self._failed_in_a_row = 0
                return answer
            reason = f"{engine.name} gave an answer that is no number"
            if chain.fall_back(reason, samples, guard.latest.state):
                continue
            self._failed_in_a_row += 1
            if self._failed_in_a_row > _MOST_FAILED_IN_A_ROW:
                raise HyperlineError(f"{reason}, {self._failed_in_a_row} blocks in a row; verify the bundle")
            engine.load_state(guard.latest.state)
            return None
