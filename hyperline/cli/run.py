"""``hyperline run``: classify a strip line by line."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import (
    correction_of,
    percent,
    progress_bar,
    radiometry_option,
    sensor_options,
    stderr,
)

if TYPE_CHECKING:
    from rich.console import Console

    from hyperline.bundle import Bundle, Card
    from hyperline.runtime.ring import Policy
    from hyperline.runtime.sources.gige import GigeSource
    from hyperline.runtime.sources.wire import WireSource
    from hyperline.runtime.strip import RunSummary
    from hyperline.scenes import Scene
    from hyperline.sensor import BandResampling, SensorCorrection


@click.command()
@click.argument("bundle_file", metavar="FILE.hlb", type=click.Path(path_type=Path))
@click.option(
    "--source",
    "source_spec",
    metavar="SRC",
    required=True,
    help="Scene to fly (indian-pines, or a path to a cube), sender of lines: tcp://HOST:PORT, "
    "tcp-listen://HOST:PORT, or - for standard input; or camera: gige[:CAMERA][?OPTION=VALUE&...] (docs/gige.md).",
)
@click.option("--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="Folder for the maps.")
@click.option("--engine", default="ort-cpu", show_default=True, help="What runs the model.")
@click.option("--precision", default="fp32", show_default=True, help="Which of the bundle's models.")
@click.option(
    "--rate",
    metavar="HZ",
    type=click.FloatRange(min=0, min_open=True),
    help="Pace the lines at this many a second; without it, as fast as the model takes them.",
)
@click.option("--threads", metavar="N", type=click.IntRange(min=1), help="Threads of the engine [default: all CPUs].")
@click.option("--labels", metavar="PATH", type=click.Path(), help="Label map to score against; replaces the scene's.")
@radiometry_option
@sensor_options
@click.option(
    "--repeat",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Play the scene N times in a row, as one strip.",
)
@click.option(
    "--patience",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="How long to wait for a sender or a camera that is not there, or that went away.",
)
@click.option("--overwrite", is_flag=True, help="Replace the run that DIR holds.")
@click.option("--resume", is_flag=True, help="Go on with the run that DIR holds, from its last checkpoint.")
@click.option(
    "--policy",
    type=click.Choice(["block", "drop-oldest", "drop-newest"]),
    help="When lines come faster than they are classified.  [default: drop-oldest where they are paced, else block]",
)
@click.option("--ring", metavar="LINES", type=click.IntRange(min=1), help="Lines that may wait.  [default: 4 blocks]")
@click.option(
    "--max-gap",
    metavar="LINES",
    type=click.IntRange(min=0),
    help="Lost lines in a row after which the state begins anew.  [default: 8 blocks]",
)
@click.option(
    "--guards/--no-guards", default=True, show_default=True, help="Guard state, weights and lines against flipped bits."
)
@click.option(
    "--self-test-every",
    metavar="BLOCKS",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Classify the golden block again in flight, and compare; 0 for never. --no-guards leaves it out.",
)
@click.option(
    "--events",
    metavar="CLASS:CONFIDENCE:PIXELS[:WEIGHT]",
    multiple=True,
    help="What makes an event: connected pixels of a class; may be given more than once.",
)
@click.option(
    "--link",
    "link_specs",
    metavar="SPEC",
    multiple=True,
    help="Where events go: jsonl:PATH, mqtt[s]://HOST/TOPIC, mavlink+udp://HOST:PORT, ccsds+udp://HOST:PORT, "
    "prometheus://[HOST][:PORT] (docs/links.md); may be given more than once.",
)
@click.option("--downlink", metavar="BYTES_PER_SECOND[:BURST]", help="Budget of all radio links together.")
@click.option(
    "--feed/--no-feed", default=True, show_default=True, help="Keep the latest lines in memory for hyperline view."
)
@click.option(
    "--unknown",
    metavar="RATE",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    help="Give pixels unlike anything trained on a class of their own; RATE of the known ones may be taken for such, "
    "0.05 for one (docs/confidence.md).",
)
@click.option("--geotiff", is_flag=True, help="Write classes.tif at the end of the strip.")
@click.option("--picture/--no-picture", default=True, show_default=True, help="Draw the class map beside the scene.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def run(
    bundle_file: Path,
    source_spec: str,
    out: Path,
    engine: str,
    precision: str,
    rate: float | None,
    threads: int | None,
    labels: str | None,
    repeat: int,
    patience: float,
    overwrite: bool,
    resume: bool,
    policy: Policy | None,
    ring: int | None,
    max_gap: int | None,
    guards: bool,
    self_test_every: int,
    events: tuple[str, ...],
    link_specs: tuple[str, ...],
    downlink: str | None,
    feed: bool,
    unknown: float | None,
    geotiff: bool,
    picture: bool,
    as_json: bool,
    radiometry: Path | None,
    **sensor: Any,
) -> None:
    """Classify a strip line by line, with the model in FILE.hlb.

    Raw lines are corrected as they come, by a file of hyperline radiometry make or by --dark, --white and so on.

    DIR gets the images classes, confidence, uncertainty, quicklook and experts (.hdr and .img: ENVI, readable while the
    strip is flown), spectra.json, summary.json, and classes.png. Ctrl-C ends the strip early and keeps what was flown.
    After a crash or a power cut, --resume goes on where the last checkpoint was; hyperline repair DIR only makes the
    images readable.
    """
    from dataclasses import replace

    import numpy as np

    from hyperline.bundle import read_bundle
    from hyperline.errors import HyperlineError, require
    from hyperline.match import require_match, require_units
    from hyperline.radiometry import correct_scene, fit_scene
    from hyperline.runtime.flight import LoopOptions
    from hyperline.runtime.sinks import FILES
    from hyperline.runtime.sources import open_source
    from hyperline.runtime.sources.files import SceneSource
    from hyperline.runtime.sources.gige import GigeSource, is_gige
    from hyperline.runtime.sources.transport import is_wire
    from hyperline.runtime.sources.wire import WireSource
    from hyperline.runtime.spectra import SPECTRA
    from hyperline.runtime.strip import SUMMARY, run_strip
    from hyperline.runtime.unknown import card_of_map, unknown_threshold
    from hyperline.splits import held_out

    console = stderr()
    bundle = read_bundle(bundle_file)
    card = bundle.card
    if unknown is not None:
        unknown_threshold(card, unknown)
        card = card_of_map(card)
    if is_wire(source_spec):
        console.print(f"waiting for a sender at {source_spec}")
    elif is_gige(source_spec):
        console.print("looking for the camera")
    source = open_source(source_spec, rate=rate, repeat=repeat, labels=labels, patience=patience)
    correction = correction_of(radiometry, sensor, (source.samples, source.bands), console)
    scene, own, resampling = None, False, None
    if isinstance(source, SceneSource):
        scene = source.scene
        for note in scene.notes:
            console.print(f"note: {note}")
        if correction is not None:
            correction.require_fit(scene.name, scene.samples, scene.bands, scene.scale, scene.wavelengths_nm)
        # Raw lines taken for corrected ones have the wrong bands too; and all this before a word about labels.
        require_units(scene, correction.units if correction else scene.units, bundle.card.provenance)
        resampling = require_match(replace(source, scene=replace(scene, labels=None)), bundle.card, correction)
        scene = _comparable(scene, bundle, labels is not None, console)
        # The training scene is known by its corrected values.
        judged = correct_scene(scene, correction) if correction and scene.labels is not None else scene
        if resampling is not None and resampling.weights is None:  # nor is the training scene its other bands
            judged = fit_scene(judged, resampling)
        truth, own = held_out(judged, bundle.card.provenance)
        if truth is not None and correction:
            truth = np.repeat(truth, correction.bin_samples, axis=1)  # as wide as the raw lines, to be binned with them
        source = replace(source, scene=replace(scene, labels=truth))
    samples = correction.model_samples if correction else source.samples
    if geotiff:
        require("rasterio", "geo")
    make_links = None
    if link_specs or events or downlink:
        from hyperline.runtime.links import Links

        make_links = partial(Links, link_specs, card, samples, events=events, downlink=downlink)
    with progress_bar(console) as progress:
        task = progress.add_task(f"lines of {source.name}", total=source.lines)
        summary = run_strip(
            bundle,
            source,
            out,
            engine=engine,
            precision=precision,
            threads=threads,
            correction=correction,
            overwrite=overwrite,
            resume=resume,
            options=LoopOptions(
                policy=policy, ring_lines=ring, max_gap=max_gap, guards=guards, self_test_every=self_test_every
            ),
            unknown=unknown,
            make_links=make_links,
            feed=feed,
            on_progress=lambda received: progress.update(task, completed=received),
        )
    written = [out / name for name in (*FILES, SPECTRA, SUMMARY) if (out / name).exists()]
    if picture and summary.lines and scene is not None:  # nobody keeps the lines of a wire
        drawn = draw(out, scene, card, summary, console, correction, resampling)
        written += [drawn] if drawn else []
    if geotiff and summary.lines:
        from hyperline.runtime.sinks import classes_geotiff

        header = Path(source_spec)
        written.append(
            classes_geotiff(out, header if header.suffix.lower() == ".hdr" else None, source.samples // samples)
        )
    if as_json:
        click.echo(json.dumps(summary.as_dict()))
    else:
        _report(summary, own, written)
    # A camera of which nobody said how many lines it sends goes on until somebody says stop.
    if summary.interrupted and not (isinstance(source, GigeSource) and source.lines is None):
        raise HyperlineError(f"interrupted after {summary.received} lines; {out} holds the map of {summary.lines}")
    if isinstance(source, WireSource | GigeSource):
        _require_complete(source, out, console)


# Counted where nothing went wrong too.
_ORDINARY = ("lines", "span", "stream_completed_buffers", "stream_received_packets", "stream_transferred_bytes")


def _require_complete(source: WireSource | GigeSource, out: Path, console: Console) -> None:
    """Say what happened to the lines on their way.

    Raises:
        HyperlineError: the sender or the camera went away before the end of its strip.
    """
    from hyperline.errors import HyperlineError
    from hyperline.runtime.sources.gige import GigeSource

    counters = source.counters
    met = {name.replace("_", " "): count for name, count in counters.items() if count and name not in _ORDINARY}
    if met:
        console.print(f"note: on the wire, {', '.join(f'{name}: {count}' for name, count in met.items())}")
    if not source.complete:
        who = "camera" if isinstance(source, GigeSource) else "sender"
        raise HyperlineError(
            f"{source.name}: the {who} went away after {counters['lines']} lines, before the end of the strip; "
            f"{out} holds the map of what came"
        )


def _comparable(scene: Scene, bundle: Bundle, explicit: bool, console: Console) -> Scene:
    """Return the scene, without its labels where they are not in the model's classes.

    Raises:
        InputError: labels that the caller asked for are not in the model's classes.
    """
    from dataclasses import replace

    from hyperline.classes import class_fault
    from hyperline.errors import InputError

    fault = class_fault(scene, bundle.card.class_names)
    if fault is None:
        return scene
    if explicit:
        raise InputError(f"{fault}; give labels in the model's numbering, or leave out --labels")
    console.print(f"note: no accuracy, {fault}")
    return replace(scene, labels=None)


def draw(
    out: Path,
    scene: Scene,
    card: Card,
    summary: RunSummary,
    console: Console,
    correction: SensorCorrection | None = None,
    resampling: BandResampling | None = None,
) -> Path | None:
    """Draw the map of a run beside its scene, of a repeated scene the first pass.

    Returns:
        The PNG, or None without matplotlib, which is said on the console.
    """
    import numpy as np

    from hyperline.errors import InputError
    from hyperline.pictures import class_map_picture, thinned
    from hyperline.runtime.strip import PICTURE
    from hyperline.sensor import bin_labels

    lines = min(summary.lines, scene.lines)
    shape = (lines, summary.samples)
    bands = list(card.composite_bands)
    if resampling is not None:
        bands = resampling.matrix[:, bands].argmax(axis=0).tolist()
    cube, truth = scene.cube[:lines], None if scene.labels is None else scene.labels[:lines]
    if correction is not None:  # raw counts make the same picture
        bands = correction.used[:: correction.bin][bands].tolist()
        cube = cube[:, :: correction.bin_samples]
        truth = None if truth is None else bin_labels(truth, correction.bin_samples)
    composite = thinned(cube)[..., bands].astype(np.float32)
    if scene.nodata is not None:
        composite[(composite == np.float32(scene.nodata)).all(axis=-1)] = np.nan
    accuracy = f"OA {summary.accuracy.oa:.1%}, " if summary.accuracy else ""
    try:
        class_map_picture(
            out / PICTURE,
            composite,
            np.memmap(out / "classes.img", np.uint8, "r", shape=shape),
            class_names=card.class_names,
            truth=truth,
            confidence=np.memmap(out / "confidence.img", "<f4", "r", shape=shape) if truth is None else None,
            title=f"{scene.name}, classified in blocks of {summary.block_lines} lines: "
            f"{accuracy}{summary.lines_per_second:.0f} lines/s",
        )
    except InputError as error:
        console.print(f"no picture: {error}")
        return None
    return out / PICTURE


def _report(summary: RunSummary, own: bool, written: list[Path]) -> None:
    click.echo(
        f"{summary.source}: {summary.classified} of {summary.received} lines classified in "
        f"{summary.seconds:.2f} s, {summary.lines_per_second:.0f} lines/s "
        f"({summary.engine}, {summary.precision}, threads: {summary.threads})"
    )
    if summary.resampling:
        one = summary.resampling
        click.echo(f"its {one['bands']} bands became the model's {one['model_bands']} ({one['method']})")
    if summary.latency_ms:
        latency = summary.latency_ms
        click.echo(
            f"from a block's last line to its labels in the map: p50 {latency.p50:.2f} ms, "
            f"p99 {latency.p99:.2f} ms, p99.9 {latency.p999:.2f} ms"
        )
    if summary.accuracy:
        accuracy = summary.accuracy
        click.echo(
            f"on {accuracy.pixels} labelled pixels{' not trained on' if own else ''}: OA {percent(accuracy.oa)}, "
            f"AA {percent(accuracy.aa)}, kappa {accuracy.kappa:.4f}"
        )
    if summary.unknown:
        click.echo(
            f"{summary.unknown['pixels']} pixels are unknown, unlike anything trained on; of known pixels at most "
            f"{percent(summary.unknown['rate'])} should be"
        )
    for count, what in (
        (summary.dropped, "lines dropped"),
        (summary.rejected, "lines rejected: wrong size, duplicates, out of order, or damaged"),
        (summary.counters.lost, "lines missing between others"),
        (summary.unwritten, "lines classified while the disk took none"),
        (summary.fallbacks, "engines failed and the next took over"),
        (summary.late_lines, f"lines late by more than a block, at worst {summary.latest_ms:.1f} ms"),
        (summary.saturated_pixels, "pixels saturated"),
        (summary.invalid_pixels, "pixels without a measurement"),
    ):
        if count:
            click.echo(f"{count} {what}")
    click.echo("wrote " + ", ".join(map(str, written)))
