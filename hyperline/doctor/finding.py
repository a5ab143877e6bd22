"""What one look at this machine found."""

from __future__ import annotations

from dataclasses import dataclass

from hyperline.errors import HyperlineError


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        ok: whether it is as it should be.
        detail: what was found.
        fix: what to do where it is not ok, or where more is to be had.
    """

    subject: str
    ok: bool
    detail: str
    fix: str | None = None


def fault(subject: str, error: HyperlineError) -> Finding:
    """Part a message into what was found and, behind its last semicolon, what to do."""
    detail, _, fix = str(error).rpartition("; ")
    return Finding(subject, False, detail, fix)
