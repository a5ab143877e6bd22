"""What this process may use of the machine."""

from __future__ import annotations

import os
from pathlib import Path


def cpus() -> int:
    """Return how many CPUs this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every platform
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def user_cache(name: str) -> Path:
    """Return hyperline's folder ``name`` in the user's cache; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "hyperline" / name
