"""How far a step is from the arithmetic that it cannot do without.

The floor is measured in the same pass, between the steps: the time of the network's multiply-adds at the rate of a
large matrix product in onnxruntime, and of its state updates at the rate of a large scan, with the same threads. What
the machine loses to other work it so loses on both sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hyperline.bundle import Bundle
from hyperline.errors import HyperlineError
from hyperline.plugins.native import NativeLibrary, scan_inputs
from hyperline.runtime.bench.report import Floor
from hyperline.runtime.bench.steps import stepper, timed
from hyperline.runtime.engines import Engine

# A product whose operands stay in cache, of the shapes of the network's own: rows are pixels.
_PRODUCT = (2048, 256, 256)
# The scan of a scale: sequences, steps, channels, states; steps of 0 to 0.1.
_SCAN = (1024, 8, 16, 16)
# Enough rounds for stable medians; each round measures all three rates.
_STEPS_A_ROUND = 5


def measure_floor(engine: Engine, model: bytes, bundle: Bundle, samples: int, seconds: float) -> Floor | None:
    """Time steps, matrix products and scans in turns.

    Args:
        engine: that runs the model on the CPU; the strip that it flies is begun anew.
        model: the ONNX file, whose metadata say its arithmetic.
        bundle: that the model is of.
        samples: cross-track samples of a line.
        seconds: how long to measure.

    Returns:
        None where the model does not say its arithmetic, or no native scan is there to measure.
    """
    arithmetic = _arithmetic(model, samples / bundle.card.sample_multiple)
    scan = _scan(engine.threads) if arithmetic else None
    if arithmetic is None or scan is None:
        return None
    runs = ((stepper(engine, bundle, samples), _STEPS_A_ROUND), (_product(engine.threads), 1), (scan, 1))
    for run, _ in runs:
        run()
    times: tuple[list[float], ...] = ([], [], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not times[0]:
        for spent, (run, count) in zip(times, runs, strict=True):
            spent += [timed(run) for _ in range(count)]
    step, product, one_scan = (float(np.median(spent)) for spent in times)
    gflops = 2e-9 * float(np.prod(_PRODUCT, dtype=float)) / product
    gupdates = 1e-9 * float(np.prod(_SCAN, dtype=float)) / one_scan
    multiply_adds, updates = arithmetic
    ms = 1e-6 * (2 * multiply_adds / gflops + updates / gupdates)
    return Floor(
        multiply_adds=multiply_adds,
        state_updates=updates,
        gflops=gflops,
        scan_gupdates=gupdates,
        ms=ms,
        step_ms=1e3 * step,
        ratio=1e3 * step / ms,
    )


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
    arrays = {
        "a": generator.standard_normal((rows, inner), dtype=np.float32),
        "b": generator.standard_normal((inner, columns), dtype=np.float32),
        "c": np.empty((rows, columns), np.float32),
    }
    binding = session.io_binding()
    for name in ("a", "b"):
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(arrays[name]))
    binding.bind_ortvalue_output("c", onnxruntime.OrtValue.ortvalue_from_numpy(arrays["c"]))

    def run(held: dict[str, NDArray[np.float32]] = arrays) -> None:  # onnxruntime 1.21 keeps no bound memory alive
        session.run_with_iobinding(binding)

    return run


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
