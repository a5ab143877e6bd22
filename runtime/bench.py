"""How fast is a step here, and how far from the arithmetic that it cannot do without.

The floor is measured in the same run, between the steps: the time of the network's multiply-adds at the rate of a
large matrix product in onnxruntime, and of its state updates at the rate of a large scan, with the same threads. What
the machine loses to other work it so loses on both sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime

from hyperline.bundle import Bundle
from hyperline.errors import HyperlineError, InputError
from hyperline.plugins.native import NativeLibrary, scan_inputs
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import Engine, Outputs, load_engine, self_test

# A product whose operands stay in cache, of the shapes of the network's own: rows are pixels.
_PRODUCT = (2048, 256, 256)
# The scan of a scale: sequences, steps, channels, states; steps of 0 to 0.1.
_SCAN = (1024, 8, 16, 16)
# Enough rounds for a 99.9th percentile to be more than the worst; each round measures all three rates.
_STEPS_A_ROUND = 5


@dataclass(frozen=True)
class BlockLatency:
    """Time of a block's step in milliseconds: from the block in memory to its labels in memory."""

    p50: float
    p99: float
    p999: float
    max: float


@dataclass(frozen=True)
class Floor:
    """What the arithmetic of a block takes at the rates of this run.

    Attributes:
        multiply_adds: of the network's matrix products and convolutions, a block.
        state_updates: of its scans, a block.
        gflops: rate of a large matrix product, 10^9 floating point operations a second.
        scan_gupdates: rate of a large scan, 10^9 state updates a second.
        ms: the two together.
    """

    multiply_adds: int
    state_updates: int
    gflops: float
    scan_gupdates: float
    ms: float


@dataclass(frozen=True)
class Bench:
    """What ``hyperline bench`` found.

    Attributes:
        lines_per_second: block_lines / median time of a step.
        latency_ms: of the steps.
        floor_ratio: median time of a step / floor; None where there is no floor.
        floor: None where the bundle does not say its arithmetic or no native scan is there to measure.
        energy: joules a line; None, no sensor is read yet.
        steps: blocks timed.
    """

    lines_per_second: float
    latency_ms: BlockLatency
    floor_ratio: float | None
    floor: Floor | None
    samples: int
    bands: int
    block_lines: int
    threads: int
    engine: str
    precision: str
    native_ops: bool
    energy: float | None
    steps: int
    model: str

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return asdict(self)


def bench_bundle(
    bundle: Bundle,
    *,
    samples: int,
    engine: str = "ort-cpu",
    precision: str = "fp32",
    threads: int | None = None,
    seconds: float = 10.0,
) -> Bench:
    """Time steps of a bundle's model, after its self-test.

    Args:
        bundle: the model.
        samples: cross-track samples of the lines; padded as a run would.
        engine: a key of ``ENGINES``.
        precision: which of the bundle's models.
        threads: threads of the engine; None for every CPU that this process may run on.
        seconds: how long to measure.

    Raises:
        InputError: no such engine or precision, no samples, or no time.
        HyperlineError: the engine failed or its self-test did.
    """
    if samples < 1 or not seconds > 0:
        raise InputError(f"{samples} samples for {seconds} seconds cannot be measured; ask for at least one of each")
    model = bundle.model(precision)
    loaded = load_engine(engine, model, bundle.card, threads, precision)
    self_test(loaded, bundle.golden())
    step = stepper(loaded, bundle, samples)
    arithmetic = _arithmetic(model, samples / bundle.card.sample_multiple)
    product, scan = _product(loaded.threads), _scan(loaded.threads)
    times: dict[str, list[float]] = {"step": [], "product": [], "scan": []}
    for warm_up in (step, product, scan):
        if warm_up:
            warm_up()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not times["step"]:
        for name, run, count in (("step", step, _STEPS_A_ROUND), ("product", product, 1), ("scan", scan, 1)):
            times[name] += [timed(run) for _ in range(count if run else 0)]
    step_ms = np.array(times["step"]) * 1e3
    median = float(np.median(step_ms))
    floor = None
    if arithmetic and scan:
        gflops = 2e-9 * np.prod(_PRODUCT, dtype=float) / np.median(times["product"])
        gupdates = 1e-9 * np.prod(_SCAN, dtype=float) / np.median(times["scan"])
        multiply_adds, updates = arithmetic
        ms = 1e-6 * (2 * multiply_adds / gflops + updates / gupdates)
        floor = Floor(multiply_adds, updates, float(gflops), float(gupdates), float(ms))
    return Bench(
        lines_per_second=1e3 * bundle.card.block_lines / median,
        latency_ms=BlockLatency(*np.percentile(step_ms, (50, 99, 99.9, 100)).tolist()),
        floor_ratio=median / floor.ms if floor else None,
        floor=floor,
        samples=samples,
        bands=bundle.card.bands,
        block_lines=bundle.card.block_lines,
        threads=loaded.threads,
        engine=loaded.name,
        precision=precision,
        native_ops=loaded.native_ops,
        energy=None,
        steps=len(step_ms),
        model=bundle.card.name,
    )


