"""Fly one strip: source -> radiometry -> blocks -> engine -> sink, with every line accounted for."""

from __future__ import annotations

import json
import signal
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from hyperline.bundle import Bundle
from hyperline.disk import disk_errors, replace_file
from hyperline.errors import HyperlineError, InputError
from hyperline.match import require_match
from hyperline.metrics import Metrics, confusion_matrix
from hyperline.radiometry import Radiometry
from hyperline.runtime.blocks import Block, BlockAssembler
from hyperline.runtime.engines import Engine, load_engine, self_test
from hyperline.runtime.sinks import EnviSink
from hyperline.runtime.sources import Source
from hyperline.sensor import SensorCorrection

SUMMARY = "summary.json"
PICTURE = "classes.png"
RUN_FILES = (SUMMARY, *EnviSink.FILES, PICTURE)


@dataclass(frozen=True)
class Latency:
    """Percentiles over lines, in milliseconds.

    A line's latency runs from the arrival of the last line of its block (before that nothing can be
    computed) to the moment its labels are in the sink. ``Line.arrived`` says what arrival is.
    """

    p50: float
    p99: float
    p999: float


@dataclass(frozen=True)
class RunSummary:
    """What became of a strip; ``summary.json`` is this.

    Attributes:
        received: lines that the source handed over = classified + dropped + rejected.
        classified: lines whose labels are in the sink.
        dropped: lines taken in that an interruption or a failure kept from the sink.
        rejected: lines of the wrong size; each leaves an unclassified line in the map, so that the map keeps
            the strip's geometry.
        late_lines: lines taken over more than a whole block behind their due time: the pipeline did not keep
            up with the rate.
        latest_ms: the furthest that a line was taken over behind its due time.
        invalid_pixels: pixels without a measurement in the lines that were not rejected.
        saturated_pixels: pixels with a saturated element, where the correction gives a level; the correction says
            whether they are invalid.
        interrupted: whether the run ended before the source did.
        seconds: from the start of the source to the last labels in the sink.
        lines_per_second: classified / seconds.
        latency_ms: see ``Latency``; None where nothing was classified.
        first_block_ms: from the arrival of the strip's first line to its labels in the sink; None likewise.
        lines: lines in the map.
        samples: cross-track samples.
        bands: spectral bands.
        rate: lines per second at which the source was paced, or None.
        block_lines: lines in a block, the K of the model.
        threads: threads of the engine.
        native_ops: whether hyperline's operators ran as compiled kernels.
        accuracy: against the truth that the source gives, whichever pixels that leaves out; None where there is
            none.
    """

    received: int
    classified: int
    dropped: int
    rejected: int
    late_lines: int
    latest_ms: float
    invalid_pixels: int
    saturated_pixels: int
    interrupted: bool
    seconds: float
    lines_per_second: float
    latency_ms: Latency | None
    first_block_ms: float | None
    lines: int
    samples: int
    bands: int
    rate: float | None
    block_lines: int
    engine: str
    precision: str
    threads: int
    native_ops: bool
    model: str
    bundle_sha256: str
    source: str
    accuracy: Metrics | None

    def as_dict(self) -> dict[str, Any]:
        """Return what ``summary.json`` holds: the accuracy's keys beside the others, no confusion."""
        values = asdict(self)
        accuracy = values.pop("accuracy") or {}
        return values | {name: value for name, value in accuracy.items() if name != "confusion"}


