"""``hyperline benchmark``: models on the same splits, over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hyperline.cli.options import progress_bar, stderr


@click.command()
@click.argument("protocol_file", metavar="PROTOCOL.toml", type=click.Path(path_type=Path))
@click.option("--out", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="Folder for the report.")
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask scheduler, for many machines  [default: this one].")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes here, of one thread each  [default: a CPU each]."
)
@click.option("--seeds", type=click.IntRange(min=1), help="Only so many of the protocol's seeds.")
@click.option("--model", "models", multiple=True, help="Only this of the protocol's models; repeat for more.")
def benchmark(
    protocol_file: Path,
    out: Path,
    scheduler: str | None,
    workers: int | None,
    seeds: int | None,
    models: tuple[str, ...],
) -> None:
    """Measure what PROTOCOL.toml asks for: every model, every seed, offline and streamed.

    Writes report.md, cells.csv and accuracy.png to FOLDER, and a file for each cell below FOLDER/cells. The same
    command goes on where it was interrupted; nothing is measured twice.
    """
    from hyperline import __version__
    from hyperline.cluster import work_through
    from hyperline.disk import replace_file
    from hyperline.environment import environment
    from hyperline.errors import require

    require("torch", "train")
    from hyperline.train.benchmark.plot import accuracy_picture
    from hyperline.train.benchmark.protocol import narrowed, read_protocol
    from hyperline.train.benchmark.table import as_csv, markdown
    from hyperline.train.benchmark.work import cells, run_cell

    protocol = narrowed(read_protocol(protocol_file), seeds, models)
    pieces = {cell.name: (cell,) for cell in cells(protocol)}
    console = stderr()
    with progress_bar(console) as progress:
        task = progress.add_task(protocol.name, total=len(pieces))

        def on_done(name: str, result: dict[str, Any]) -> None:
            progress.advance(task)
            progress.update(task, description=f"{name.rpartition('-')[0]}: OA {100 * result['streamed']['oa']:.1f} %")

        results = work_through(pieces, run_cell, out / "cells", scheduler=scheduler, workers=workers, on_done=on_done)
        progress.update(task, completed=len(pieces), description=protocol.name)
    facts = environment()
    circumstances = (
        f"`hyperline benchmark {protocol_file.name}`, hyperline {__version__}, one thread a cell, on "
        f"{facts['cpu']['model']}, {facts['cpu']['usable']} cores."
    )
    report = markdown(protocol, results, circumstances)
    replace_file(out / "report.md", report.encode())
    replace_file(out / "cells.csv", as_csv(protocol, results).encode())
    accuracy_picture(out / "accuracy.png", protocol, results)
    click.echo(report)
