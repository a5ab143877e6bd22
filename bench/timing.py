"""What the benches share: turns, and the name of the machine."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from pathlib import Path

Run = Callable[[], object]


def best_seconds(runs: list[Run], rounds: int) -> list[float]:
    """Take turns of ten runs; the best time of each."""
    best = [math.inf] * len(runs)
    for _ in range(-(-rounds // 10)):
        for index, run in enumerate(runs):
            time.sleep(0.02)  # until the threads of whoever went before have stopped spinning
            for _ in range(10):
                began = time.perf_counter()
                run()
                best[index] = min(best[index], time.perf_counter() - began)
    return best


def processor() -> str:
    """Return the name of the processor, or of its kind."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()
