"""``hyperline train``: from a labelled scene to a run folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import (
    BandRanges,
    BlockLines,
    learning_options,
    percent,
    progress_bar,
    radiometry_option,
    read_noted,
    stderr,
)

if TYPE_CHECKING:
    from rich.console import Console

    from hyperline.scenes import Scene
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
@learning_options
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
    run = train_scene(scenes, out, console, bands=bands, resume=resume, overwrite=overwrite, **options)
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


def train_scene(scenes: Sequence[Scene], out: Path, console: Console, **options: Any) -> TrainedRun:
    """Train with a progress bar; the options are those of :func:`hyperline.train_scene`.

    Raises:
        InputError: a scene has no labels, or cannot be used as asked.
    """
    from hyperline.api.training import train_scene as train

    what = f"training on {scenes[0].name}" + (f" and {len(scenes) - 1} more" if len(scenes) > 1 else "")
    with progress_bar(console) as progress:
        task = progress.add_task(what, total=None)

        def on_epoch(epoch: int, epochs: int, curves: dict[str, float]) -> None:
            progress.update(task, completed=epoch, total=epochs, description=f"{what}, loss {curves['loss']:.3f}")

        return train(
            scenes, out, on_epoch=on_epoch, on_warning=lambda text: console.print(f"warning: {text}"), **options
        )
