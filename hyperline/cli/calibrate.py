"""``hyperline calibrate``: add an FP16 or INT8 model to a bundle, within an accuracy budget."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import percent, radiometry_option, read_noted, stderr

if TYPE_CHECKING:
    from hyperline.bundle import Bundle
    from hyperline.calibration.calibrate import FineTune


@click.command()
@click.argument("bundle_file", metavar="FILE.hlb", type=click.Path(path_type=Path))
@click.option("--lines", "scene_spec", metavar="SCENE", required=True, help="Real lines of the sensor.")
@click.option("--labels", metavar="PATH", help="Label map, where SCENE holds none.")
@radiometry_option
@click.option("--precision", type=click.Choice(["fp16", "int8"]), required=True, help="What to make.")
@click.option(
    "--budget",
    metavar="POINTS",
    type=float,
    help="Points of overall accuracy that it may lose.  [default: 0.3 for int8, 0.05 for fp16]",
)
@click.option(
    "--class-budget",
    metavar="POINTS",
    type=float,
    help="Points that any one class may lose.  [default: 5 times the budget for int8, 30 times for fp16]",
)
@click.option(
    "--agreement",
    metavar="PERCENT",
    type=click.FloatRange(0, 100),
    help="Labels that must stay as they are.  [default: 99 for int8, 99.9 for fp16]",
)
@click.option(
    "--ranges",
    "method",
    type=click.Choice(["auto", "minmax", "percentile", "mse", "entropy"]),
    default="auto",
    show_default=True,
    help="Where INT8 inputs saturate; auto tries them all.",
)
@click.option(
    "--qat",
    metavar="EPOCHS",
    type=click.IntRange(min=0),
    default=0,
    help="Fine-tune the layers where the budget asks for it.",
)
@click.option("--run", "run_dir", metavar="RUN", type=click.Path(path_type=Path), help="What was exported, for --qat.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of --qat.")
@click.option(
    "--report", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the report.  [default: beside FILE]"
)
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=4.0, show_default=True, help="To measure the speed; 0: not."
)
@click.option("--samples", type=click.IntRange(min=1), help="Samples of a line for that.  [default: as SCENE]")
@click.option("--threads", metavar="N", type=click.IntRange(min=1), help="CPU threads.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def calibrate(
    bundle_file: Path,
    scene_spec: str,
    labels: str | None,
    radiometry: Path | None,
    precision: str,
    budget: float | None,
    class_budget: float | None,
    agreement: float | None,
    method: str,
    qat: int,
    run_dir: Path | None,
    seed: int,
    report: Path | None,
    seconds: float,
    samples: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Add a faster model to FILE.hlb that loses at most the budget on real lines, or leave FILE.hlb as it is.

    The first half of the lines sets ranges and drives the search, the second half judges. Pixels that float32 has
    right and the new model has not count as lost, whatever it mends elsewhere. An interrupted search goes on where
    it was.
    """
    from hyperline.bundle import read_bundle
    from hyperline.bundle.bundle import MODELS, add_members
    from hyperline.errors import InputError, require
    from hyperline.machine import cpus, user_cache

    bundle = read_bundle(bundle_file)
    if (qat > 0) != (run_dir is not None):
        raise InputError("--qat EPOCHS and --run RUN go together: fine-tuning starts from the trained network")
    folder = report or bundle_file.parent
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; make it, or choose another with --report DIR")
    require("onnx", "calibrate")
    require("matplotlib", "calibrate")
    from hyperline.calibration.calibrate import BUDGETS, Settings
    from hyperline.calibration.calibrate import calibrate as make_variant
    from hyperline.calibration.lines import read_lines
    from hyperline.calibration.report import write_report
    from hyperline.calibration.search import Budget

    console = stderr()
    threads = threads or cpus()
    usual = BUDGETS[precision]
    points = usual.points if budget is None else budget
    allowed = Budget(
        points,
        points * usual.class_points / usual.points if class_budget is None else class_budget,
        usual.agreement if agreement is None else agreement / 100,
    )
    lines = read_lines(read_noted(scene_spec, labels, console, radiometry), bundle.card)
    for warning in lines.warnings:
        console.print(f"warning: {lines.name}: {warning}")
    if not lines.truth.any():
        console.print(f"note: {lines.name} has no labels to judge by: every label that changes counts as lost")
    with console.status("calibrating") as status:
        settings = Settings(
            precision=precision,
            budget=allowed,
            method=method,
            threads=threads,
            cache=user_cache("calibration"),
            on_step=lambda what: status.update(f"calibrating: {what}"),
        )
        if run_dir is not None:
            settings.fine_tune = _fine_tune(run_dir, bundle, qat, seed, threads)
        variant = make_variant(bundle, lines, settings)
        held = {**bundle.members, MODELS[precision]: variant.model}
        candidate = replace(bundle, members=MappingProxyType(held))
        status.update("the self-test, and the speed of both models in turns")
        speed = _speed(candidate, precision, samples or lines.samples, threads, seconds)
    if speed is not None:
        variant.report["speed"] = speed
    page, picture = write_report(folder, bundle_file.stem, variant, bundle.card.class_names)
    text = json.dumps(variant.report, sort_keys=True)
    unsigned = add_members(
        bundle_file, {MODELS[precision]: variant.model, f"calibration/{precision}.json": text.encode()}
    )
    if unsigned:
        console.print(f"{bundle_file} was signed; it has changed, sign it again: hyperline sign {bundle_file}")
    if as_json:
        click.echo(text)
    else:
        _say(variant.report, precision)
        click.echo(f"{bundle_file} now holds {precision}; {page}, {picture}")


