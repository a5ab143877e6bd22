"""The timed runs: the engine alone, and everything that flies."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hyperline.bundle import Bundle
from hyperline.errors import HyperlineError
from hyperline.runtime.bench.source import MadeUpSource
from hyperline.runtime.bench.times import BlockTimes
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import Engine
from hyperline.runtime.strip import RunSummary, run_strip
from hyperline.runtime.writer import Result


def run_steps(engine: Engine, block: Block, seconds: float, rate: float | None = None) -> BlockTimes:
    """Classify one block again and again.

    Args:
        engine: that was reset for the block's width.
        block: a full one.
        seconds: how long.
        rate: lines a second at which blocks come, as a sensor's would: a block is there when its last line is. A block
            that comes while the engine is busy waits. None: one after the other.

    Returns:
        The times of all blocks.
    """
    count = block.count
    arrived: list[float] = []
    done: list[float] = []
    clock, step = time.perf_counter, engine.step
    start = clock()
    if rate is None:
        end = start + seconds
        while True:
            arrived.append(clock())
            step(block)
            done.append(clock())
            if done[-1] >= end:
                break
    else:
        for number in range(1, max(1, round(seconds * rate / count)) + 1):
            due = start + (number * count - 1) / rate
            early = due - clock()
            if early > 0:
                time.sleep(early)
            arrived.append(due)
            step(block)
            done.append(clock())
            if done[-1] > start + 2 * seconds:
                break  # hopelessly behind: twice the time was enough to see it
    ends = np.array(done)
    latencies = None
    if rate is not None:
        own = start + np.arange(len(done) * count) / rate  # of each line
        latencies = np.repeat(ends, count) - own
    return BlockTimes(np.array(arrived), ends, np.full(len(done), count), latencies, start)


@dataclass(frozen=True)
class Flown:
    """A strip that was flown for its times.

    Attributes:
        times: of its blocks.
        summary: of the run.
    """

    times: BlockTimes
    summary: RunSummary


def run_whole_strip(
    bundle: Bundle,
    samples: int,
    seconds: float,
    rate: float | None,
    *,
    engine: str,
    precision: str,
    threads: int | None,
    folder: Path | None = None,
) -> Flown:
    """Fly a made-up strip through everything that flies, its maps in a temporary folder.

    Args:
        bundle: the model.
        samples: of a line.
        seconds: how long lines come.
        rate: lines a second; None for as fast as they are taken.
        engine: a key of ``ENGINES``.
        precision: which of the bundle's models.
        threads: threads of the engine.
        folder: where the temporary folder is made; None for the system's place. It decides which disk is measured.

    Raises:
        HyperlineError: the engine failed, or no block was classified.
    """
    source = MadeUpSource(bundle, samples, seconds, rate)
    blocks: list[tuple[float, float, int, int]] = []  # arrived, written, index behind the last line, lines that count

    def note(result: Result, written: float) -> None:
        blocks.append((result.arrived, written, result.next_index, result.usable))

    with tempfile.TemporaryDirectory(prefix="hyperline-bench-", dir=folder) as out:
        summary = run_strip(
            bundle,
            source,
            Path(out) / "strip",
            engine=engine,
            precision=precision,
            threads=threads,
            on_written=note,
        )
    counted = [one for one in blocks if one[3]]
    if not counted:
        raise HyperlineError(
            f"no block of {samples} samples was classified in {seconds:g} seconds: {summary.dropped} lines dropped; "
            "measure for longer, or at a lower --rate"
        )
    arrived, written, indices, usable = (np.array(column) for column in zip(*counted, strict=True))
    latencies = None
    if rate is not None:
        # A line that was lost or dropped has no label: the last of a block are taken to be those that have one.
        own = np.concatenate(
            [np.arange(end - lines, end) for end, lines in zip(indices.tolist(), usable.tolist(), strict=True)]
        )
        latencies = np.repeat(written, usable) - (source.started + own / rate)
    return Flown(BlockTimes(arrived, written, usable, latencies, source.started), summary)
