"""``hyperline report``: one HTML file of whatever there is to show."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from hyperline.cli.options import stderr

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("strip", metavar="[STRIP]", required=False, type=_FILE)
@click.option("--out", metavar="FILE.html", required=True, type=_FILE, help="The report; an earlier one is replaced.")
@click.option("--bundle", metavar="FILE.hlb", type=_FILE, help="The model, with the accuracy of its precisions.")
@click.option(
    "--bench", "benches", metavar="JSON", multiple=True, type=_FILE, help="Of hyperline bench --json; may be repeated."
)
@click.option(
    "--evaluation",
    "evaluations",
    metavar="JSON",
    multiple=True,
    type=_FILE,
    help="Of hyperline evaluate --json; may be repeated.",
)
@click.option("--truth", metavar="SCENE|MAP", help="Labels of the strip's pixels: a scene with labels, or a map.")
@click.option("--training", metavar="RUN", type=_FILE, help="Folder of hyperline train.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def report(
    strip: Path | None,
    out: Path,
    bundle: Path | None,
    benches: tuple[Path, ...],
    evaluations: tuple[Path, ...],
    truth: str | None,
    training: Path | None,
    as_json: bool,
) -> None:
    """Make one HTML file of the strip in folder STRIP, of benches, evaluations and a bundle, whichever there are.

    The file needs no network and no other file. A strip of any length gives at most 20 MB.
    """
    from hyperline.report import read_inputs, write_report

    inputs = read_inputs(strip, bundle=bundle, benches=benches, evaluations=evaluations, truth=truth, training=training)
    written = write_report(inputs, out, ["hyperline", *sys.argv[1:]])
    console = stderr()
    for note in inputs.notes:
        console.print(f"note: {note}")
    if as_json:
        click.echo(json.dumps(asdict(written) | {"path": str(written.path)}))
        return
    click.echo(f"wrote {written.path}, {written.bytes / 1e6:.1f} MB: {', '.join(written.sections)}")
