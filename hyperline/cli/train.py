"""``hyperline train``: from a labelled scene to a run folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import BandRanges, BlockLines, percent, progress_bar, radiometry_option, read_noted, stderr

if TYPE_CHECKING:
    from rich.console import Console

    from hyperline.bundle.card import BandSelection
    from hyperline.scenes import Scene
    from hyperline.splits import SplitKind
    from hyperline.train.run import TrainedRun


@click.command()
@click.argument("scene_specs", metavar="SCENE...", nargs=-1, required=True)
@click.option("--out", metavar="RUN", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--labels",
    metavar="PATH",
    multiple=True,
    help="Label map, where SCENE holds none (.npy, .npz, .mat, ENVI, GeoTIFF); of several scenes one each, in order.",
)
@radiometry_option
@click.option(
    "--bands",
    metavar="A:B[,C:D]",
    type=BandRanges(),
    help="Bands to use, as hyperline scene inspect proposes; later commands take lines with all of them.",
)
@click.option("--model", metavar="NAME", default="mambamoe", show_default=True, help="See docs/models.md.")
@click.option("--labels-per-class", type=click.IntRange(min=1), default=15, show_default=True)
@click.option(
    "--split",
    "split_kind",
    type=click.Choice(["random", "blocks", "halves"]),
    default="random",
    show_default=True,
    help="Random pixels of every class; or spatial blocks, or halves of the scene, with a guard band (honest).",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the scene.  [default: as tuned]")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="[default: as tuned]")
@click.option(
    "--block-lines",
    type=BlockLines("dynamic", "full"),
    default="dynamic",
    show_default=True,
    help="Lines in a block: dynamic serves every latency, full is the offline model.",
)
@click.option(
    "--ugcl",
    type=click.Choice(["corrected", "published", "off"]),
    default="corrected",
    show_default=True,
    help="Uncertainty-guided corrective learning.",
)
@click.option(
    "--spectral-expert/--no-spectral-expert",
    default=True,
    show_default=True,
    help="The shared spectral expert.",
)
@click.option(
    "--temperature/--no-temperature",
    default=False,
    show_default=True,
    help="Fit a temperature by an auxiliary training of half as many epochs, so that confidence says how often a label "
    "is right (docs/confidence.md).",
)
@click.option("--tile", type=click.IntRange(min=16), help="Side of a training tile, for scenes that do not fit.")
@click.option(
    "--invalid",
    type=click.Choice(["refuse", "mask"]),
    default="refuse",
    show_default=True,
    help="What to do with pixels that hold NaN or infinities.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all]")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--overwrite", is_flag=True, help="Replace the run that RUN holds.")
@click.option("--json", "as_json", is_flag=True, help="Print run.json.")
def train(
    scene_specs: tuple[str, ...],
    out: Path,
    labels: tuple[str, ...],
    radiometry: Path | None,
    bands: tuple[tuple[int, int], ...] | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a classifier on SCENE, or on several strips of one sensor, and write it to the folder RUN.

    SCENE is indian-pines, or a path: .npz, .mat, ENVI .hdr, GeoTIFF. Of several, each gives labels to train and to
    judge by; classes are matched by name.
    """
    from hyperline.errors import InputError

    if labels and len(labels) != len(scene_specs):
        raise InputError(
            f"{len(labels)} label maps for {len(scene_specs)} scenes; give --labels for each, in order, or for none"
        )
    if bands is not None and radiometry is not None:
        raise InputError(f"{radiometry} says which bands are used; make it with --bands, and leave --bands out here")
    console = stderr()
    scenes = [
        read_noted(spec, path, console, radiometry)
        for spec, path in zip(scene_specs, labels or [None] * len(scene_specs), strict=True)
    ]
    selection = None
    if bands is not None:
        scenes, selection = selected(scenes, bands)
    run = train_scene(
        scenes[0],
        out,
        console,
        others=scenes[1:],
        selection=selection,
        resume=resume,
        overwrite=overwrite,
        **options,
    )
    if as_json:
        click.echo(json.dumps(run.record))
        return
    for name in ("offline", "streamed"):
        result = run.record[name]
        click.echo(
            f"{name} (blocks of {result['block_lines']} lines): OA {percent(result['oa'])}, "
            f"AA {percent(result['aa'])}, kappa {result['kappa']:.4f} on {result['pixels']} pixels not trained on"
        )
    confidence = run.record["confidence"]
    click.echo(
        f"confidence: off by {percent(confidence['ece_after'])} (ECE), at temperature "
        f"{confidence['temperature']:.2f} of {confidence['held_out_pixels']} held-out labels; by "
        f"{percent(confidence['ece_before'])} without a temperature"
    )
    click.echo(f"wrote {out} ({', '.join(sorted(path.name for path in out.iterdir()))})")