def stepper(engine: Engine, bundle: Bundle, samples: int) -> Callable[[], Outputs]:
    """Return what classifies one block of real lines: the golden block's, side by side to the full width."""
    golden = bundle.golden()
    padded = -(-samples // bundle.card.sample_multiple) * bundle.card.sample_multiple
    columns = np.arange(padded) % golden["valid"].shape[1]
    valid = np.ascontiguousarray(golden["valid"][:, columns])
    valid[:, samples:] = False
    lines = np.where(valid[..., None], golden["lines"][:, columns], np.float32(0))
    block = Block(np.ascontiguousarray(lines), valid, len(lines))
    engine.reset(padded)
    return lambda: engine.step(block)


def take_turns(runs: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Time several things in turns, so that what else the machine does falls on all of them.

    Returns:
        The seconds of every call, a list for each of ``runs``.
    """
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    while sum(map(sum, times)) < seconds or not times[0]:
        for spent, run in zip(times, runs, strict=True):
            spent.append(timed(run))
    return times


def timed(run: Callable[[], object] | None) -> float:
    """Return the seconds that one call takes."""
    assert run is not None
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _arithmetic(model: bytes, eighths: float) -> tuple[int, int] | None:
    """Read from a model's metadata the multiply-adds and state updates of a block, if it says them."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # nothing will run
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    held = session.get_modelmeta().custom_metadata_map
    try:
        return tuple(round(int(held[f"hyperline.{key}"]) * eighths) for key in ("multiply_adds", "state_updates"))  # type: ignore[return-value]
    except (KeyError, ValueError):
        return None


def _product(threads: int) -> Callable[[], object]:
    """Return a large matrix product in onnxruntime."""
    rows, inner, columns = _PRODUCT
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(_product_model(), options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    binding = session.io_binding()
    for name, shape in (("a", (rows, inner)), ("b", (inner, columns))):
        array = generator.standard_normal(shape, dtype=np.float32)
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    out = np.empty((rows, columns), np.float32)
    binding.bind_ortvalue_output("c", onnxruntime.OrtValue.ortvalue_from_numpy(out))
    return lambda: session.run_with_iobinding(binding)


def _product_model() -> bytes:
    """Write the ONNX file of c = a b by hand: the onnx package is not there in flight.

    Protocol buffers: each field is its number and kind, then a varint or a length and bytes. All lengths here are
    below 128, one byte. The numbers are those of onnx.proto.
    """

    def field(number: int, value: int | bytes) -> bytes:
        if isinstance(value, int):
            return bytes((number << 3, value))
        return bytes((number << 3 | 2, len(value))) + value

    def matrix(name: bytes, *dimensions: bytes) -> bytes:
        shape = b"".join(field(1, field(2, dimension)) for dimension in dimensions)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))  # 1: float32

    node = field(1, b"a") + field(1, b"b") + field(2, b"c") + field(4, b"MatMul")
    graph = field(1, node) + field(2, b"product")
    graph += (
        field(11, matrix(b"a", b"m", b"k")) + field(11, matrix(b"b", b"k", b"n")) + field(12, matrix(b"c", b"m", b"n"))
    )
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


def _scan(threads: int) -> Callable[[], object] | None:
    """Return a large scan on the native kernels, or None where they are not installed."""
    try:
        library = NativeLibrary()
    except HyperlineError:
        return None
    S, L, D, N = _SCAN
    generator = np.random.default_rng(0)
    u, B, C = (generator.standard_normal((S, L, width), dtype=np.float32) for width in (D, N, N))
    step = generator.uniform(1e-3, 0.1, (S, L, D))
    inputs = scan_inputs(
        u,
        np.log(np.expm1(step)).astype(np.float32),  # the inverse of softplus
        -np.tile(np.arange(1, N + 1, dtype=np.float32), (D, 1)),
        B,
        C,
        np.ones(D, np.float32),
        np.zeros(D, np.float32),
        np.zeros((1, D, N), np.float32),
        np.ones((1, 1), np.float32),
        False,
    )
    return lambda: library.selective_scan(inputs, threads)
