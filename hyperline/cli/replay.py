"""``hyperline replay``: send a scene as a sensor would, and damage it on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hyperline.runtime.sources import Source
    from hyperline.runtime.sources.sender import Shutter


@click.command()
@click.argument("scene_spec", metavar="SCENE")
@click.option(
    "--to",
    metavar="WIRE",
    required=True,
    help="tcp://HOST:PORT calls a receiver, tcp-listen://HOST:PORT waits for one, - is standard output.",
)
@click.option(
    "--rate",
    metavar="HZ",
    type=click.FloatRange(min=0, min_open=True),
    help="Lines a second; without it, as fast as the receiver takes them.",
)
@click.option(
    "--repeat", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="Play it N times."
)
@click.option("--labels", metavar="PATH", type=click.Path(), help="Label map; replaces the scene's.")
@click.option("--truth", is_flag=True, help="Send the labels behind the values, for the receiver to score against.")
@click.option(
    "--patience",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="How long to wait for a receiver that is not there, or that went away.",
)
@click.option(
    "--strip",
    metavar="NUMBER",
    type=click.IntRange(0, 2**64 - 1),
    help="The strip's number; a sender started again goes on with its strip by giving the same [default: random].",
)
@click.option(
    "--first-sequence",
    metavar="NUMBER",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Sequence number of the first line; near 4294967295 it soon wraps.",
)
@click.option(
    "--damage",
    "damage_spec",
    metavar="KIND=P,...",
    default="",
    help="Probability a line of: lost, duplicated, reordered, corrupted (a bit), cut (bytes missing), resized.",
)
@click.option("--dark", "darks", metavar="PATH", type=click.Path(), help="Raw lines seen with the shutter closed.")
@click.option(
    "--shutter",
    metavar="EVERY:LINES",
    help="Close the shutter for so many lines, every so many: dark lines from --dark stand in their place.",
)
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Of the damage.")
def replay(
    scene_spec: str,
    to: str,
    rate: float | None,
    repeat: int,
    labels: str | None,
    truth: bool,
    patience: float,
    strip: int | None,
    first_sequence: int,
    damage_spec: str,
    darks: str | None,
    shutter: str | None,
    seed: int,
) -> None:
    """Send SCENE line by line, in the framing of docs/framing.md.

    This is the reference for senders of your own, and the load for tests: --damage does to the lines
    what bad links do.
    """
    import secrets

    from hyperline.cli.options import read_noted, stderr
    from hyperline.errors import InputError
    from hyperline.runtime.sources.files import SceneSource
    from hyperline.runtime.sources.sender import Damage, describe, send_strip
    from hyperline.runtime.sources.transport import STDOUT, is_wire, open_transport

    damage = Damage.parse(damage_spec)
    if not is_wire(to):
        raise InputError(f"--to {to} is no wire; give tcp://HOST:PORT, tcp-listen://HOST:PORT or -")
    source = SceneSource(read_noted(scene_spec, labels, stderr()), rate, repeat)
    if truth and not source.truth_classes:
        raise InputError(f"{source.name} has no labels to send with --truth; give --labels")
    closes = _shutter(shutter, darks, source)
    number = secrets.randbits(64) if strip is None else strip
    header = describe(source, strip=number, first_sequence=first_sequence, truth=truth)
    report = send_strip(
        source, header, open_transport(to, STDOUT), patience=patience, damage=damage, seed=seed, shutter=closes
    )
    said = f"{source.name}: {report.lines} lines sent"
    if report.damaged:
        said += f", {report.damaged} of them damaged"
    if report.reconnections:
        said += f", {report.reconnections} reconnections"
    click.echo(said, err=True)  # standard output may be the wire


def _shutter(spec: str | None, darks: str | None, source: Source) -> Shutter | None:
    """Return what --shutter and --dark say.

    Raises:
        InputError: one is given without the other, EVERY:LINES is written otherwise, or the dark lines are of another
            size than the scene's.
    """
    from hyperline.cli.options import read_noted, stderr
    from hyperline.errors import InputError
    from hyperline.runtime.sources.sender import Shutter

    if spec is None and darks is None:
        return None
    if spec is None or darks is None:
        raise InputError("--shutter EVERY:LINES and --dark PATH go together")
    every, _, lines = spec.partition(":")
    if not (every.isascii() and every.isdigit() and lines.isascii() and lines.isdigit()):
        raise InputError(f"--shutter {spec!r}: give EVERY:LINES, as 1000:32")
    cube = read_noted(darks, None, stderr()).cube
    if cube.shape[1:] != (source.samples, source.bands):
        raise InputError(
            f"{darks} has lines of {cube.shape[1]} samples × {cube.shape[2]} bands; {source.name} has "
            f"{source.samples} × {source.bands}"
        )
    return Shutter(cube, int(every), int(lines))
