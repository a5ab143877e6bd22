"""What a bench says, key by key; docs/bench.schema.json is made of this, and docs/bench.md explains it.

The version in ``schema`` grows with every key that goes away or changes its meaning; new keys may come at any time.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Record(BaseModel):
    """A frozen record without NaN or infinity. Who reads it must expect keys that are newer than what they know."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True)


class Percentiles(Record):
    """Milliseconds, of all values."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float


class Jitter(Record):
    """How far a block's latency is from that of the block before, in milliseconds."""

    mean: float
    p99: float


class Memory(Record):
    """Bytes.

    Attributes:
        engine_bytes: by which resident memory grew as the engine was loaded.
        resident_bytes: of the process at the end of the run.
        peak_bytes: most that it was in the run.
        device_bytes: that the process holds on GPUs; None without one, or where the driver does not say.
    """

    engine_bytes: int
    resident_bytes: Count
    peak_bytes: Count
    device_bytes: Count | None


class Energy(Record):
    """What the sensors saw in a run.

    Attributes:
        source: kinds of sensors.
        covers: what their sum is the power of.
        watts: mean power in the run, ``idle_watts``: before it, with nothing to do.
        joules_per_line: (watts - idle_watts) × seconds / lines; None where the run draws no more than idling does.
        joules_per_pixel: of each classified pixel.
        joules_per_line_with_idle: watts × seconds / lines: what a battery gives.
        rails: mean watts of everything measured; some are parts of others.
        readings: of the sensors in the run.
        failed_readings: that they did not give.
        sampling_share: processor time of the sampling, as a share of the run's time.
    """

    source: str
    covers: str
    watts: float
    idle_watts: float
    joules_per_line: float | None
    joules_per_pixel: float | None
    joules_per_line_with_idle: float
    rails: dict[str, float]
    readings: Count
    failed_readings: Count
    sampling_share: float


class Floor(Record):
    """What the arithmetic of a block takes at the rates of this machine, measured between steps of the same engine.

    Attributes:
        multiply_adds: of the network's matrix products and convolutions, a block.
        state_updates: of its scans, a block.
        gflops: rate of a large matrix product, 10^9 floating point operations a second.
        scan_gupdates: rate of a large scan, 10^9 state updates a second.
        ms: the two together.
        step_ms: median step measured between them.
        ratio: step_ms / ms.
    """

    multiply_adds: Count
    state_updates: Count
    gflops: float
    scan_gupdates: float
    ms: float
    step_ms: float
    ratio: float


class Point(Record):
    """What is measured: a point of the sweep.

    Attributes:
        model: name of the bundle's model.
        bundle_sha256: of the bundle.
        samples, bands, block_lines, threads: sizes.
        engine, precision: as `hyperline run` takes them.
        native_ops: whether hyperline's operators ran as compiled kernels.
    """

    model: str
    bundle_sha256: str
    samples: Count
    bands: Count
    block_lines: Count
    threads: Count
    engine: str
    precision: str
    native_ops: bool


class Run(Point):
    """One timed run of one point.

    Attributes:
        path: ``step``, the engine alone on a block in memory; ``strip``, everything that flies: source, ring,
            radiometry, engine, guards, maps, log and checkpoints.
        rate: lines a second at which the lines came; None: as fast as they were taken.
        seconds, blocks, lines: measured, warm-up left out.
        lines_per_second: lines / seconds.
        latency_ms: of blocks: from the last line of a block to its labels (``strip``: in the maps).
        line_latency_ms: of lines: from each line's own arrival to its label; None where lines do not arrive at a pace.
        jitter_ms: None of fewer than two blocks.
        deadline_ms: time in which a block arrives; None without a rate.
        missed: blocks whose labels came later than that.
        dropped: lines that came and were not classified, because the engine did not keep up.
        load_ms: to load the engine; its self-test is not in it.
        first_block_ms: ``step``: the first step after loading; ``strip``: from the first line to its labels in the map.
        memory, energy: see there; ``energy`` is None without a sensor.
        conditions: ``before`` and ``after``: `hyperline.conditions.Conditions`.
    """

    path: Literal["step", "strip"]
    rate: Positive | None
    seconds: Positive
    blocks: Count
    lines: Count
    lines_per_second: Positive
    latency_ms: Percentiles
    line_latency_ms: Percentiles | None
    jitter_ms: Jitter | None
    deadline_ms: Positive | None
    missed: Count
    dropped: Count
    load_ms: Positive | None
    first_block_ms: Positive | None
    memory: Memory
    energy: Energy | None
    conditions: dict[Literal["before", "after"], dict[str, Any]]