def _fine_tune(run_dir: Path, bundle: Bundle, epochs: int, seed: int, threads: int) -> FineTune:
    from hyperline.errors import InputError, require

    require("torch", "train")
    import onnx

    from hyperline.calibration.finetune import fine_tune
    from hyperline.train.models.mambamoe import MambaMoE
    from hyperline.train.run import load_run

    network, model = load_run(run_dir).network, onnx.load_from_string(bundle.model())
    if not isinstance(network, MambaMoE):
        raise InputError(f"{run_dir} holds a {type(network).__name__}; fine-tuning is for mambamoe: leave it out")
    return lambda layers, ranges, lines: (
        fine_tune(network, model, bundle.card, layers, ranges, lines, epochs=epochs, seed=seed, threads=threads).tensors
    )


def _speed(bundle: Bundle, precision: str, samples: int, threads: int, seconds: float) -> dict[str, Any] | None:
    """Load both models, test the new one, and time them in turns."""
    import numpy as np

    from hyperline.runtime.bench import stepper, take_turns
    from hyperline.runtime.engines import load_engine, self_test

    engines = [load_engine("ort-cpu", bundle.model(one), bundle.card, threads, one) for one in ("fp32", precision)]
    self_test(engines[1], bundle.golden())
    if not seconds:
        return None
    times = take_turns([stepper(engine, bundle, samples) for engine in engines], seconds)
    before, after = (bundle.card.block_lines / float(np.median(spent)) for spent in times)
    return {
        "engine": engines[0].name,
        "native_ops": engines[1].native_ops,
        "samples": samples,
        "threads": threads,
        "fp32": before,
        precision: after,
        "ratio": after / before,
    }


def _say(report: dict[str, Any], precision: str) -> None:
    loss, lines, sizes = report["loss"], report["lines"], report["bytes"]
    accuracy = report["accuracy"]
    if accuracy:
        before, after = (percent(accuracy[one]["oa"]) for one in ("fp32", precision))
        click.echo(f"OA {before} in float32, {after} in {precision} on {lines['labelled_judged']} pixels")
    click.echo(
        f"lost {loss['points']:.3f} points, {loss['worst_class']:.2f} in the worst class; "
        f"{loss['agreement']:.3%} of {lines['pixels_judged']} labels agree"
    )
    kept = [layer["name"] for layer in report.get("layers", []) if layer["why_float"]]
    if kept and len(kept) == len(report["layers"]):
        click.echo("every layer stays in float32: INT8 of any would break the budget")
    elif kept:
        click.echo(f"mixed: {len(kept)} of {len(report['layers'])} layers stay in float32 ({', '.join(kept)})")
    speed = report.get("speed")
    faster = f", {speed['ratio']:.2f} times the lines/s of float32 here" if speed else ""
    click.echo(f"model {sizes[precision] / sizes['fp32']:.0%} of float32's size{faster}")
