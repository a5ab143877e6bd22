"""``hyperline benchmark``: models on the same splits, over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import progress_bar, stderr

if TYPE_CHECKING:
    from hyperline.train.benchmark.protocol import Protocol


@click.command()
@click.argument("protocol_files", metavar="PROTOCOL.toml...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="Folder for the report.")
@click.option(
    "--page",
    metavar="FILE.md",
    type=click.Path(path_type=Path),
    help="Also write report, pictures and cells here, as FILE.md, FILE.png, FILE.json; takes cells from there.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask scheduler, for many machines  [default: this one].")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes here, of one thread each  [default: a CPU each]."
)
@click.option("--seeds", type=click.IntRange(min=1), help="Only so many of the protocols' seeds.")
@click.option("--model", "models", multiple=True, help="Only this of the protocols' models; repeat for more.")
@click.option("--speed/--no-speed", default=True, show_default=True, help="Measure lines per second, on this machine.")
def benchmark(
    protocol_files: tuple[Path, ...],
    out: Path,
    page: Path | None,
    scheduler: str | None,
    workers: int | None,
    seeds: int | None,
    models: tuple[str, ...],
    speed: bool,
) -> None:
    """Measure what each PROTOCOL.toml asks for: every model, every seed, offline and streamed.

    Writes report.md, cells.csv, accuracy.png and accuracy-cost.png to FOLDER, and a file for each cell below it. The
    same command goes on where it was interrupted; nothing is measured twice, nor what an earlier page has brought. An
    experiment whose scene is missing is skipped, which the report and the exit code say.
    """
    from hyperline.cli.benchmark_speed import measure_speed, speed_name
    from hyperline.cluster import work_through
    from hyperline.disk import replace_file
    from hyperline.environment import environment
    from hyperline.errors import HyperlineError, InputError, require

    require("torch", "train")
    from hyperline.train.benchmark.plot import accuracy_picture, cost_picture
    from hyperline.train.benchmark.protocol import available, narrowed, read_protocol
    from hyperline.train.benchmark.table import as_csv, markdown
    from hyperline.train.benchmark.work import cells, run_cell

    whole = [read_protocol(file) for file in protocol_files]
    asked = narrowed(whole, seeds, models)
    protocols, skipped = available(asked)
    if not protocols:
        raise InputError(f"no experiment can be measured: {'; '.join(skipped)}")
    wanted = {cell.name: cell for protocol in protocols for cell in cells(protocol)}
    known = _cells_beside(page)
    of_protocols = {cell.name for protocol in whole for cell in cells(protocol)}
    kept = {name: held for name, held in known.items() if name in of_protocols}
    machine = environment()["cpu"]
    console = stderr()
    with progress_bar(console) as progress:
        task = progress.add_task("cells", total=len(wanted))

        def on_done(name: str, result: dict[str, Any]) -> None:
            progress.advance(task)
            progress.update(task, description=f"{name.rpartition('-')[0]}: OA {100 * result['streamed']['oa']:.1f} %")
            if page is not None:  # an evening's cells stay, however it ends
                kept[name] = result
                _write_cells(page, kept)

        pieces = {name: (cell,) for name, cell in wanted.items()}
        results = work_through(
            pieces,
            run_cell,
            out / "cells",
            known=known,
            scheduler=scheduler,
            workers=workers,
            on_done=on_done,
        )
        other = next((name for name, cell in wanted.items() if results[name]["code"] != cell.code), None)
        if other is not None:
            raise HyperlineError(
                f"{other} was measured by a worker with other training code than here; install the same on all, remove "
                f"{out / 'cells' / other}.json, and give the command again"
            )
        progress.update(task, completed=len(wanted), description="cells")
        speeds: dict[tuple[str, str], dict[str, Any]] = {}
        if speed:
            experiments = [(protocol.name, one) for protocol in protocols for one in protocol.experiments]
            named = {(name, one.title): (speed_name(one, machine["model"]), one) for name, one in experiments}
            timed = {name: (one, machine["model"]) for name, one in named.values()}
            task = progress.add_task("lines per second", total=len(timed))
            # one at a time, and here: a second process would slow the first
            found = work_through(timed, measure_speed, out / "speed", workers=1)
            progress.update(task, completed=len(timed))
            speeds = {place: found[name] for place, (name, _) in named.items()}
    words = [*map(str, protocol_files), *([] if seeds is None else [f"--seeds {seeds}"])]
    words += [f"--model {name}" for name in models]
    circumstances = _circumstances(words, protocols, f"{machine['model']}, {machine['usable']} cores")
    report = markdown(protocols, results, speeds, circumstances, skipped)
    replace_file(out / "report.md", report.encode())
    replace_file(out / "cells.csv", as_csv(protocols, results).encode())
    pictures = [out / "accuracy.png"]
    accuracy_picture(pictures[0], protocols, results)
    if speeds:
        pictures.append(out / "accuracy-cost.png")
        cost_picture(pictures[1], protocols, results, speeds)
    if page is not None:
        _write_cells(page, kept | results)
        _write_page(page, report, pictures)
    click.echo(report)
    if skipped:
        raise InputError(f"{len(skipped)} experiments were skipped: {'; '.join(skipped)}; the report has the others")


def _circumstances(words: Sequence[str], protocols: Sequence[Protocol], machine: str) -> str:
    from hyperline import __version__
    from hyperline.train.benchmark.work import cells

    codes = sorted({cell.code for protocol in protocols for cell in cells(protocol)})
    return (
        f"`hyperline benchmark {' '.join(words)}`, hyperline {__version__}, training code "
        f"{', '.join(codes)} (a hash by kind of model), one thread a cell, on {machine}."
    )


def _cells_beside(page: Path | None) -> dict[str, dict[str, Any]]:
    """Read the cells of an earlier page: by name, and so of the same model, seed, settings and code."""
    file = None if page is None else page.with_suffix(".json")
    if file is None or not file.exists():
        return {}
    from hyperline.errors import InputError

    try:
        held = json.loads(file.read_bytes())
        if not all(isinstance(one, dict) and {"code", "offline", "streamed"} <= set(one) for one in held.values()):
            raise ValueError("not every entry is a cell")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"{file} holds no cells of a benchmark ({error}); remove it, and all are measured anew"
        ) from error
    cells: dict[str, dict[str, Any]] = held
    return cells


def _write_cells(page: Path, cells: Mapping[str, dict[str, Any]]) -> None:
    """Write cells beside a page, named after it, a line each."""
    from hyperline.disk import disk_errors, replace_file

    with disk_errors(page.parent):
        page.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(result)}" for name, result in sorted(cells.items()))
    replace_file(page.with_suffix(".json"), f"{{\n{lines}\n}}\n".encode())


def _write_page(page: Path, report: str, pictures: Sequence[Path]) -> None:
    """Write the report as a page of the documentation, its pictures beside it and named after it."""
    from hyperline.disk import replace_file

    shown = ""
    for picture in pictures:
        name = f"{page.stem}{picture.stem.removeprefix('accuracy')}"
        replace_file(page.parent / f"{name}.png", picture.read_bytes())
        shown += f"\n![{name}]({name}.png)\n"
    shown += f"\nEach model with each seed, by a hash of settings and code: [{page.stem}.json]({page.stem}.json).\n"
    replace_file(page, (report + shown).encode())
