"""``hyperline repair``: make the maps of a strip readable after a crash or a power cut."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def repair(folder: Path, as_json: bool) -> None:
    """Cut the maps in DIR back to the last block that is whole, and let their headers say so.

    Every block is read back and compared with its record in blocks.log. To go on with the strip instead:
    hyperline run ... --out DIR --resume.
    """
    from hyperline.runtime.sinks.envi import repair_maps

    repaired = repair_maps(folder)
    if as_json:
        click.echo(json.dumps(asdict(repaired)))
    elif repaired.removed:
        click.echo(f"{folder}: {repaired.lines} lines are whole; {repaired.removed} behind them are gone")
    else:
        click.echo(f"{folder}: all {repaired.lines} lines are whole")
    for name in repaired.damaged:
        click.echo(f"{folder / name} is damaged; go on with the strip (--resume) to have it written anew", err=True)
