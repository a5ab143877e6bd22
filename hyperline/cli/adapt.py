"""``hyperline adapt``: new classes or a new flight, learnt from a run whose answers on the old scene hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import learning_options, percent, progress_bar, radiometry_option, read_noted, stderr

if TYPE_CHECKING:
    from rich.console import Console

    from hyperline.scenes import Scene
    from hyperline.train.run import TrainedRun


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--scene", "scene_spec", metavar="SCENE", required=True, help="The new scene, with labels.")
@click.option("--old", metavar="SCENE", required=True, multiple=True, help="Lines of the old one; may be repeated.")
@click.option("--out", metavar="RUN2", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--labels", metavar="PATH", help="Label map of the new scene, where it holds none.")
@click.option("--old-labels", metavar="PATH", help="Label map of the old scene: judges, and does not teach.")
@radiometry_option
@learning_options
@click.option(
    "--share",
    type=click.FloatRange(min=0, max=1),
    help="Largest part of the energy of old features that updates may touch: more learns more and holds less.  "
    "[default: 0.01, and no limit where RUN was trained on the old scene]",
)
@click.option("--plain", is_flag=True, help="Fine-tune without holding anything, to compare.")
@click.option("--overwrite", is_flag=True, help="Replace the run that RUN2 holds.")
@click.option("--json", "as_json", is_flag=True, help="Print run.json.")
def adapt(
    run: Path,
    scene_spec: str,
    old: tuple[str, ...],
    out: Path,
    labels: str | None,
    old_labels: str | None,
    radiometry: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Adapt RUN to new classes or a new flight, in SCENE, and write the folder RUN2.

    Where the old scene is one that RUN was trained on, the labels of that training are rehearsed. Elsewhere weights
    move only where the features of the old scene hold next to nothing, so that its answers stay; it needs no labels.
    Classes are matched by name; those that RUN does not know are added.
    """
    from hyperline.errors import InputError

    if run.is_file():
        raise InputError(
            f"{run} is a file: a bundle holds a folded graph without weights to train; name the run folder that it was "
            "exported from"
        )
    if old_labels is not None and len(old) > 1:
        raise InputError(f"{old_labels} belongs to one of {len(old)} old scenes; give scenes that hold their labels")
    if run.resolve() == out.resolve():
        raise InputError(f"{out} is the run to start from, which stays as it is; name another folder with --out")
    console = stderr()
    adapted = _adapt(run, (scene_spec, labels), [(one, old_labels) for one in old], radiometry, out, console, **options)
    if as_json:
        click.echo(json.dumps(adapted.record))
        return
    record = adapted.record
    for one in record["adapted"]["old"]:
        click.echo(f"{one['name']}: {percent(one['held'])} of all answers hold")
        if one["before"] is not None:
            changes = (
                f"{mode} {percent(one['before'][mode]['oa'])} to {percent(one['after'][mode]['oa'])}"
                for mode in ("offline", "streamed")
            )
            click.echo(f"{one['name']}: OA {', '.join(changes)}")
    for mode in ("offline", "streamed"):
        result = record[mode]
        click.echo(
            f"{record['scene']['name']}: {mode} OA {percent(result['oa'])}, AA {percent(result['aa'])} on "
            f"{result['pixels']} pixels not trained on"
        )
    click.echo(f"wrote {out} ({', '.join(sorted(path.name for path in out.iterdir()))})")


def _adapt(
    path: Path,
    new: tuple[str, str | None],
    old: list[tuple[str, str | None]],
    radiometry: Path | None,
    out: Path,
    console: Console,
    *,
    labels_per_class: int,
    split_kind: str,
    seed: int,
    epochs: int | None,
    learning_rate: float | None,
    share: float | None,
    plain: bool,
    invalid: str,
    threads: int | None,
    overwrite: bool,
) -> TrainedRun:
    from hyperline.errors import InputError, require

    require("torch", "train")
    from hyperline.classes import class_fault, merged_names, renumbered
    from hyperline.splits import make_split
    from hyperline.train.adapt.run import HELD, PLAIN, REHEARSED, adapt_config, adapt_run, fit_to_run
    from hyperline.train.run import load_run, taught_labels, with_threads

    if plain and share is not None:
        raise InputError("--plain holds nothing; leave out --share, or --plain")
    base = load_run(path)

    def read_fitted(spec: str, labels: str | None) -> Scene:
        read = read_noted(spec, labels, console, radiometry)
        fitted = fit_to_run(read, base)
        for note in fitted.notes[len(read.notes) :]:
            console.print(f"note: {note}")
        return fitted

    scene = read_fitted(*new)
    if scene.labels is None:
        raise InputError(f"{scene.name} has no labels to learn from; give a label map with --labels PATH")
    old_scenes = [(one, taught_labels(base, one)) for one in (read_fitted(*spec) for spec in old)]
    names = merged_names(base.class_names, scene)
    scene = renumbered(scene, names)
    if fault := class_fault(scene, names):
        raise InputError(f"{fault}; give every class of {scene.name} a name of its own")
    scene = replace(scene, class_names=names)
    split = make_split(split_kind, scene.labels, labels_per_class, seed, names)  # type: ignore[arg-type]
    for warning in split.warnings:
        console.print(f"warning: {warning}")
    added = names[len(base.class_names) :]
    console.print(f"new classes: {', '.join(added)}" if added else "no new classes")
    unknown = [one.name for one, taught in old_scenes if taught is None]
    adaptation = PLAIN if plain else HELD if unknown else REHEARSED
    if share is not None:
        adaptation = replace(adaptation, share=share)
    if plain:
        console.print("old answers are not held")
    elif unknown:
        console.print(f"old answers are held by features: {base.path.name} was not trained on {', '.join(unknown)}")
    else:
        console.print(f"old answers are held by rehearsing the labels that {base.path.name} was trained with")
    given = {key: one for key, one in (("epochs", epochs), ("learning_rate", learning_rate)) if one is not None}
    config = with_threads(adapt_config(seed, adaptation, **given), threads)
    with progress_bar(console) as progress:
        task = progress.add_task(f"adapting to {scene.name}", total=config.epochs)

        def on_epoch(epoch: int, curves: dict[str, float]) -> None:
            progress.update(task, completed=epoch, description=f"adapting to {scene.name}, loss {curves['loss']:.3f}")

        return adapt_run(
            base,
            old_scenes,
            scene,
            split,
            config,
            adaptation,
            out,
            overwrite=overwrite,
            mask_invalid=invalid == "mask",
            on_epoch=on_epoch,
        )
