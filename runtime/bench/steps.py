"""One block, classified again and again: what every measurement of an engine alone repeats."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from hyperline.bundle import Bundle
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import Engine, Outputs


def real_block(bundle: Bundle, samples: int) -> Block:
    """Return a block of real lines: the golden block's, side by side to ``samples`` and padded as a run would."""
    golden = bundle.golden()
    padded = -(-samples // bundle.card.sample_multiple) * bundle.card.sample_multiple
    columns = np.arange(padded) % golden["valid"].shape[1]
    valid = np.ascontiguousarray(golden["valid"][:, columns])
    valid[:, samples:] = False
    lines = np.where(valid[..., None], golden["lines"][:, columns], np.float32(0))
    return Block(np.ascontiguousarray(lines), valid, len(lines))


def stepper(engine: Engine, bundle: Bundle, samples: int) -> Callable[[], Outputs]:
    """Start a strip, and return what classifies one block of it."""
    block = real_block(bundle, samples)
    engine.reset(block.valid.shape[1])
    return lambda: engine.step(block)


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def take_turns(runs: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Time several things in turns, so that what else the machine does falls on all of them.

    Who goes first changes from round to round: whoever goes first finds the caches as the last of all left them.

    Returns:
        The seconds of every call, a list for each of ``runs``.
    """
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    spent = 0.0
    order = list(range(len(runs)))
    while spent < seconds or not times[0]:
        for place in order:
            one = timed(runs[place])
            times[place].append(one)
            spent += one
        order.reverse()
    return times