def selected(scenes: list[Scene], ranges: tuple[tuple[int, int], ...]) -> tuple[list[Scene], BandSelection]:
    """Take some bands of scenes of one sensor.

    Raises:
        InputError: they have no such bands, or another number of them, or fewer than two would be left.
    """
    from pydantic import ValidationError

    from hyperline.bundle.card import BandSelection
    from hyperline.errors import InputError
    from hyperline.radiometry import fit_scene
    from hyperline.sensor import select_bands

    try:
        selection = BandSelection(bands=scenes[0].bands, ranges=ranges)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"--bands: {fault}; {scenes[0].name} has {scenes[0].bands} bands") from error
    for scene in scenes:
        if scene.bands != selection.bands:
            raise InputError(f"{scene.name} has {scene.bands} bands, {scenes[0].name} has {selection.bands}")
    if selection.count < 2:
        raise InputError(f"--bands leaves {selection.count} band; a model needs at least 2")
    return [fit_scene(scene, select_bands(scene.bands, ranges)) for scene in scenes], selection


def train_scene(
    scene: Scene,
    out: Path,
    console: Console,
    *,
    others: Sequence[Scene] = (),
    selection: BandSelection | None = None,
    model: str = "mambamoe",
    labels_per_class: int = 15,
    split_kind: SplitKind = "random",
    seed: int = 0,
    epochs: int | None = None,
    learning_rate: float | None = None,
    block_lines: str | int = "dynamic",
    ugcl: str = "corrected",
    spectral_expert: bool = True,
    temperature: bool = False,
    tile: int | None = None,
    invalid: str = "refuse",
    threads: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainedRun:
    """Train with a progress bar; the options are those of ``hyperline train``.

    ``others`` are strips of the same sensor to train on as well; ``selection`` says which of the sensor's bands the
    scenes hold, where not all.

    Raises:
        InputError: a scene has no labels, or cannot be used as asked.
    """
    from hyperline.errors import InputError, require

    require("torch", "train")
    from hyperline.cli.strips import TrainingStrips, of_one_sensor
    from hyperline.splits import make_split
    from hyperline.train.confidence import auxiliary_epochs
    from hyperline.train.models import network_config
    from hyperline.train.run import left_out, train_run, with_threads
    from hyperline.train.trainer import TrainConfig

    scenes = [scene, *others]
    for one in scenes:
        if one.labels is None:
            raise InputError(f"{one.name} has no labels to train on; give a label map with --labels PATH")
    if others:
        for one in others:
            left_out(one, invalid == "mask")  # refused before any is trained on
        scenes = of_one_sensor(scenes)
    scene = scenes[0]
    splits = []
    for one in scenes:
        assert one.labels is not None
        splits.append(make_split(split_kind, one.labels, labels_per_class, seed, one.class_names))
        where = f"{one.name}: " if others else ""
        for warning in splits[-1].warnings:
            console.print(f"warning: {where}{warning}")
    chosen: dict[str, Any] = {"epochs": epochs, "learning_rate": learning_rate, "tile": tile}
    config = TrainConfig(
        block_lines=block_lines,  # type: ignore[arg-type]
        ugcl=ugcl,  # type: ignore[arg-type]
        seed=seed,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    config = with_threads(config, threads)
    sizes: dict[str, Any] = {
        "bands": scene.bands,
        "classes": max(len(scene.class_names), *(int(one.labels.max()) for one in scenes if one.labels is not None)),
    }
    if not spectral_expert:
        sizes["spectral_inner"] = 0
    size = network_config(model, **sizes)
    with progress_bar(console) as progress:
        total = config.epochs + (auxiliary_epochs(config.epochs) if temperature else 0)
        what = f"training on {scene.name}" + (f" and {len(others)} more" if others else "")
        task = progress.add_task(what, total=total)

        def on_epoch(epoch: int, curves: dict[str, float]) -> None:
            progress.update(task, completed=epoch, description=f"{what}, loss {curves['loss']:.3f}")

        strips = TrainingStrips(scenes, splits, size, config, out, selection)
        return train_run(
            scene,
            splits[0],
            size,
            config,
            out,
            begin=strips.begin,
            judge=strips.judge,
            resume=resume,
            overwrite=overwrite,
            mask_invalid=invalid == "mask",
            temperature=temperature,
            on_epoch=on_epoch,
        )
