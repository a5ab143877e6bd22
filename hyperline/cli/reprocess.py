"""``hyperline reprocess``: an archive of strips, classified once more with a new bundle."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from hyperline.cli.options import progress_bar, radiometry_option, stderr


@click.command()
@click.argument("bundle_file", metavar="FILE.hlb", type=click.Path(path_type=Path))
@click.argument("strips", metavar="STRIP…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="A folder a strip below.")
@radiometry_option
@click.option("--engine", default="ort-cpu", show_default=True, help="What runs the model.")
@click.option("--precision", default="fp32", show_default=True, help="Which of the bundle's models.")
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask scheduler, for many machines  [default: this one].")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes here, of one thread each  [default: a CPU each]."
)
def reprocess(
    bundle_file: Path,
    strips: tuple[Path, ...],
    out: Path,
    radiometry: Path | None,
    engine: str,
    precision: str,
    scheduler: str | None,
    workers: int | None,
) -> None:
    """Classify each STRIP, a file as `hyperline run --source` takes it, with FILE.hlb into FOLDER/NAME.

    The same command goes on where it was interrupted: a strip that is done with this very bundle and correction is left
    as it is. With --scheduler all machines must see bundle, strips and folder under the same paths.
    """
    from hyperline.bundle import read_bundle
    from hyperline.cluster import work_through
    from hyperline.errors import InputError
    from hyperline.runtime.reprocess import Job, reprocess_strip

    names = Counter(strip.stem for strip in strips)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise InputError(f"{names[twice[0]]} strips are called {twice[0]}; give each a name of its own")
    missing = [strip for strip in strips if not strip.exists()]
    if missing:
        raise InputError(f"{missing[0]} is not there; give files of strips")
    bundle = read_bundle(bundle_file)
    bundle.model(precision)  # refused here, where it is not there
    correction = None if radiometry is None else hashlib.sha256(radiometry.read_bytes()).hexdigest()
    pieces = {}
    for strip in strips:
        job = Job(
            str(bundle_file.resolve()),
            bundle.sha256,
            str(strip.resolve()),
            str((out / strip.stem).resolve()),
            engine,
            precision,
            None if radiometry is None else str(radiometry.resolve()),
        )
        # All that its maps depend on: done with another correction, or of another strip of that name, is not done.
        facts = json.dumps([bundle.sha256, job.strip, job.out, engine, precision, correction])
        pieces[f"{strip.stem}-{precision}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"] = (job,)
    console = stderr()
    with progress_bar(console) as progress:
        task = progress.add_task("strips", total=len(pieces))

        def on_done(_: str, summary: dict[str, Any]) -> None:
            progress.advance(task)
            progress.update(task, description=f"{summary['source']}: {summary['classified']} lines")

        results = work_through(
            pieces, reprocess_strip, out / "done", scheduler=scheduler, workers=workers, on_done=on_done
        )
    lines = sum(summary["classified"] for summary in results.values())
    click.echo(f"{len(results)} strips, {lines} lines, below {out}")
