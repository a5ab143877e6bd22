"""``hyperline doctor``: what is here, what is not, and what to do about it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Where a strip is to be written: its disk is tried  [default: here].",
)
@click.option("--source", metavar="SRC", help="Try to reach this source, as hyperline run takes it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(out: Path, source: str | None, as_json: bool) -> None:
    """Look at this machine and installation. Each fault comes with its fix.

    Looks at versions, CPU, clocks, power mode, heat, GPU, native operators, engines, disk, time, network, cameras;
    takes some seconds. Exits with 1 where nothing can be flown as it is, or the source does not answer.
    """
    from hyperline.doctor import examine

    findings = list(examine(out, source))
    if as_json:
        click.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            click.echo(f"{'ok' if finding.ok else '--'}  {finding.subject:<{width}}  {finding.detail}")
            if finding.fix:
                click.echo(f"    {'':<{width}}  -> {finding.fix}")
    unreachable = any(finding.subject.startswith("source ") and not finding.ok for finding in findings)
    if unreachable or not any(finding.ok and finding.subject.startswith("engine ") for finding in findings):
        sys.exit(1)
