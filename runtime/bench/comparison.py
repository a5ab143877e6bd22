"""Two models, engines or precisions, step beside step: how many times as fast is one, and how sure is that."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle import Bundle
from hyperline.environment import environment
from hyperline.errors import InputError
from hyperline.machine import cpus
from hyperline.runtime.bench.report import Comparison, Variant
from hyperline.runtime.bench.steps import stepper, take_turns
from hyperline.runtime.bench.times import percentiles
from hyperline.runtime.engines import load_engine, self_test

_RESAMPLES = 2000
_SEED = 0
_LEAST_PAIRS = 20


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a bundle, and how it is run."""

    bundle: Bundle
    engine: str
    precision: str
    threads: int | None = None


def compare(a: Side, b: Side, samples: int, seconds: float) -> Comparison:
    """Time steps of both in pairs; who goes first changes from pair to pair.

    Args:
        a: one side.
        b: the other.
        samples: cross-track samples of a line.
        seconds: how long to measure, both together.

    Raises:
        InputError: the two take other lines or name other classes; or so few pairs fit the time that no interval can be
            given.
        HyperlineError: an engine failed or its self-test did.
    """
    require_same_shape(a, b)
    loaded = []
    for side in (a, b):
        engine = load_engine(
            side.engine, side.bundle.model(side.precision), side.bundle.card, side.threads or cpus(), side.precision
        )
        self_test(engine, side.bundle.golden())
        loaded.append((side, engine))
    times = take_turns([stepper(engine, side.bundle, samples) for side, engine in loaded], seconds)
    first, second = (np.array(spent) for spent in times)
    if len(first) < _LEAST_PAIRS:
        raise InputError(
            f"{len(first)} pairs in {seconds:g} seconds say nothing about their scatter; ask for at least "
            f"{_LEAST_PAIRS}, about --seconds {math.ceil(1.5 * seconds * _LEAST_PAIRS / len(first))}"
        )
    low, high = ratio_interval(first, second)
    variants = [
        Variant(
            model=side.bundle.card.name,
            bundle_sha256=side.bundle.sha256,
            samples=samples,
            bands=side.bundle.card.bands,
            block_lines=side.bundle.card.block_lines,
            threads=engine.threads,
            engine=engine.name,
            precision=side.precision,
            native_ops=engine.native_ops,
            latency_ms=percentiles(spent),
        )
        for (side, engine), spent in zip(loaded, (first, second), strict=True)
    ]
    return Comparison(
        environment=environment(),
        a=variants[0],
        b=variants[1],
        pairs=len(first),
        ratio=float(np.median(first) / np.median(second)),
        interval=(low, high),
        faster="b" if low > 1 else "a" if high < 1 else None,
    )


def require_same_shape(a: Side, b: Side) -> None:
    """Refuse to compare what does not do the same work.

    Raises:
        InputError: another number of bands or lines of a block, or other classes; the message names them.
    """
    one, other = a.bundle.card, b.bundle.card
    facts = {
        "bands": (one.bands, other.bands),
        "lines of a block": (one.block_lines, other.block_lines),
        "classes": (len(one.class_names), len(other.class_names)),
        "multiple that samples are padded to": (one.sample_multiple, other.sample_multiple),
    }
    differing = [f"{name}: {left} and {right}" for name, (left, right) in facts.items() if left != right]
    if differing:
        raise InputError(
            f"{a.bundle.path} and {b.bundle.path} differ in shape ({'; '.join(differing)}): their times do not compare."
            " Export both for the same sensor and --block-lines, or measure them side by side without --compare"
        )


def ratio_interval(a: NDArray[np.float64], b: NDArray[np.float64], resamples: int = _RESAMPLES) -> tuple[float, float]:
    """Return a 95 % interval of median(a) / median(b) by a circular block bootstrap.

    Neighbouring pairs share what else the machine was doing, so runs of neighbours are drawn, not single pairs: of the
    square root of their number (Politis and Romano 1992).

    Args:
        a: (pair,) seconds.
        b: (pair,) seconds.
        resamples: draws.
    """
    pairs = len(a)
    length = max(1, round(math.sqrt(pairs)))
    generator = np.random.default_rng(_SEED)
    ratios = np.empty(resamples)
    for place in range(resamples):
        starts = generator.integers(0, pairs, -(-pairs // length))
        drawn = ((starts[:, None] + np.arange(length)) % pairs).reshape(-1)[:pairs]
        ratios[place] = np.median(a[drawn]) / np.median(b[drawn])
    low, high = np.percentile(ratios, (2.5, 97.5)).tolist()
    return low, high
