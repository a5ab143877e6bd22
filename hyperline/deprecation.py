"""What is going away says so, with the version in which it goes."""

from __future__ import annotations

import warnings


def warn_deprecated(what: str, *, removed_in: str, instead: str) -> None:
    """Warn the caller of a public name, option or key that it will go away.

    A test reads every call of this, and fails where ``removed_in`` is not written out as a version, or where that
    version has been reached and the thing is still there.

    Args:
        what: the name as its user writes it, such as ``hyperline.open_bundle(engine=…)``.
        removed_in: the version without it, such as ``"0.4.0"``.
        instead: what to use, as an order: ``"give threads=1"``.
    """
    warnings.warn(f"{what} goes away in hyperline {removed_in}; {instead}", DeprecationWarning, stacklevel=3)
