"""Fly one strip: source -> radiometry -> blocks -> engine -> images, with every line accounted for."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from hyperline.bundle import Bundle, Card
from hyperline.disk import disk_errors, replace_file
from hyperline.errors import HyperlineError, InputError
from hyperline.match import require_match
from hyperline.metrics import Metrics
from hyperline.pictures import map_colours
from hyperline.power import PowerMeter, find_sensors
from hyperline.runtime.checkpoint import SLOTS, Checkpoint, Checkpoints, read_checkpoints
from hyperline.runtime.counters import Counters
from hyperline.runtime.engines import Engine, engines_from, load_engine
from hyperline.runtime.engines.chain import EngineChain
from hyperline.runtime.feed import FeedWriter, open_feed
from hyperline.runtime.flight import Flight, LoopOptions
from hyperline.runtime.links import Links
from hyperline.runtime.quicklook import Quicklook
from hyperline.runtime.records import RECORDS, RecordLog, refuse_earlier
from hyperline.runtime.sinks import FILES, EnviSink, run_forms
from hyperline.runtime.sinks.envi import repair_maps
from hyperline.runtime.sources import Source
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.sources.gige import GigeSource
from hyperline.runtime.spectra import SPECTRA, ClassSpectra
from hyperline.runtime.status import FlightStatus
from hyperline.runtime.unknown import UnknownPixels, card_of_map
from hyperline.runtime.watchdog import Stage, Watchdog
from hyperline.runtime.writer import Result, Writer, image_memory
from hyperline.sensor import BandResampling, SensorCorrection

_LOG = logging.getLogger(__name__)

SUMMARY = "summary.json"
PICTURE = "classes.png"
# A stage that stands still for so long, with something to do, is stuck.
_STUCK_SECONDS = 5.0
GEOTIFF = "classes.tif"
RUN_FILES = (SUMMARY, SPECTRA, *FILES, RECORDS, *SLOTS, PICTURE, GEOTIFF, f"{GEOTIFF}.aux.xml")


@dataclass(frozen=True)
class Latency:
    """Percentiles over lines, in milliseconds, to one per cent.

    A line's latency runs from the arrival of the last line of its block (before that nothing can be
    computed) to the moment its labels are in the maps. ``Line.arrived`` says what arrival is; of a source that is
    not paced, it is the moment at which the loop takes the line.
    """

    p50: float
    p99: float
    p999: float


@dataclass(frozen=True)
class RunSummary:
    """What became of a strip; ``summary.json`` is this.

    Attributes:
        received: lines that the source handed over = classified + dropped + rejected.
        classified: lines whose block went through the engine.
        dropped: lines that a full ring gave up, or that an interruption or a failure kept from the engine.
        rejected: lines of the wrong size, duplicates, out of order, or damaged while they waited; but for duplicates
            each leaves an unclassified line in the map, so that the map keeps the strip's geometry.
        unwritten: lines that were classified while the disk took none; "no class" stands in their place.
        source_counters: what the source itself counted on the way, a wire's damaged records for one.
        counters: `hyperline.runtime.counters.Counters`, those above among them.
        latest_ms: the furthest that a line was taken over behind its due time.
        interrupted: whether the run ended before the source did.
        resumed: whether it went on where an earlier one had ended; then seconds, latency and rate are of this part.
        seconds: from the start of the source to the last labels in the maps.
        lines_per_second: lines classified in that time / seconds.
        latency_ms: see ``Latency``; None where nothing was classified.
        latency_histogram: lines by latency; `LatencyHistogram.merged`.
        time_line: what the strip did when; `TimeLine.points`.
        first_block_ms: from the arrival of the strip's first line to its labels in the maps; None likewise.
        lines: lines in the map.
        samples: cross-track samples of the map.
        bands: spectral bands of the source.
        resampling: how they became the model's, `BandResampling.as_dict`; None where they are the model's.
        rate: lines per second at which the source was paced, or None.
        block_lines: lines in a block, the K of the model.
        engine: that flew last.
        fallbacks: times that the next engine took over, and what the ones before said.
        reloads: times that the same engine was loaded again, because its weights or its self-test were wrong.
        outages: times that the disk began to fail.
        ring_lines: most lines that ever waited for the loop.
        threads: threads of the engine.
        native_ops: whether hyperline's operators ran as compiled kernels.
        links: `Links.report`, None without any.
        unknown: rate that was asked for, energy above which a pixel is unknown, and how many are; None where it was not
            asked for.
        accuracy: against the truth that the source gives, whichever pixels that leaves out; None where there is
            none. An unknown pixel of the truth was given no class.
    """

    received: int
    classified: int
    dropped: int
    rejected: int
    unwritten: int
    late_lines: int
    latest_ms: float
    invalid_pixels: int
    saturated_pixels: int
    interrupted: bool
    resumed: bool
    seconds: float
    lines_per_second: float
    latency_ms: Latency | None
    latency_histogram: dict[str, list[Any]]
    time_line: list[dict[str, Any]]
    first_block_ms: float | None
    lines: int
    samples: int
    bands: int
    resampling: dict[str, Any] | None
    rate: float | None
    block_lines: int
    engine: str
    fallbacks: int
    reloads: int
    failures: tuple[str, ...]
    precision: str
    threads: int
    native_ops: bool
    outages: int
    ring_lines: int
    model: str
    bundle_sha256: str
    source: str
    source_counters: dict[str, int]
    counters: Counters
    links: dict[str, Any] | None
    unknown: dict[str, Any] | None
    accuracy: Metrics | None

    def as_dict(self) -> dict[str, Any]:
        """Return what ``summary.json`` holds: the accuracy's keys beside the others."""
        values = asdict(self)
        accuracy = values.pop("accuracy") or {}
        return values | accuracy


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
    resume: bool = False,
    options: LoopOptions | None = None,
    unknown: float | None = None,
    make_links: Callable[[], Links] | None = None,
    feed: bool = True,
    on_progress: Callable[[int], None] | None = None,
    on_written: Callable[[Result, float], None] | None = None,
) -> RunSummary:
    """Classify a strip and write its images, ``spectra.json`` and ``summary.json``.

    Nothing is written before the source is known to fit the model and the engine has passed its self-test.
    Ctrl-C or SIGTERM ends the run as the end of the source would: the lines taken in so far are classified,
    and the summary says interrupted. A second Ctrl-C stops at once. After a failure the maps hold every
    finished block.

    Args:
        bundle: the model and what must be known of it.
        source: the strip. To resume, one that starts anew: what is in the maps is passed over.
        out: folder for the maps and the summary; made if missing.
        engine: a key of ``ENGINES``; engines that stand after it there take over where it fails.
        precision: which of the bundle's models.
        threads: threads of the engine; None for every CPU that this process may run on.
        correction: of the sensor, for a source of raw lines; None where they are converted already.
        overwrite: replace the run that ``out`` holds.
        resume: go on with the run that ``out`` holds, from its last checkpoint: what comes out is, to the byte, what
            the run would have been without the interruption.
        options: of the loop.
        unknown: rate of known pixels that may be called unknown, which makes pixels unlike anything trained on a class
            of their own; None gives every pixel a class of the model.
        make_links: makes what events are sent over, once all else is known to be right.
        feed: show the latest lines to ``hyperline view``.
        on_progress: called after every block with the number of lines taken so far; from another thread.
        on_written: called with every block that has just got into the maps, and when (``time.perf_counter``); from
            another thread, and the block's memory is used again afterwards.

    Raises:
        InputError: the source does not fit the model, ``out`` holds a run or none to resume, no such engine or
            precision.
        HyperlineError: the engine failed or its self-test did, the disk failed, or lines are unaccounted for.
    """
    card = bundle.card
    if correction is not None:
        correction.require_fit(source.name, source.samples, source.bands, source.scale, source.wavelengths_nm)
    resampling = require_match(source, card, correction)
    if resampling is not None:
        _LOG.info("%s: %s", source.name, resampling)
    bundle.model(precision)  # refused here, where it is not there
    options = options or LoopOptions()
    chain = EngineChain(
        [(name, partial(_load, bundle, name, threads, precision, options.guards)) for name in engines_from(engine)],
        lambda: bundle.intact().golden(),
    )
    samples = correction.model_samples if correction else source.samples
    padded = -(-samples // card.sample_multiple) * card.sample_multiple
    unlike = None if unknown is None else UnknownPixels(card, unknown, padded)
    drawn = card if unlike is None else card_of_map(card)
    forms = run_forms(drawn, samples, chain.answer, options.quicklook)
    facts = {
        "bundle": bundle.sha256,
        "precision": precision,
        "samples": samples,
        "block_lines": card.block_lines,
        "images": [form.name for form in forms],
        "unknown": unknown,
    }
    start = (
        _resume(out, facts, card.state_bytes(padded) // 4, len(card.class_names)) if resume else _claim(out, overwrite)
    )
    if resume and isinstance(source, SceneSource | GigeSource):
        source = source.starting_at(start.flight["next_index"])
    golden = bundle.golden()
    spectra = ClassSpectra(drawn, golden, padded)
    links = make_links() if make_links else None
    flight = Flight(
        source,
        chain,
        card,
        options,
        correction,
        resampling,
        links=links,
        quicklook=Quicklook(card, golden, padded) if options.quicklook or feed else None,
        spectra=spectra,
        unknown=unlike,
        map_line=start.lines,
        **start.flight,
    )
    sink = EnviSink(out, forms, card.block_lines, start.lines, start.records)
    with sink:
        log, slots = RecordLog(out / RECORDS, start.records), Checkpoints(out, start.slot)
        waits = flight.ring.policy == "block"
        count = options.result_blocks if not waits else 4
        results = [Result(image_memory(forms, card.block_lines, padded)) for _ in range(count)]
        flight.copies.reserve(count)
        writer = Writer(
            sink,
            log,
            slots,
            results,
            block_lines=card.block_lines,
            wait=waits,
            serial=start.serial,
            facts=facts,
            on_progress=on_progress,
            on_written=on_written,
        )
        watchdog = Watchdog(_stages(flight, writer, source), lambda: _status(flight))
        shown = _open_feed(out, drawn, source, samples, precision, start.lines) if feed else None
        try:
            if shown is not None:
                flight.show(shown)
                shown.report(FlightStatus(flight, writer, chain, links, PowerMeter(find_sensors().sensors)))
            watchdog.start()
            with _stop_signals() as stop:
                flight.fly(writer, stop)
        finally:
            watchdog.close()
            try:
                writer.close()
            finally:
                if links is not None:
                    links.close()
                if shown is not None:
                    shown.close()
                # Whatever ended the flight: what is known of it gets written.
                summary = _summary(flight, writer, chain, sink, source, bundle, precision, resume, links, resampling)
                log.close()
                slots.close()
                replace_file(out / SPECTRA, (json.dumps(spectra.as_dict()) + "\n").encode())
                replace_file(out / SUMMARY, (json.dumps(summary.as_dict(), indent=2) + "\n").encode())
    if summary.received != summary.classified + summary.dropped + summary.rejected:
        raise HyperlineError(
            f"{source.name}: lines are unaccounted for: received {summary.received}, classified "
            f"{summary.classified}, dropped {summary.dropped}, rejected {summary.rejected}. This is a defect "
            f"of hyperline: please report it with {out / SUMMARY}"
        )
    return summary


def _load(bundle: Bundle, name: str, threads: int | None, precision: str, guarded: bool) -> Engine:
    """Load an engine; in flight too, when bits of the bundle in memory may have flipped."""
    intact = bundle.intact()
    return load_engine(name, intact.model(precision), intact.card, threads, precision, guarded)


def _open_feed(
    out: Path, card: Card, source: Source, samples: int, precision: str, first_line: int
) -> FeedWriter | None:
    colours = map_colours(card.class_names).tolist()
    description = {
        "model": card.name,
        "source": source.name,
        "precision": precision,
        "rate": source.rate,
        "block_lines": card.block_lines,
        "wavelengths_nm": card.wavelengths_nm,
        "class_names": ["no class", *card.class_names],
        "colours": [[0, 0, 0], *colours],
    }
    return open_feed(
        out,
        description,
        samples=samples,
        bands=card.bands,
        block_lines=card.block_lines,
        first_line=first_line,
    )


def _stages(flight: Flight, writer: Writer, source: Source) -> dict[str, Stage]:
    """Say what the watchdog is to look at. A failing disk is reported, and a new process would not mend it."""
    ring = flight.ring
    stages = {
        "loop": Stage(_STUCK_SECONDS, lambda: ring.waiting > 0, lambda: ring.taken),
        "writer": Stage(
            _STUCK_SECONDS, lambda: writer.waiting > 0 and not writer.failing, lambda: writer.latency.count
        ),
    }
    if source.rate:
        limit = max(_STUCK_SECONDS, 100 / source.rate)
        stages["source"] = Stage(limit, lambda: not ring.ended, lambda: ring.received)
    return stages


def _status(flight: Flight) -> str:
    counters = flight.counters
    return f"{flight.ring.received} lines received, {counters.classified} classified, {counters.lost} lost"


def _summary(
    flight: Flight,
    writer: Writer,
    chain: EngineChain,
    sink: EnviSink,
    source: Source,
    bundle: Bundle,
    precision: str,
    resumed: bool,
    links: Links | None,
    resampling: BandResampling | None,
) -> RunSummary:
    counters, latency = flight.counters, writer.latency
    seconds = (writer.last_written or flight.started) - flight.started
    first = None if writer.first_written is None else 1e3 * (writer.first_written - flight.first_arrived)
    return RunSummary(
        received=counters.received,
        classified=counters.classified,
        dropped=counters.dropped,
        rejected=counters.rejected,
        unwritten=writer.unwritten,
        late_lines=counters.late_lines,
        latest_ms=flight.latest * 1e3,
        invalid_pixels=counters.invalid_pixels,
        saturated_pixels=counters.saturated_pixels,
        interrupted=flight.interrupted,
        resumed=resumed,
        seconds=seconds,
        lines_per_second=latency.count / seconds if seconds else 0.0,
        latency_histogram=latency.merged(),
        time_line=writer.time_line.points(),
        latency_ms=Latency(*(1e3 * latency.percentile(at) for at in (50, 99, 99.9))) if latency.count else None,
        first_block_ms=first,
        lines=sink.lines,
        samples=flight.samples,
        bands=source.bands,
        resampling=None if resampling is None else resampling.as_dict(),
        rate=source.rate,
        block_lines=bundle.card.block_lines,
        engine=chain.engine.name,
        fallbacks=chain.fallbacks,
        reloads=chain.reloads,
        failures=tuple(chain.failures),
        precision=precision,
        threads=chain.engine.threads,
        native_ops=chain.engine.native_ops,
        outages=writer.outages,
        ring_lines=flight.ring.deepest,
        model=bundle.card.name,
        bundle_sha256=bundle.sha256,
        source=source.name,
        source_counters=dict(getattr(source, "counters", {})),
        counters=counters,
        links=links.report() if links is not None else None,
        unknown=flight.unknown,
        accuracy=Metrics.from_confusion(flight.confusion) if flight.confusion.any() else None,
    )


@dataclass(frozen=True)
class _Start:
    """Where a strip begins: at its first line, or behind a checkpoint."""

    lines: int = 0
    records: int = 0
    serial: int = 0
    slot: int | None = None
    flight: dict[str, Any] = field(default_factory=dict)


def _claim(out: Path, overwrite: bool) -> _Start:
    """Make the folder of the run, empty of any earlier run."""
    held = [name for name in RUN_FILES if (out / name).exists()]
    if held and not overwrite:
        raise InputError(
            f"{out} already holds a run ({held[0]}); choose another folder, give --resume to go on with it, or "
            "--overwrite to replace it"
        )
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; the run needs a folder")
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        for name in held:  # headers come before their data in RUN_FILES, so none is left without
            (out / name).unlink()
    return _Start()


def _resume(out: Path, facts: Mapping[str, Any], state_size: int, classes: int) -> _Start:
    """Find the last checkpoint that the maps bear out, and cut the maps back to it.

    Args:
        out: folder of the run.
        facts: that every checkpoint of it must state.
        state_size: floats of the engine's state.
        classes: of the model.

    Raises:
        InputError: there is no such checkpoint, or an earlier version flew the run.
    """
    refuse_earlier(out / RECORDS)
    checkpoints = read_checkpoints(out)
    if not checkpoints:
        raise InputError(f"{out} holds no run that can be resumed: none of {', '.join(SLOTS)} is whole")
    for name, value in facts.items():
        if checkpoints[0][1].facts.get(name) != value:
            raise InputError(
                f"{out} was flown with {name} {ascii(checkpoints[0][1].facts.get(name))[:100]}, not {value}; resume "
                "with the same bundle, precision and source"
            )
    fitting = [
        (slot, checkpoint.serial, lines, flight)
        for slot, checkpoint in checkpoints
        for lines, flight in _departures(checkpoint, state_size, classes)
    ]
    if not fitting:
        raise InputError(
            f"{out}: no checkpoint of it holds what a flight goes on from; was it written by another version? Give "
            "--overwrite to start anew"
        )
    believed = repair_maps(out)
    for slot, serial, lines, flight in fitting:
        if lines <= believed.lines:
            cut = repair_maps(out, lines)
            if cut.lines == lines:
                return _Start(lines, cut.records, serial, slot, flight)
    raise InputError(
        f"{out}: the maps can be believed up to line {believed.lines}, and no checkpoint is that old; "
        "they are repaired, but the run cannot go on"
    )


def _departures(checkpoint: Checkpoint, state_size: int, classes: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the lines of the maps at a checkpoint and what `Flight` goes on from; nothing where it does not fit.

    The checksum says that the slot is as somebody wrote it, not that this version did, for this model.
    """
    held = checkpoint.facts
    try:
        counters = Counters.from_dict({**held["counters"]})
        confusion = None if held["confusion"] is None else np.array(held["confusion"], np.int64)
        numbers = [int(held["lines"]), int(held["next_index"]), *asdict(counters).values()]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return
    fits = confusion is None or (confusion.shape == (classes, classes + 1) and bool((confusion >= 0).all()))
    if fits and checkpoint.state.size == state_size and all(0 <= number < 2**63 for number in numbers):
        flight = {
            "counters": counters,
            "confusion": confusion,
            "next_index": numbers[1],
            "state": checkpoint.state,
        }
        yield numbers[0], flight


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
