"""The errors that a person is meant to read."""

from __future__ import annotations

import importlib
from types import ModuleType


class HyperlineError(Exception):
    """A failure with one clear message: what was wrong, where, and what to do. Exit code 1."""

    exit_code = 1


class InputError(HyperlineError):
    """The caller's file, option or scene cannot be used as it is. Exit code 2."""

    exit_code = 2


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    Args:
        module: dotted module name, such as ``"h5py"``.
        extra: the name of hyperline's extra that installs it.

    Raises:
        InputError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{module.split('.')[0]} is not installed; it comes with: pip install 'hyperline[{extra}]'"
        ) from error