def run_strip(
    bundle: Bundle,
    source: Source,
    out: Path,
    *,
    engine: str = "ort-cpu",
    precision: str = "fp32",
    threads: int | None = None,
    correction: SensorCorrection | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> RunSummary:
    """Classify a strip and write its maps and ``summary.json``.

    Nothing is written before the source is known to fit the model and the engine has passed its self-test.
    Ctrl-C or SIGTERM ends the run as the end of the source would: the lines taken in so far are classified,
    and the summary says interrupted. A second Ctrl-C stops at once. After a failure the maps hold every
    finished block.

    Args:
        bundle: the model and what must be known of it.
        source: the strip.
        out: folder for the maps and the summary; made if missing.
        engine: a key of ``ENGINES``.
        precision: which of the bundle's models.
        threads: threads of the engine; None for every CPU that this process may run on.
        correction: of the sensor, for a source of raw lines; None where they are converted already.
        overwrite: replace the run that ``out`` holds.
        on_progress: called after every block with the number of lines received.

    Raises:
        InputError: the source does not fit the model, ``out`` holds a run, no such engine or precision.
        HyperlineError: the engine failed or its self-test did, the disk failed, or lines are unaccounted for.
    """
    card = bundle.card
    if correction is not None:
        correction.require_fit(source.name, source.samples, source.bands, source.scale, source.wavelengths_nm)
    require_match(source, card, correction)
    loaded = load_engine(engine, bundle.model(precision), card, threads, precision)
    self_test(loaded, bundle.golden())
    _claim(out, overwrite)
    strip = _Strip(source, loaded, correction)
    with EnviSink(out, card.block_lines, source.samples, card.class_names) as sink:
        try:
            with _stop_signals() as stop:
                strip.fly(sink, stop, on_progress)
        finally:
            # Whatever ended the flight: what is known of it gets written.
            summary = strip.summary(sink, bundle, precision)
            replace_file(out / SUMMARY, (json.dumps(summary.as_dict(), indent=2) + "\n").encode())
    if summary.received != summary.classified + summary.dropped + summary.rejected:
        raise HyperlineError(
            f"{source.name}: lines are unaccounted for: received {summary.received}, classified "
            f"{summary.classified}, dropped {summary.dropped}, rejected {summary.rejected}. This is a defect "
            f"of hyperline: please report it with {out / SUMMARY}"
        )
    return summary


class _Strip:
    """The counters and buffers of one flight.

    Cost a line besides ``Radiometry``: one ``Line``, one test of its shape, a few additions. Cost a block
    besides the engine's step: one ``Block``, a copy of its labels and confidence, two counts of lines (about 20 µs).
    """

    def __init__(self, source: Source, engine: Engine, correction: SensorCorrection | None) -> None:
        card = engine.card
        self._radiometry = radiometry = Radiometry(
            source.samples,
            source.bands,
            scale=source.scale,
            model_scale=card.scale,
            nodata=source.nodata,
            correction=correction,
        )
        self._source = source
        self._engine = engine
        self._assembler = BlockAssembler(card.block_lines, radiometry, card.sample_multiple)
        self._truth = np.zeros((card.block_lines, source.samples), np.uint8)
        self._classes = len(card.class_names)
        self._confusion = np.zeros((self._classes, self._classes + 1), np.int64)
        self._latency = array("d")  # of each block, seconds
        self._weight = array("q")  # and the lines classified with it
        self._received = self._classified = self._rejected = self._late = 0
        self._unusable = 0  # rejected lines among those that wait for their block
        self._in_flight = 0  # lines that left the assembler and are not in the sink yet
        self._latest = self._seconds = 0.0
        self._first_block: float | None = None
        self._interrupted = True

    def fly(self, sink: EnviSink, stop: threading.Event, on_progress: Callable[[int], None] | None) -> None:
        """Take lines until the source ends or ``stop`` is set, then flush the last block."""
        source, assembler = self._source, self._assembler
        shape = (source.samples, source.bands)
        patience = self._engine.card.block_lines / source.rate if source.rate else float("inf")
        self._engine.reset(assembler.padded_samples)
        start = first = arrived = time.perf_counter()

        def classify(block: Block) -> None:
            self._classify(block, sink, arrived)
            now = time.perf_counter()
            self._seconds = now - start
            if self._first_block is None:
                self._first_block = now - first
            if on_progress is not None:
                on_progress(self._received)

        for line in source:
            arrived = line.arrived
            if self._received == 0:
                first = arrived
            self._received += 1
            behind = time.perf_counter() - arrived
            self._latest = max(self._latest, behind)
            self._late += behind > patience
            if line.values.shape == shape:
                self._truth[assembler.pending] = 0 if line.truth is None else line.truth
                block = assembler.push(line.values)
            else:
                self._truth[assembler.pending] = 0
                self._rejected += 1
                self._unusable += 1
                block = assembler.skip()
            if block is not None:
                classify(block)
            if stop.is_set():
                break
        else:
            self._interrupted = False
        block = assembler.flush()
        if block is not None:
            classify(block)

    def _classify(self, block: Block, sink: EnviSink, arrived: float) -> None:
        usable = self._in_flight = block.count - self._unusable
        self._unusable = 0
        outputs = self._engine.step(block)
        sink.write(outputs.labels, outputs.confidence, block.count)
        self._latency.append(time.perf_counter() - arrived)
        self._weight.append(usable)
        self._in_flight = 0
        self._classified += usable
        if self._source.truth_classes:
            labels = outputs.labels[: block.count, : self._source.samples]
            self._confusion += confusion_matrix(self._truth[: block.count], labels, self._classes)

    def summary(self, sink: EnviSink, bundle: Bundle, precision: str) -> RunSummary:
        """Return what is known now."""
        latency = np.repeat(self._latency, self._weight) * 1e3
        rate = self._classified / self._seconds if self._seconds else 0.0
        return RunSummary(
            received=self._received,
            classified=self._classified,
            dropped=self._in_flight + self._assembler.pending - self._unusable,
            rejected=self._rejected,
            late_lines=self._late,
            latest_ms=self._latest * 1e3,
            invalid_pixels=self._assembler.invalid_pixels,
            saturated_pixels=self._radiometry.saturated_pixels,
            interrupted=self._interrupted,
            seconds=self._seconds,
            lines_per_second=rate,
            latency_ms=Latency(*np.percentile(latency, (50, 99, 99.9)).tolist()) if latency.size else None,
            first_block_ms=None if self._first_block is None else self._first_block * 1e3,
            lines=sink.lines,
            samples=self._source.samples,
            bands=self._source.bands,
            rate=self._source.rate,
            block_lines=bundle.card.block_lines,
            engine=self._engine.name,
            precision=precision,
            threads=self._engine.threads,
            native_ops=self._engine.native_ops,
            model=bundle.card.name,
            bundle_sha256=bundle.sha256,
            source=self._source.name,
            accuracy=Metrics.from_confusion(self._confusion) if self._confusion.any() else None,
        )


def _claim(out: Path, overwrite: bool) -> None:
    """Make the folder of the run, empty of any earlier run."""
    held = [name for name in RUN_FILES if (out / name).exists()]
    if held and not overwrite:
        raise InputError(f"{out} already holds a run ({held[0]}); choose another folder, or give --overwrite")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; the run needs a folder")
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        for name in held:  # headers come before their data in RUN_FILES, so none is left without
            (out / name).unlink()


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Give an event that the first Ctrl-C or SIGTERM sets; the second acts as ever.

    An exception in the middle of a block would cost that block its labels. Signals reach the main thread
    only: in any other the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        restore()
        stop.set()

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
