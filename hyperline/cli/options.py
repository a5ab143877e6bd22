"""What several commands ask for or show in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from hyperline.scenes import Scene
    from hyperline.sensor import SensorCorrection

_Command = TypeVar("_Command", bound=Callable[..., Any])


class BlockLines(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A multiple of 8, or one of a few words."""

    name = "block_lines"

    def __init__(self, *words: str) -> None:
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word, or the number as int."""
        if isinstance(value, int) or value in self.words:
            return value
        try:
            lines = int(value)
        except ValueError:
            lines = 0
        if lines <= 0 or lines % 8:
            self.fail(f"{value!r} is not {' or '.join(self.words)} or a positive multiple of 8", param, ctx)
        return lines


class BandRanges(click.ParamType):  # type: ignore[type-arg]
    """START:STOP, several with commas, counted from 0 and without STOP."""

    name = "bands"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a tuple of (start, stop)."""
        if isinstance(value, tuple):
            return value
        ranges = []
        for part in value.split(","):
            start, colon, stop = part.partition(":")
            if not colon or not start.strip().isdecimal() or not stop.strip().isdecimal():
                self.fail(f"{part!r} is no START:STOP, such as 0:100 or 3:100,120:200", param, ctx)
            ranges.append((int(start), int(stop)))
        return tuple(ranges)


def sensor_options(command: _Command) -> _Command:
    """Give a command the options that :func:`hyperline.sensor.make_correction` takes, under their names."""
    path = click.Path(path_type=str)
    for option in reversed(
        (
            click.option("--dark", metavar="PATH", type=path, help="Raw lines seen with the shutter closed."),
            click.option("--white", metavar="PATH", type=path, help="Raw lines of a white panel: gives reflectance."),
            click.option("--panel", type=float, metavar="R", help="Reflectance of that panel.  [default: 1]"),
            click.option("--gain", metavar="PATH", type=path, help="Table of radiance per count."),
            click.option("--bad", metavar="PATH", type=path, help="Table that is not 0 where an element is bad."),
            click.option(
                "--unusable",
                type=click.Choice(["refuse", "bad"]),
                help="Elements whose white is not above dark, or whose gain is none.  [default: refuse]",
            ),
            click.option(
                "--mend",
                type=click.Choice(["spectrum", "line"]),
                help="Fill bad elements from their neighbours along this.  [default: spectrum]",
            ),
            click.option("--saturation", metavar="COUNTS", type=float, help="Counts at which an element is saturated."),
            click.option(
                "--on-saturation",
                type=click.Choice(["invalid", "count"]),
                help="What becomes of a saturated pixel.  [default: invalid]",
            ),
            click.option(
                "--dark-drift",
                metavar="TIMES",
                type=click.FloatRange(min=0, min_open=True),
                help="Multiples of its noise that a dark measured in flight may differ from --dark.  [default: 20]",
            ),
            click.option("--bands", metavar="A:B[,C:D]", type=BandRanges(), help="Raw bands to use."),
            click.option("--bin", metavar="N", type=click.IntRange(min=1), help="Make one band of N neighbours."),
            click.option(
                "--bin-samples", metavar="N", type=click.IntRange(min=1), help="Make one sample of N neighbours."
            ),
        )
    ):
        command = option(command)
    return command


def learning_options(command: _Command) -> _Command:
    """Give a command the options of every training: which labels are learnt, and how."""
    for option in reversed(
        (
            click.option("--labels-per-class", type=click.IntRange(min=1), default=15, show_default=True),
            click.option(
                "--split",
                "split_kind",
                type=click.Choice(["random", "blocks", "halves"]),
                default="random",
                show_default=True,
                help="Random pixels of every class; or spatial blocks, or halves of the scene, with a guard band "
                "(honest).",
            ),
            click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
            click.option("--epochs", type=click.IntRange(min=1), help="Passes over the scene.  [default: as tuned]"),
            click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="[default: as tuned]"),
            click.option(
                "--invalid",
                type=click.Choice(["refuse", "mask"]),
                default="refuse",
                show_default=True,
                help="What to do with pixels to learn from that hold NaN or infinities.",
            ),
            click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all]"),
        )
    ):
        command = option(command)
    return command


def radiometry_option(command: _Command) -> _Command:
    """Give a command ``--radiometry``, for scenes of raw lines."""
    return click.option(
        "--radiometry",
        metavar="FILE.npz",
        type=click.Path(path_type=Path),
        help="Correction of the sensor, for raw lines: see hyperline radiometry make.",
    )(command)


def correction_of(
    radiometry: Path | None, sensor: dict[str, Any], size: tuple[int, int], console: Console
) -> SensorCorrection | None:
    """Read or make the correction that the options of a command ask for.

    Args:
        radiometry: a file, or None.
        sensor: of :func:`sensor_options`; None for options that were not given.
        size: (samples, bands) of the raw lines.
        console: for what had to be assumed.

    Raises:
        InputError: both a file and options were given, or either is of no use.
    """
    from hyperline.errors import InputError
    from hyperline.sensor import make_correction, read_correction

    given = {name: value for name, value in sensor.items() if value is not None}
    if radiometry is not None:
        if given:
            first = next(iter(given)).replace("_", "-")
            raise InputError(f"{radiometry} says all of the sensor; leave out --{first}, or the file")
        return read_correction(radiometry)
    if not given:
        return None
    correction, notes = make_correction(**given, size=size)
    for note in notes:
        console.print(f"note: {note}")
    return correction


def stderr() -> Console:
    """Return the console for everything that is not the answer; stdout is for the answer."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """Show a bar with the count and the time left, gone when done; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    progress = Progress(*columns, TextColumn("left"), console=console, transient=True, disable=not console.is_terminal)
    # Older releases of rich (13.7 to 14.0 at least) end even a disabled bar with an empty line.
    with progress if console.is_terminal else nullcontext():
        yield progress


def read_noted(spec: str, labels: str | None, console: Console, radiometry: Path | None = None) -> Scene:
    """Read a scene, correct it where ``radiometry`` is given, and show what its reader had to assume."""
    from hyperline.radiometry import correct_scene
    from hyperline.scenes import read_scene
    from hyperline.sensor import read_correction

    scene = read_scene(spec, labels)
    if radiometry is not None:
        scene = correct_scene(scene, read_correction(radiometry))
    for note in scene.notes:
        console.print(f"note: {note}")
    return scene


def percent(value: float | None) -> str:
    """Write a fraction as a percentage with two digits."""
    return "–" if value is None else f"{100 * value:.2f} %"
