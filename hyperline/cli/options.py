"""What several commands ask for or show in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from hyperline.scenes import Scene


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


def stderr() -> Console:
    """Return the console for everything that is not the answer; stdout is for the answer."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """Show a bar with the count and the time left, gone when done; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(
        *columns, TextColumn("left"), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield progress


def read_noted(spec: str, labels: str | None, console: Console) -> Scene:
    """Read a scene and show what its reader had to assume."""
    from hyperline.scenes import read_scene

    scene = read_scene(spec, labels)
    for note in scene.notes:
        console.print(f"note: {note}")
    return scene


def percent(value: float | None) -> str:
    """Write a fraction as a percentage with two digits."""
    return "–" if value is None else f"{100 * value:.2f} %"
