"""``hyperline bench``: how fast is a bundle here, and what does it take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import stderr

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperline.bundle import Bundle


class Several(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """One value or several with commas: a sweep."""

    def __init__(self, kind: Callable[[str], Any], name: str) -> None:
        self._kind, self.name = kind, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a tuple."""
        if isinstance(value, tuple):
            return value
        try:
            parts = tuple(self._kind(part.strip()) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is no {self.name}, nor several with commas", param, ctx)
        if len(set(parts)) < len(parts):
            self.fail(f"{value!r} names one twice", param, ctx)
        return parts


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _word(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


_COUNTS, _WORDS = Several(_count, "positive number"), Several(_word, "name")
_SECONDS = click.FloatRange(min=0)


@click.command()
@click.argument("files", metavar="FILE.hlb...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--samples", metavar="N[,N]", type=_COUNTS, default="1024", show_default=True, help="Samples of a line.")
@click.option(
    "--engine", "engines", metavar="NAME[,NAME]", type=_WORDS, default="ort-cpu", show_default=True, help="Engine."
)
@click.option(
    "--precision",
    "precisions",
    metavar="NAME[,NAME]",
    type=_WORDS,
    default="fp32",
    show_default=True,
    help="Which of the bundle's models.",
)
@click.option("--threads", metavar="N[,N]", type=_COUNTS, help="Threads of the engine  [default: all CPUs].")
@click.option(
    "--rate",
    metavar="HZ",
    type=click.FloatRange(min=0, min_open=True),
    default=330.0,
    show_default=True,
    help="Lines a second of the sensor, for the runs at its pace.",
)
@click.option(
    "--path",
    "paths",
    multiple=True,
    type=click.Choice(["step", "strip"]),
    help="step: the engine alone; strip: with source, ring, guards and maps.  [default: both]",
)
@click.option(
    "--pace",
    "paces",
    multiple=True,
    type=click.Choice(["flat-out", "sensor"]),
    help="As fast as lines are taken, or at --rate.  [default: both]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="How long each run is.",
)
@click.option("--warm-up", type=_SECONDS, default=1.0, show_default=True, help="Seconds before that do not count.")
@click.option(
    "--idle-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="How long the machine's power at rest is measured, where there is a sensor.",
)
@click.option("--power/--no-power", default=True, help="Read power sensors.")
@click.option("--floor/--no-floor", default=True, help="Measure the arithmetic floor.")
@click.option("--profile", is_flag=True, help="Show where the time of a step goes, operator by operator.")
@click.option(
    "--maps",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder on the disk whose writing is to be measured  [default: the temporary one].",
)
@click.option(
    "--compare",
    "as_comparison",
    is_flag=True,
    help="Time two variants step beside step: two files, or one with two engines or precisions.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/bench.schema.json).")
def bench(
    files: tuple[Path, ...],
    samples: tuple[int, ...],
    engines: tuple[str, ...],
    precisions: tuple[str, ...],
    threads: tuple[int, ...] | None,
    rate: float,
    paths: tuple[Any, ...],
    paces: tuple[Any, ...],
    seconds: float,
    warm_up: float,
    idle_seconds: float,
    power: bool,
    floor: bool,
    profile: bool,
    maps: Path | None,
    as_comparison: bool,
    as_json: bool,
) -> None:
    """Measure FILE.hlb on this machine: speed, latency, memory, energy, and the distance to the arithmetic floor.

    Several files, and several values with commas, are a sweep: one row each. docs/bench.md says how each figure is
    measured.
    """
    from hyperline.bundle import read_bundle
    from hyperline.cli.bench_text import print_bench, print_comparison
    from hyperline.runtime.bench import Plan, compare, run_bench
    from hyperline.runtime.bench.sweep import PACES, PATHS

    bundles = tuple(read_bundle(file) for file in files)
    console = stderr()
    if as_comparison:
        sides = _sides(bundles, engines, precisions, threads, samples)
        with console.status("two variants, step beside step"):
            comparison = compare(*sides, samples[0], seconds)
        if as_json:
            click.echo(comparison.model_dump_json(by_alias=True))
        else:
            print_comparison(comparison)
        return
    plan = Plan(
        bundles,
        samples=samples,
        engines=engines,
        precisions=precisions,
        threads=threads or (None,),
        paths=paths or PATHS,
        paces=paces or PACES,
        rate=rate,
        seconds=seconds,
        warm_up=warm_up,
        idle_seconds=idle_seconds if power else 0.0,
        floor=floor,
        profile=profile,
        folder=maps,
    )
    with console.status("") as status:
        result = run_bench(plan, say=status.update)
    if as_json:
        click.echo(result.model_dump_json(by_alias=True))
    else:
        print_bench(result)


def _sides(
    bundles: tuple[Bundle, ...],
    engines: tuple[str, ...],
    precisions: tuple[str, ...],
    threads: tuple[int, ...] | None,
    samples: tuple[int, ...],
) -> tuple[Any, Any]:
    """Return the two sides that the options name.

    Raises:
        UsageError: they name another number than two.
    """
    from itertools import product

    from hyperline.runtime.bench import Side

    sides = [Side(*one) for one in product(bundles, engines, precisions, threads or (None,))]
    if len(sides) != 2 or len(samples) != 1:
        raise click.UsageError(
            f"--compare takes two variants and one --samples, and these options name {len(sides)} and {len(samples)}: "
            "give two files, or one with --precision fp32,int8, or one with two of --engine or --threads"
        )
    return sides[0], sides[1]
