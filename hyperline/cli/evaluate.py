"""``hyperline evaluate``: how accurate is a run or a bundle on a scene."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import BlockLines, percent, progress_bar, radiometry_option, read_noted, stderr

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from hyperline.api.classifier import Classifier
    from hyperline.scenes import Scene


@click.command()
@click.argument("model", metavar="RUN|BUNDLE", type=click.Path(path_type=Path, exists=True))
@click.argument("scene_spec", metavar="SCENE")
@click.option("--labels", metavar="PATH", help="Label map, where SCENE holds none.")
@radiometry_option
@click.option(
    "--block-lines",
    type=BlockLines("full"),
    help="Lines in a block, for a RUN; a BUNDLE has its own.  [default: 8]",
)
@click.option("--engine", default="ort-cpu", show_default=True, help="What runs a BUNDLE.")
@click.option("--precision", default="fp32", show_default=True, help="Which of a BUNDLE's models.")
@click.option("--against", metavar="PRECISION", help="A second of a BUNDLE's models, to compare class by class.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    model: Path,
    scene_spec: str,
    labels: str | None,
    radiometry: Path | None,
    block_lines: int | str | None,
    engine: str,
    precision: str,
    against: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure the accuracy of RUN or BUNDLE on the labels of SCENE.

    On the scene it was trained on, only pixels that it was not trained on count. With --against, two models of a
    bundle are compared: the change is from that one to this.
    """
    from hyperline.api.classifier import open_bundle
    from hyperline.classes import class_fault, renumbered
    from hyperline.errors import InputError
    from hyperline.match import require_units
    from hyperline.metrics import Metrics, Reliability
    from hyperline.radiometry import fit_scene
    from hyperline.splits import held_out

    console = stderr()
    scene = read_noted(scene_spec, labels, console, radiometry)
    other = None
    if model.is_dir():
        if against is not None:
            raise InputError(f"--against compares the models of a bundle; {model} is a run: export it first")
        class_map, confidence, facts = _of_run(model, scene, block_lines, threads)
    else:
        if block_lines is not None:
            raise InputError(
                f"--block-lines is for a run; {model.name} was exported with its own, export the run again"
            )
        classifier = open_bundle(model, engine=engine, precision=precision, threads=threads)
        if against is not None:
            classifier.bundle.model(against)  # refused before the scene is classified
        class_map, confidence, facts = _of_bundle(classifier, scene, console)
        if against is not None:
            other, _, _ = _of_bundle(replace(classifier, precision=against), scene, console)
    training, resampling = facts.pop("training"), facts.pop("resampling")
    require_units(scene, scene.units, training)
    if resampling is not None:
        console.print(f"note: {scene.name}: {resampling}")
        scene = fit_scene(scene, resampling)
        facts["resampling"] = resampling.as_dict()
    names: tuple[str, ...] = facts.pop("class_names")
    scene = renumbered(scene, names)
    truth, own = held_out(scene, training)
    if truth is None:
        raise InputError(f"{scene.name} has no labels to judge by; give a label map with --labels PATH")
    if fault := class_fault(scene, names):
        raise InputError(f"{fault}; give labels in the model's numbering")
    metrics = Metrics.from_maps(truth, class_map, len(names))
    reliability = Reliability.from_maps(truth, class_map, confidence)
    before = agreement = None
    if other is not None:
        before = Metrics.from_maps(truth, other, len(names))
        valid = (class_map > 0) | (other > 0)
        agreement = float((class_map == other)[valid].mean()) if valid.any() else 1.0
    if as_json:
        compared = {}
        if before is not None:
            compared = {"against": before.as_dict() | {"precision": against, "agreement": agreement}}
        named = {"class_names": names, "scene": scene.name, "model": model.name}
        sure = {"ece": reliability.ece, "reliability": asdict(reliability)}
        click.echo(json.dumps(metrics.as_dict() | sure | facts | named | compared))
        return
    pixels = "labelled pixels not trained on" if own else "labelled pixels"
    blocks = f"blocks of {facts['block_lines']} lines, {facts['engine']} {facts['precision']}"
    click.echo(f"{scene.name}, {metrics.pixels} {pixels}, {blocks}")
    click.echo(f"OA {percent(metrics.oa)}, AA {percent(metrics.aa)}, kappa {metrics.kappa:.4f}")
    click.echo(f"confidence is off by {percent(reliability.ece)} (ECE)")
    if before is not None:
        oa, aa = 100 * (metrics.oa - before.oa), 100 * (metrics.aa - before.aa)
        click.echo(f"against {against}: OA {oa:+.3f} points, AA {aa:+.3f}; {percent(agreement)} of all labels agree")
    width = max(map(len, names))
    for index, (name, right, row) in enumerate(zip(names, metrics.per_class, metrics.confusion, strict=True)):
        was = before.per_class[index] if before else None
        change = f"  {100 * (right - was):+.2f}" if right is not None and was is not None else ""
        click.echo(f"  {name:<{width}}  {percent(right):>8}  of {sum(row)}{change}")


def _of_run(
    path: Path, scene: Scene, block_lines: int | str | None, threads: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.floating], dict[str, Any]]:
    from hyperline.errors import require

    torch = require("torch", "train")
    from hyperline.match import match_run
    from hyperline.radiometry import fit_scene
    from hyperline.train.confidence import labels_and_confidence
    from hyperline.train.run import STREAMED_BLOCK_LINES, load_run, whole_scene_block_lines
    from hyperline.train.trainer import predict_logits

    if threads:
        torch.set_num_threads(threads)
    run = load_run(path)
    lines = whole_scene_block_lines(scene) if block_lines == "full" else block_lines or STREAMED_BLOCK_LINES
    assert isinstance(lines, int)
    resampling = match_run(scene, path.name, run.network.config.bands, run.record)
    return *labels_and_confidence(predict_logits(run.network, fit_scene(scene, resampling), lines)), {
        "resampling": resampling,
        "block_lines": lines,
        "engine": "torch",
        "precision": "fp32",
        "training": run.record,
        "class_names": run.class_names,
    }


def _of_bundle(
    classifier: Classifier, scene: Scene, console: Console
) -> tuple[NDArray[np.uint8], NDArray[np.floating], dict[str, Any]]:
    with progress_bar(console) as progress:
        task = progress.add_task(f"lines of {scene.name}", total=scene.lines)
        found = classifier.classify(scene, lambda lines: progress.update(task, completed=lines))
    card = classifier.card
    return (
        found.labels,
        found.confidence,
        {
            "resampling": found.resampling,
            "block_lines": card.block_lines,
            "engine": classifier.engine,
            "precision": classifier.precision,
            "training": card.provenance,
            "class_names": card.class_names,
        },
    )
