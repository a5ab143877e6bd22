"""The bench: every point of a sweep, by every path and pace that was asked for."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

from hyperline.bundle import Bundle
from hyperline.conditions import Conditions, read_conditions
from hyperline.environment import environment
from hyperline.errors import HyperlineError, InputError
from hyperline.machine import cpus
from hyperline.nvml import open_nvml
from hyperline.power import Found, PowerSampler
from hyperline.runtime.bench.energy import Meter, make_meter
from hyperline.runtime.bench.floor import measure_floor
from hyperline.runtime.bench.memory import device_bytes, peak_bytes, reset_peak, resident_bytes
from hyperline.runtime.bench.profile import profile_step
from hyperline.runtime.bench.report import Bench, Floor, Memory, Run
from hyperline.runtime.bench.runs import run_steps, run_whole_strip
from hyperline.runtime.bench.steps import real_block, timed
from hyperline.runtime.bench.times import BlockTimes, jitter, percentiles
from hyperline.runtime.engines import Engine, load_engine, self_test

MeasuredPath = Literal["step", "strip"]
Pace = Literal["flat-out", "sensor"]
# In this order: an engine alone is measured before the strip loads its own.
PATHS: tuple[MeasuredPath, ...] = get_args(MeasuredPath)
PACES: tuple[Pace, ...] = get_args(Pace)


@dataclass(frozen=True)
class Plan:
    """What to measure. Every combination of the first five is a point.

    Attributes:
        bundles: which say bands and lines of a block.
        samples, engines, precisions, threads: as `hyperline run` takes them; threads None: all CPUs.
        paths: the engine alone, or with source and sinks.
        paces: as fast as lines are taken, or at ``rate``.
        rate: lines a second of the sensor.
        seconds: of each run.
        warm_up: seconds at the start of each run that do not count.
        idle_seconds: for which the machine is watched with nothing to do; 0: do not measure power.
        floor: whether to measure the arithmetic floor.
        profile: whether to profile the first point.
        folder: where the maps go, in a temporary folder; None for the system's place.
    """

    bundles: tuple[Bundle, ...]
    samples: tuple[int, ...] = (1024,)
    engines: tuple[str, ...] = ("ort-cpu",)
    precisions: tuple[str, ...] = ("fp32",)
    threads: tuple[int | None, ...] = (None,)
    paths: tuple[MeasuredPath, ...] = PATHS
    paces: tuple[Pace, ...] = PACES
    rate: float = 330.0
    seconds: float = 10.0
    warm_up: float = 1.0
    idle_seconds: float = 5.0
    floor: bool = True
    profile: bool = False
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not all((self.bundles, self.samples, self.engines, self.precisions, self.threads, self.paths, self.paces)):
            raise InputError("nothing to measure: every list of the bench needs at least one entry")
        if min(self.samples) < 1 or not 0 < self.seconds < float("inf"):
            raise InputError(
                f"{min(self.samples)} samples for {self.seconds} seconds cannot be measured; ask for at least one of "
                "each"
            )
        if not 0 < self.rate < float("inf"):
            raise InputError(f"the rate must be a positive number of lines per second, not {self.rate}")
        if not 0 <= self.warm_up < float("inf") or not 0 <= self.idle_seconds < float("inf"):
            raise InputError("warm-up and idle seconds must not be negative")


@dataclass(frozen=True)
class _Point:
    bundle: Bundle
    samples: int
    engine: str
    precision: str
    threads: int

    def keys(self, engine: Engine) -> dict[str, Any]:
        card = self.bundle.card
        return {
            "model": card.name,
            "bundle_sha256": self.bundle.sha256,
            "samples": self.samples,
            "bands": card.bands,
            "block_lines": card.block_lines,
            "threads": engine.threads,
            "engine": engine.name,
            "precision": self.precision,
            "native_ops": engine.native_ops,
        }

    @property
    def name(self) -> str:
        return (
            f"{self.bundle.card.name}, {self.samples} samples, {self.engine} {self.precision}, {self.threads} threads"
        )


def run_bench(plan: Plan, say: Callable[[str], None] = lambda _: None, found: Found | None = None) -> Bench:
    """Measure.

    Args:
        plan: what.
        say: told what is measured now.
        found: power sensors; None: those of this machine.

    Raises:
        InputError: a bundle lacks a precision, or an engine is not there.
        HyperlineError: an engine failed, its self-test did, or a power sensor.
    """
    points = [
        _Point(bundle, samples, engine, precision, cpus() if threads is None else threads)
        for bundle, samples, engine, precision, threads in product(
            plan.bundles, plan.samples, plan.engines, plan.precisions, plan.threads
        )
    ]
    for point in points:
        point.bundle.model(point.precision)  # refused before anything is measured
    surroundings = environment()
    if plan.idle_seconds:
        say("the machine at rest")
    meter = make_meter(plan.engines, plan.idle_seconds, found)
    runs: list[Run] = []
    floors: list[Floor | None] = []
    profile = None
    for point in points:
        floor, more = _measure(point, plan, meter, say)
        floors.append(floor)
        runs += more
        if plan.profile and profile is None:
            say(f"{point.name}: profile")
            profile = profile_step(point.engine, point.bundle, point.samples, point.precision, point.threads)
    first = runs[0]
    keys = ("model", "bundle_sha256", "samples", "bands", "block_lines", "threads", "engine", "precision", "native_ops")
    return Bench(
        **{key: getattr(first, key) for key in keys},
        environment=surroundings,
        lines_per_second=first.lines_per_second,
        latency_ms=first.latency_ms,
        floor_ratio=floors[0].ratio if floors[0] else None,
        floor=floors[0],
        energy=first.energy,
        power=meter.power,
        runs=tuple(runs),
        floors=tuple(floors),
        profile=profile,
    )


def _measure(point: _Point, plan: Plan, meter: Meter, say: Callable[[str], None]) -> tuple[Floor | None, list[Run]]:
    """Measure one point; its engine is gone before the next one takes memory."""
    loaded = _Loaded(point, plan, meter, say)
    return loaded.floor(), list(loaded.runs())


class _Loaded:
    """One point, its engine loaded."""

    def __init__(self, point: _Point, plan: Plan, meter: Meter, say: Callable[[str], None]) -> None:
        self._point, self._plan, self._meter, self._say = point, plan, meter, say
        self._nvml = None if point.engine == "ort-cpu" else open_nvml()
        bundle = point.bundle
        self._model = bundle.model(point.precision)
        before = resident_bytes()
        start = time.perf_counter()
        engine = load_engine(point.engine, self._model, bundle.card, point.threads, point.precision)
        self._load_ms = 1e3 * (time.perf_counter() - start)
        self._engine_bytes = resident_bytes() - before
        self._engine: Engine | None = engine
        self._keys = point.keys(engine)
        self._block = real_block(bundle, point.samples)
        engine.reset(self._block.valid.shape[1])
        self._first_ms = 1e3 * timed(lambda: engine.step(self._block))
        self_test(engine, bundle.golden())

    def floor(self) -> Floor | None:
        if not self._plan.floor or self._point.engine != "ort-cpu":
            return None  # a GPU's rates are not the processor's
        self._say(f"{self._point.name}: arithmetic floor")
        assert self._engine is not None
        return measure_floor(self._engine, self._model, self._point.bundle, self._point.samples, self._plan.seconds / 2)

    def runs(self) -> Iterator[Run]:
        chosen: list[tuple[MeasuredPath, Pace]] = [
            (path, pace)
            for path, pace in product(PATHS, PACES)
            if path in self._plan.paths and pace in self._plan.paces
        ]
        for path, pace in chosen:
            rate = self._plan.rate if pace == "sensor" else None
            how = "with source and maps" if path == "strip" else "engine alone"
            self._say(f"{self._point.name}: {how}, {f'{rate:g} lines/s' if rate else 'flat out'}")
            yield self._step(rate) if path == "step" else self._strip(rate)

    def _step(self, rate: float | None) -> Run:
        engine = self._engine
        assert engine is not None
        engine.reset(self._block.valid.shape[1])
        before = read_conditions(nvml=self._nvml)
        reset_peak()
        with self._meter.sampler() as sampler:
            gc.collect()  # not in the middle of it
            times = run_steps(engine, self._block, self._plan.seconds + self._plan.warm_up, rate)
            return self._run("step", rate, times, sampler, before, 0, self._load_ms, self._first_ms)

    def _strip(self, rate: float | None) -> Run:
        self._engine = None  # the strip loads its own, and only one is to take memory
        point = self._point
        before = read_conditions(nvml=self._nvml)
        reset_peak()
        with self._meter.sampler() as sampler:
            flown = run_whole_strip(
                point.bundle,
                point.samples,
                self._plan.seconds + self._plan.warm_up,
                rate,
                engine=point.engine,
                precision=point.precision,
                threads=point.threads,
                folder=self._plan.folder,
            )
            summary = flown.summary
            if summary.interrupted:
                raise KeyboardInterrupt  # the strip took it for its end, and the bench is not over
            if summary.fallbacks or summary.reloads:
                raise HyperlineError(
                    f"{point.name}: the engine failed in flight, and what was measured is another one's speed too: "
                    f"{'; '.join(summary.failures)}"
                )
            return self._run("strip", rate, flown.times, sampler, before, summary.dropped, None, summary.first_block_ms)

    def _run(
        self,
        path: MeasuredPath,
        rate: float | None,
        times: BlockTimes,
        sampler: PowerSampler,
        before: Conditions,
        dropped: int,
        load_ms: float | None,
        first_ms: float | None,
    ) -> Run:
        memory = Memory(
            engine_bytes=self._engine_bytes,
            resident_bytes=resident_bytes(),
            peak_bytes=peak_bytes(),
            device_bytes=device_bytes(self._point.engine),
        )
        times = times.after(self._plan.warm_up)
        lines = int(times.lines.sum())
        deadline = self._point.bundle.card.block_lines / rate if rate else None
        return Run(
            **self._keys,
            path=path,
            rate=rate,
            seconds=times.seconds,
            blocks=len(times.lines),
            lines=lines,
            lines_per_second=lines / times.seconds,
            latency_ms=percentiles(times.latencies),
            line_latency_ms=None if times.line_latencies is None else percentiles(times.line_latencies),
            jitter_ms=jitter(times.latencies),
            deadline_ms=None if deadline is None else 1e3 * deadline,
            missed=0 if deadline is None else int((times.latencies > deadline).sum()),
            dropped=dropped,
            load_ms=load_ms,
            first_block_ms=first_ms,
            memory=memory,
            energy=self._meter.energy(sampler, times.started, times.ended, lines, self._point.samples),
            conditions={"before": asdict(before), "after": asdict(read_conditions(nvml=self._nvml))},
        )
