"""Small files of /proc and /sys. What is not there, cannot be read now or says nothing is None, never an error."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """Return what a file says, without white space and zero bytes around it."""
    try:
        return path.read_bytes().decode(errors="replace").strip("\0 \t\r\n") or None
    except OSError:  # sensors answer with many errors while their part of the chip sleeps
        return None


def read_number(path: Path) -> int | None:
    """Return the whole number in a file."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def folders(path: Path, pattern: str) -> list[Path]:
    """Return the folders below ``path`` that match, hwmon2 before hwmon10."""
    try:
        found = [one for one in path.glob(pattern) if one.is_dir()]
    except OSError:
        return []
    return sorted(found, key=lambda one: (len(one.name), one.name))
