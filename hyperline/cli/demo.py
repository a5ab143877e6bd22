"""``hyperline demo``: the main job, end to end, on a real scene."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hyperline.cli.options import percent, progress_bar, stderr


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for everything it makes; an earlier demo there is replaced.",
)
@click.option("--scene", "scene_spec", metavar="SCENE", default="indian-pines", show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the scene.  [default: as tuned]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--rate",
    metavar="HZ",
    type=click.FloatRange(min=0, min_open=True),
    default=50.0,
    show_default=True,
    help="Lines a second at which the strip is played.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all]")
def demo(out: Path, scene_spec: str, epochs: int | None, seed: int, rate: float, threads: int | None) -> None:
    """Train on a real scene, export, and classify it line by line as a sensor would deliver it.

    Indian Pines (AVIRIS, 145 lines of 145 samples, 200 bands, 16 classes), 15 labelled pixels a class.
    """
    from dataclasses import replace

    from hyperline.bundle import read_bundle
    from hyperline.cli.run import draw
    from hyperline.cli.train import train_scene
    from hyperline.errors import require
    from hyperline.scenes import read_scene
    from hyperline.splits import held_out

    require("torch", "train")
    from hyperline.export.bundle import export_run
    from hyperline.runtime.sources.files import SceneSource
    from hyperline.runtime.strip import run_strip

    console = stderr()
    out.mkdir(parents=True, exist_ok=True)
    scene = read_scene(scene_spec)
    click.echo(
        f"1  train    {scene.name}: {scene.lines} lines of {scene.samples} samples, {scene.bands} bands, "
        f"{len(scene.class_names)} classes, 15 labels a class"
    )
    trained = train_scene([scene], out / "run", console, epochs=epochs, seed=seed, threads=threads, overwrite=True)
    click.echo(f"            {trained.record['seconds']:.0f} s; wrote {out / 'run'}")

    bundle_file = export_run(out / "run", out / f"{scene.name}.hlb")
    bundle = read_bundle(bundle_file)
    click.echo(f"2  export   blocks of {bundle.card.block_lines} lines; wrote {bundle_file}")

    truth, _ = held_out(scene, bundle.card.provenance)
    # the strip is scored on pixels that the network was not trained on; the picture shows all the truth
    source = SceneSource(replace(scene, labels=truth), rate)
    with progress_bar(console) as progress:
        task = progress.add_task(f"lines of {scene.name}", total=source.lines)
        summary = run_strip(
            bundle,
            source,
            out / "strip",
            threads=threads,
            overwrite=True,
            on_progress=lambda received: progress.update(task, completed=received),
        )
    picture = draw(out / "strip", scene, bundle.card, summary, console)
    latency = summary.latency_ms
    assert latency is not None and summary.accuracy is not None
    click.echo(
        f"3  run      {summary.classified} lines at {rate:g} lines/s, latency of a block {latency.p50:.1f} ms, "
        f"p99 {latency.p99:.1f} ms; wrote {out / 'strip'}"
    )
    free = run_strip(bundle, replace(source, rate=None), out / "strip-unpaced", threads=threads, overwrite=True)
    click.echo(f"            unpaced: {free.lines_per_second:.0f} lines/s; wrote {out / 'strip-unpaced'}")

    click.echo(f"\nAccuracy on the {summary.accuracy.pixels} labelled pixels not trained on")
    offline = trained.record["offline"]
    rows = (
        ("offline, whole scene as one block", offline["oa"], offline["aa"], offline["kappa"]),
        (
            f"streamed, blocks of {bundle.card.block_lines} lines, ONNX Runtime",
            summary.accuracy.oa,
            summary.accuracy.aa,
            summary.accuracy.kappa,
        ),
    )
    for name, oa, aa, kappa in rows:
        click.echo(f"  {name:<42} OA {percent(oa)}   AA {percent(aa)}   kappa {kappa:.4f}")
    click.echo(f"\nRead next: {out / 'run' / 'run.json'}")
    if picture:
        click.echo(f"Look at:   {picture}")
    (out / "demo.json").write_text(
        json.dumps({"offline": offline, "streamed": summary.as_dict(), "unpaced": free.as_dict()}, indent=1) + "\n"
    )
