"""The ``hyperline`` command: finds the subcommand, turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import logging
import sys

import click
from rich.console import Console

from hyperline import __version__
from hyperline.errors import HyperlineError

# command -> (module under hyperline.cli, function). Modules load when used, so that `run` never waits for torch.
COMMANDS = {
    "demo": ("demo", "demo"),
    "radiometry": ("radiometry", "radiometry"),
    "scene": ("scene", "scene"),
    "label": ("label", "label"),
    "train": ("train", "train"),
    "adapt": ("adapt", "adapt"),
    "evaluate": ("evaluate", "evaluate"),
    "explain": ("explain", "explain"),
    "benchmark": ("benchmark", "benchmark"),
    "export": ("export", "export"),
    "calibrate": ("calibrate", "calibrate"),
    "build": ("build", "build"),
    "run": ("run", "run"),
    "view": ("view", "view"),
    "reprocess": ("reprocess", "reprocess"),
    "repair": ("repair", "repair"),
    "replay": ("replay", "replay"),
    "bench": ("bench", "bench"),
    "report": ("report", "report"),
    "inspect": ("bundle", "inspect"),
    "verify": ("bundle", "verify"),
    "sign": ("bundle", "sign"),
    "doctor": ("doctor", "doctor"),
}


class _LazyGroup(click.Group):
    """A click group that imports a command's module on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one command."""
        if name not in COMMANDS:
            return None
        module, function = COMMANDS[name]
        command = getattr(importlib.import_module(f"hyperline.cli.{module}"), function)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hyperline")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens inside, to stderr.")
def hyperline(verbose: bool) -> None:
    """Classify the scan lines of a push-broom hyperspectral sensor as they arrive."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.captureWarnings(True)


def main() -> None:
    """Entry point: 0 done, 1 failed at run time, 2 bad usage or bad input."""
    try:
        hyperline.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        Console(stderr=True).print("interrupted")
        sys.exit(1)
    except HyperlineError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        sys.exit(error.exit_code)
