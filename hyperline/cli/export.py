"""``hyperline export``: a run folder becomes a bundle that flies."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hyperline.cli.options import radiometry_option, read_noted, stderr


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.hlb",
    help="Bundle to make or replace.",
)
@click.option(
    "--block-lines",
    type=int,
    default=8,
    show_default=True,
    metavar="K",
    help="Lines in a block, a multiple of 8: the latency.",
)
@click.option(
    "--lines",
    metavar="SCENE",
    help="Real lines to check the export on; by default those that the training left in RUN.",
)
@radiometry_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export(run: Path, out: Path, block_lines: int, lines: str | None, radiometry: Path | None, as_json: bool) -> None:
    """Export a trained run to a bundle. Refuses where the graph differs from the network."""
    from hyperline.errors import InputError

    if radiometry is not None and lines is None:
        raise InputError(
            f"{radiometry} corrects raw lines, and none are given: name them with --lines SCENE, or leave out "
            "--radiometry; the lines that the training left in RUN are corrected already"
        )
    from hyperline.api.training import export_run

    console = stderr()
    scene = read_noted(lines, None, console, radiometry) if lines else None
    with console.status("exporting the step and checking it against the network; this takes half a minute"):
        bundle = export_run(run, out, block_lines, scene)
    parity = bundle.card.parity
    if as_json:
        report = {
            "path": str(out),
            "bytes": bundle.size,
            "sha256": bundle.sha256,
            "block_lines": block_lines,
            "parity": parity,
        }
        click.echo(json.dumps(report))
        return
    click.echo(
        f"{out}: {bundle.size / 1e6:.1f} MB, blocks of {block_lines} lines; the graph equals the network: "
        f"logits within {parity['max_logit_difference']:.1e}, labels equal on "
        f"{parity['equal_labels']:.2%} of {parity['pixels']:.0f} pixels"
    )
