"""A software bit-flip campaign: flip bits of what lies in memory between two blocks, and see what becomes of the strip.

    python bench/bitflips.py FILE.hlb SCENE --precision int8 --trials 1000

Every trial flies the scene, which is played from memory into memory, and between two blocks, drawn by its seed, flips
one bit, or one of each of several things, drawn likewise. Its labels are compared with those of a flight without flips:

    weights                 any constant of the graph, and the INT8 weights as the kernels read them
    state                   what one block hands to the next
    line                    one that waits in the ring
    weights and copy        a bit of either: the engine is loaded again
    weights, copy, bundle   and a bit of the bundle in memory: it is loaded again from the file
    state and copy          a bit of either: the state goes back by one block
    bundle file             nothing is flown: the file is opened
    weights, self-test      nothing is flown: the golden block is classified, with no other guard

The first three are flown without guards too. Trials run in a process of their own: one that dies is counted, and the
next goes on with the trial behind it. Prints a table. Flips within a step are not made, nor in what a step computes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timing import processor

from hyperline.bundle import Bundle, read_bundle
from hyperline.bundle.bundle import MODELS
from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.engines import Engine, Outputs, load_engine
from hyperline.runtime.engines.chain import EngineChain
from hyperline.runtime.flight import Flight, LoopOptions
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.state_copies import StateCopy
from hyperline.runtime.writer import Result
from hyperline.scenes import Scene, read_scene

GUARDED = (
    "weights",
    "state",
    "line",
    "weights and copy",
    "weights, copy, bundle",
    "state and copy",
    "bundle file",
    "weights, self-test",
)
UNGUARDED = GUARDED[:3]
OUTCOMES = (
    "repaired",
    "rolled back",
    "line rejected",
    "refused",
    "silent, labels changed",
    "silent, no label changed",
    "ended the strip",
    "ended the process",
)

Generator = np.random.Generator


@dataclass(frozen=True)
class Trial:
    """What came of one trial.

    Attributes:
        outcome: one of ``OUTCOMES``.
        pixels: of the map, whose label is not that of the flight without flips.
    """

    outcome: str
    pixels: int = 0


@dataclass
class Kept:
    """Takes the blocks as the writer does, into memory."""

    samples: int
    labels: list[NDArray[np.uint8]] = field(default_factory=list)

    def offer(self, outputs: Outputs | None, state: StateCopy, count: int, quicklook: None) -> Result:
        """Copy a block's labels; no class where no engine could classify it."""
        shape = (count, self.samples)
        labels = np.zeros(shape, np.uint8) if outputs is None else outputs.labels[:count, : self.samples].copy()
        return Result({"classes": labels}, count=count)

    def post(self, result: Result) -> None:
        """Keep it."""
        self.labels.append(result.images["classes"])


class Between:
    """Stands where the links do, which the loop calls behind every block: there it strikes, once."""

    def __init__(self, block: int, strike: Callable[[], None]) -> None:
        self._left, self._strike = block, strike

    def offer(self, *block: Any) -> None:
        """Nothing goes anywhere."""

    def observe(self, *totals: Any) -> None:
        """Count a block."""
        self._left -= 1
        if self._left == 0:
            self._strike()


def flip(data: NDArray[Any], generator: Generator) -> None:
    """Flip one bit of a contiguous array."""
    flat = data.reshape(-1).view(np.uint8)
    flat[generator.integers(flat.size)] ^= 1 << generator.integers(8)


