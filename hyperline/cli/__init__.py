"""The command line. Each command is one file; a stage is imported only when its command runs."""

from hyperline.cli.main import main

__all__ = ["main"]
