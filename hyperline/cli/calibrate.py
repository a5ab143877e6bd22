"""``hyperline calibrate``: add an FP16 or INT8 model to a bundle, within an accuracy budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hyperline.cli.options import percent, radiometry_option, read_noted, stderr


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
    from hyperline.api.calibration import calibrate_bundle, read_asked

    console = stderr()
    read_asked(bundle_file, qat, run_dir, report)  # before the lines are, which may take a while
    scene = read_noted(scene_spec, labels, console, radiometry)
    with console.status("calibrating") as status:
        made = calibrate_bundle(
            bundle_file,
            scene,
            precision,
            budget=budget,
            class_budget=class_budget,
            agreement=agreement,
            method=method,
            qat=qat,
            run=run_dir,
            seed=seed,
            report=report,
            seconds=seconds,
            samples=samples,
            threads=threads,
            on_step=lambda what: status.update(f"calibrating: {what}"),
            on_warning=lambda text: console.print(f"warning: {text}"),
        )
    if made.unsigned:
        console.print(f"{bundle_file} was signed; it has changed, sign it again: hyperline sign {bundle_file}")
    if as_json:
        click.echo(json.dumps(made.report, sort_keys=True))
    else:
        page, picture = made.files
        _say(made.report, precision)
        click.echo(f"{bundle_file} now holds {precision}; {page}, {picture}")


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