class Operator(Record):
    """One row of a profile.

    Attributes:
        name: operator, or layer.
        nodes: of the graph that it stands for.
        ms: median time of each node, added up.
        share: of all nodes' time.
    """

    name: str
    nodes: Count
    ms: float
    share: float


class Profile(Record):
    """Where the time of a step goes, by ONNX Runtime's own profiler, in a pass of its own: it slows every node.

    Attributes:
        blocks: profiled.
        nodes: of the graph.
        ms: of all nodes.
        operators: by kind, the most expensive first.
        layers: by the layer that nodes were exported from, the most expensive first; the first 20.
    """

    blocks: Count
    nodes: Count
    ms: float
    operators: tuple[Operator, ...]
    layers: tuple[Operator, ...]


class Bench(Point):
    """``hyperline bench --json``. The keys of `Point`, and those of its latencies, are of the first run.

    Attributes:
        schema_: names this layout.
        environment: `hyperline.environment.environment`.
        lines_per_second, latency_ms, energy: of the first run.
        floor_ratio: of the first point; None where there is no floor.
        floor: None where the bundle does not say its arithmetic, or no native scan is there to measure.
        power: which sensors were used, and why others could not be.
        runs: all.
        floors: of each point, in the order of the sweep.
        profile: of the first point, where it was asked for.
    """

    schema_: Literal["hyperline.bench/1"] = Field(default="hyperline.bench/1", alias="schema")
    environment: dict[str, Any]
    lines_per_second: Positive
    latency_ms: Percentiles
    floor_ratio: float | None
    floor: Floor | None
    energy: Energy | None
    power: Power
    runs: tuple[Run, ...]
    floors: tuple[Floor | None, ...]
    profile: Profile | None


class Power(Record):
    """Power sensors.

    Attributes:
        asked: whether power was to be measured.
        sensors: that were read, by kind; empty, though asked for: no power sensor.
        idle_seconds: for which the machine was watched with nothing to do.
        problems: what is there and could not be used, with what to do.
    """

    asked: bool
    sensors: tuple[str, ...]
    idle_seconds: float
    problems: tuple[str, ...]


class Variant(Point):
    """One side of a comparison.

    Attributes:
        latency_ms: of its steps.
    """

    latency_ms: Percentiles


class Comparison(Record):
    """``hyperline bench --compare --json``.

    Attributes:
        schema_: names this layout.
        environment: `hyperline.environment.environment`.
        a, b: the two sides.
        pairs: steps of each, one beside the other.
        ratio: median time of a step of a / of b: how many times as fast b is.
        interval: 95 % interval of that ratio, by a bootstrap over runs of neighbouring pairs.
        faster: ``a`` or ``b``; None where the interval holds 1.
    """

    schema_: Literal["hyperline.bench.compare/1"] = Field(default="hyperline.bench.compare/1", alias="schema")
    environment: dict[str, Any]
    a: Variant
    b: Variant
    pairs: Count
    ratio: Positive
    interval: tuple[Positive, Positive]
    faster: Literal["a", "b"] | None


Bench.model_rebuild()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of everything that the command prints."""
    either: TypeAdapter[Bench | Comparison] = TypeAdapter(Bench | Comparison)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What hyperline bench --json prints",
        **either.json_schema(by_alias=True, mode="serialization"),
    }
