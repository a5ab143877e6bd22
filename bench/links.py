"""What the links cost the loop that flies, and their own thread: a full frame, on every link that is dead or slow.

    OMP_NUM_THREADS=1 python bench/links.py

Noise: labels drawn at random, so that a block holds thousands of runs of pixels. Fields: areas of 32 samples.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from hyperline.machine import cpus
from hyperline.runtime.links import Links, Rule
from hyperline.runtime.links.components import EventFinder

SAMPLES, LINES, CLASSES = 1024, 8, 16


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=2000)
    blocks = parser.parse_args().blocks
    generator = np.random.default_rng(0)
    noise = generator.integers(0, CLASSES + 1, (LINES, SAMPLES)).astype(np.uint8)
    fields = np.repeat(generator.integers(0, CLASSES + 1, (1, SAMPLES // 32)), 32, 1).repeat(LINES, 0).astype(np.uint8)
    print(f"{SAMPLES} samples, blocks of {LINES} lines, 5 of {CLASSES} classes make events; {cpus()} CPUs")
    for name, labels in (("noise", noise), ("fields", fields)):
        report(f"{name}: events of a block", finding(labels, blocks))
        report(f"{name}: offer", *offering(labels, blocks))


def finding(labels: np.ndarray, blocks: int) -> np.ndarray:
    """Return the seconds of each block's search."""
    finder = EventFinder([Rule(number, 0.5, 20) for number in range(1, 6)], names(), SAMPLES)
    confidence, times = np.ones(labels.shape, np.float32), np.zeros(LINES)
    took = np.zeros(blocks)
    for block in range(blocks):
        start = time.perf_counter()
        finder.block(block * LINES, labels, confidence, times)
        took[block] = time.perf_counter() - start
    return took


def offering(labels: np.ndarray, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds of each offer and those of its processor time, after 5 ms of matrix products.

    An engine works so between two offers. On a busy machine the first counts who else wanted the core.
    """
    card = SimpleNamespace(block_lines=LINES, sample_multiple=8, class_names=names())
    confidence = np.ones(labels.shape, np.float32)
    took, worked = np.zeros((2, blocks))
    matrix, product = np.ones((2, 256, 256), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        links = Links(
            [
                f"jsonl:{Path(folder) / 'events.jsonl'}",
                "jsonl:/dev/full",
                "mqtt://127.0.0.1:9/dead",
                "mavlink+udp://127.0.0.1:9",
                "ccsds+udp://127.0.0.1:9",
                "prometheus://:0",
            ],
            cast(Any, card),
            SAMPLES,
            events=[f"{number}:0.5:20" for number in range(1, 6)],
            downlink="1000",
        )
        for block in range(blocks):
            start, worked_before = time.perf_counter(), time.thread_time()
            links.offer(block * LINES, labels, confidence, LINES)
            took[block], worked[block] = time.perf_counter() - start, time.thread_time() - worked_before
            busy = time.perf_counter() + 0.005
            while time.perf_counter() < busy:
                np.matmul(matrix, matrix, out=product)
        links.close()
        print("  ", links.report()["blocks"], links.report()["events"])
    return took, worked


def names() -> tuple[str, ...]:
    """Return the classes' names."""
    return tuple(f"class {number}" for number in range(1, CLASSES + 1))


def report(what: str, seconds: np.ndarray, worked: np.ndarray | None = None) -> None:
    """Print percentiles, microseconds."""
    p50, p99, p999 = np.percentile(seconds, (50, 99, 99.9)) * 1e6
    cpu = "" if worked is None else "   processor p50 {:.0f}, p99 {:.0f}".format(*np.percentile(worked, (50, 99)) * 1e6)
    print(f"{what:<26} us: p50 {p50:.0f}, p99 {p99:.0f}, p99.9 {p999:.0f}{cpu}")


if __name__ == "__main__":
    main()