class Campaign:
    """A strip that is flown again and again on one engine."""

    def __init__(self, bundle: Bundle, scene: Scene, precision: str, threads: int = 1) -> None:
        self._bundle, self._precision, self._threads = bundle, precision, threads
        self._source = SceneSource(replace(scene, labels=None))
        self._blocks = scene.lines // bundle.card.block_lines
        self._engine = self._load(bundle)
        self._pristine = [one.copy() for one in self._memory(self._engine)]
        self._clean, _, _ = self._fly(bundle, True, 0, lambda flight, chain: None)

    def _load(self, bundle: Bundle) -> Engine:
        intact = bundle.intact()
        return load_engine("ort-cpu", intact.model(self._precision), intact.card, self._threads, self._precision)

    @staticmethod
    def _memory(engine: Engine) -> list[NDArray[np.uint64]]:
        return [*engine.shapes, *engine.weights]

    def _fly(
        self, bundle: Bundle, guards: bool, block: int, strike: Callable[[Flight, EngineChain], None]
    ) -> tuple[NDArray[np.uint8], Flight, EngineChain]:
        engines = iter([self._engine])  # whatever is loaded after it comes from the bundle
        chain = EngineChain([("ort-cpu", lambda: next(engines, None) or self._load(bundle))], self._bundle.golden)
        between = Between(block, lambda: strike(flight, chain))
        flight = Flight(
            self._source,
            chain,
            bundle.card,
            LoopOptions(guards=guards, ring_lines=2 * bundle.card.block_lines, self_test_every=0),
            links=between,  # type: ignore[arg-type]
        )
        kept = Kept(self._source.samples)
        flight.fly(kept, threading.Event())  # type: ignore[arg-type]
        return np.concatenate(kept.labels), flight, chain

    def trial(self, target: str, guards: bool, seed: tuple[int, ...]) -> Trial:
        """Strike once, and classify what came of it."""
        generator = np.random.default_rng(seed)
        bundle = self._bundle
        if target == "bundle file":
            return self._open(generator)
        if target == "weights, self-test":
            return self._test(generator)
        if "bundle" in target:
            members = dict(bundle.members)
            name = MODELS[self._precision]
            data = np.frombuffer(members[name], np.uint8).copy()
            flip(data, generator)
            bundle = replace(bundle, members=MappingProxyType(members | {name: data.tobytes()}))

        def strike(flight: Flight, chain: EngineChain) -> None:
            for memory in self._places(target, flight, chain, generator):
                flip(memory, generator)

        block = int(generator.integers(2, self._blocks - 3))
        try:
            labels, flight, chain = self._fly(bundle, guards, block, strike)
        except HyperlineError:
            return Trial("ended the strip")
        finally:
            self._restore()
        changed = int(np.count_nonzero(labels != self._clean))
        counters = flight.counters
        if counters.state_rolled_back:
            return Trial("rolled back", changed)
        if counters.damaged:
            return Trial("line rejected", changed)
        if (counters.weights_repaired or counters.state_repaired or chain.reloads) and not changed:
            return Trial("repaired")
        return Trial("silent, labels changed" if changed else "silent, no label changed", changed)

    def _open(self, generator: Generator) -> Trial:
        data = np.fromfile(self._bundle.path, np.uint8)
        flip(data, generator)
        try:
            Bundle.from_bytes(data.tobytes(), self._bundle.path)
        except InputError:
            return Trial("refused")
        return Trial("silent, no label changed")

    def _test(self, generator: Generator) -> Trial:
        chain = EngineChain([("ort-cpu", lambda: self._engine)], self._bundle.golden)
        flip(self._weights(chain, generator)[0], generator)
        try:
            chain.test()
        except HyperlineError:
            return Trial("refused")
        finally:
            self._restore()
        return Trial("silent, no label changed")

    def _restore(self) -> None:
        for memory, pristine in zip(self._memory(self._engine), self._pristine, strict=True):
            np.copyto(memory, pristine)

    def _weights(self, chain: EngineChain, generator: Generator) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return a piece of the weights, drawn by its size, and its copy."""
        memory = self._memory(chain.engine)
        sizes = np.array([one.size for one in memory], float)
        number = int(generator.choice(len(memory), p=sizes / sizes.sum()))
        return memory[number], chain._flying.constants._copies[number]

    def _places(self, target: str, flight: Flight, chain: EngineChain, generator: Generator) -> Iterator[NDArray[Any]]:
        """Give the memory of which one bit is to flip. It reaches where nobody else may."""
        if target.startswith("weights"):
            weights, copy = self._weights(chain, generator)
            yield weights
            if "copy" in target:
                yield copy
        elif target.startswith("state"):
            yield chain.engine.state
            if "copy" in target:
                assert flight._guard is not None
                yield flight._guard.latest.state
        else:
            ring = flight.ring
            while not ring.waiting:
                time.sleep(1e-4)
            number = ring._ready[generator.integers(len(ring._ready))]
            yield ring._slots[number].values


def main() -> None:
    """Run the campaign, or, in the process of its trials, some of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("scene")
    parser.add_argument("--precision", choices=list(MODELS), default="fp32")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--no-guards", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.target:
        logging.disable()  # an engine that is loaded again says so, a thousand times
        campaign = Campaign(read_bundle(options.bundle), read_scene(options.scene), options.precision)
        for number in range(options.first, options.trials):
            seed = (options.seed, GUARDED.index(options.target), number)
            print(json.dumps(asdict(campaign.trial(options.target, not options.no_guards, seed))), flush=True)
        return
    rows = {(target, True): _batch(target, True, options) for target in GUARDED}
    rows |= {(target, False): _batch(target, False, options) for target in UNGUARDED}
    _print(rows, options)


def _batch(target: str, guards: bool, options: argparse.Namespace) -> list[Trial]:
    trials: list[Trial] = []
    while len(trials) < options.trials:
        command = [sys.executable, __file__, options.bundle, options.scene, "--precision", options.precision]
        command += ["--trials", str(options.trials), "--seed", str(options.seed)]
        command += ["--target", target, "--first", str(len(trials)), *([] if guards else ["--no-guards"])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        trials += [Trial(**json.loads(line)) for line in done.stdout.splitlines()]
        if done.returncode > 0:
            raise SystemExit(f"the trials on {target} failed: {' '.join(command)}")
        if done.returncode:
            trials.append(Trial("ended the process"))
    return trials


def _print(rows: dict[tuple[str, bool], list[Trial]], options: argparse.Namespace) -> None:
    print(
        f"{Path(options.bundle).name} on {options.scene}, {options.precision}, {options.trials} trials a row, "
        f"seed {options.seed}; {processor()}, {os.cpu_count()} cores\n"
    )
    met = [one for one in OUTCOMES if any(trial.outcome == one for trials in rows.values() for trial in trials)]
    print(f"| flipped | guards | {' | '.join(met)} | pixels with another label: mean, most |")
    print("|---" * (3 + len(met)) + "|")
    for (target, guards), trials in rows.items():
        counts = Counter(trial.outcome for trial in trials)
        pixels = [trial.pixels for trial in trials]
        cells = [str(counts[one] or "") for one in met]
        print(
            f"| {target} | {'on' if guards else 'off'} | {' | '.join(cells)} | {np.mean(pixels):.1f}, {max(pixels)} |"
        )


if __name__ == "__main__":
    main()
