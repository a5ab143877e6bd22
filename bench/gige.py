"""A GigE Vision camera at its highest rate: how many frames a second come, and what became of every frame id.

    python bench/gige.py [--seconds 60]

The camera is Aravis' own, ``arv-fake-gv-camera-0.8`` on the loopback: it draws each frame and sends it packet by packet
in one thread, with 1000 frames/s at most, and shares the machine's cores with the receiver. Lines go into the ring of
``hyperline run``, which drops the oldest. The ids are counted beside the source, as they come from Aravis.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from timing import best_seconds, processor

from hyperline.machine import cpus
from hyperline.runtime.ring import LineRing
from hyperline.runtime.sources import Line
from hyperline.runtime.sources.camera import Camera
from hyperline.runtime.sources.gige import GigeSource, parse_gige
from hyperline.runtime.sources.pixels import FORMATS, FrameDecoder

# samples, bands, pixel format, bytes of a packet; the last is flown for --seconds
RUNS = (
    (64, 32, "Mono8", 1500),
    (512, 100, "Mono8", 1500),
    (1024, 224, "Mono8", 1500),
    (1024, 224, "Mono8", 9000),
    (1024, 224, "Mono16", 1500),
    (1024, 224, "Mono16", 9000),
)
_SHORT_S = 5.0


@dataclass
class Ids:
    """The frame ids that a camera's buffers carry, 16 bits, as they come."""

    camera: Camera
    first: int = 0
    last: int = 0
    wraps: int = 0
    take: Any = field(init=False)

    def __post_init__(self) -> None:
        self.take = self.camera.take
        self.camera.take = self  # type: ignore[method-assign, assignment]

    def __call__(self, seconds: float) -> tuple[Any, int] | None:
        """Take a frame and note its id."""
        taken: tuple[Any, int] | None = self.take(seconds)
        frame_id = taken[0].get_frame_id() if taken else 0
        if frame_id:
            self.first = self.first or frame_id
            self.wraps += frame_id < self.last
            self.last = frame_id
        return taken

    @property
    def span(self) -> int:
        """From the first to the last, both counted."""
        return self.last - self.first + 1 + 65535 * self.wraps


def fly(samples: int, bands: int, pixels: str, packet: int, seconds: float) -> None:
    """Take what comes for so long, and print what it was.

    Raises:
        SystemExit: a frame id is unaccounted for.
    """
    spec = f"gige:127.0.0.1?Width={samples}&Height={bands}&format={pixels}&packet={packet}&rate=1000"
    source = GigeSource(parse_gige(spec), patience=5)
    ids = Ids(source.camera)
    ring = LineRing(32, source.samples, source.bands, source.dtype, "drop-oldest")
    start, cpu, memory, grown = time.perf_counter(), time.process_time(), 0, 0
    for line in source:
        ring.put(line)
        now = time.perf_counter() - start
        if not memory and now > seconds / 6:
            memory = _resident_kib()
        if now > seconds:
            source.close()
            grown = _resident_kib() - memory  # while Aravis has its own still
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    counters = source.counters
    lines = counters["lines"]
    print(
        f"{samples} x {bands} {pixels}, packets of {packet} bytes, {elapsed:.1f} s: {lines / elapsed:.0f} lines/s, "
        f"{lines * source.camera.frame_bytes / elapsed / 1e6:.0f} MB/s, {cpu / elapsed:.0%} of a core, "
        f"memory grew by {grown} KiB after the first sixth"
    )
    fates = [counters[name] for name in ("lines", "incomplete", "missing", "unseen")]
    print(f"  ids {ids.first} to {ids.last} after {ids.wraps} wraps: {ids.span} = {' + '.join(map(str, fates))}")
    print(f"  {', '.join(f'{name} {count}' for name, count in counters.items() if count)}")
    if ids.span != sum(fates) or ids.span != counters["span"] or ring.received != lines:
        sys.exit("a frame id is unaccounted for")


def costs(width: int, height: int) -> None:
    """Print what a frame costs on its way from Aravis' memory into the ring."""
    formats = {one.name: one for one in FORMATS.values()}
    line = Line(0, np.zeros((height, width), np.uint16).T, 0.0)
    target, ring = np.zeros((width, height), np.uint16), LineRing(4, width, height, line.values.dtype, "drop-oldest")
    packed = {name: FrameDecoder(formats[name], width, height) for name in ("Mono10p", "Mono12p", "Mono12Packed")}
    data = np.zeros(max(decoder.bytes for decoder in packed.values()), np.uint8)
    runs = {
        "into the ring, its check sum included": lambda: ring.put(line),
        "transposed as NumPy does": lambda: np.copyto(target, line.values),
        **{f"unpacked from {name}": lambda decoder=decoder: decoder.decode(data) for name, decoder in packed.items()},
    }
    print(f"a line of {width} x {height} in 16 bits, best of 500:")
    for name, seconds in zip(runs, best_seconds(list(runs.values()), 500), strict=True):
        print(f"  {seconds * 1e3:.2f} ms {name}")


def _resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    print(f"{processor()}, {cpus()} cores; the camera's limit is 1000 frames/s")
    costs(1024, 224)
    program = shutil.which("arv-fake-gv-camera-0.8")
    if program is None:
        sys.exit("no camera to fake: apt-get install aravis-tools")
    with subprocess.Popen([program, "-i", "127.0.0.1"], stdout=subprocess.DEVNULL) as camera:
        try:
            time.sleep(0.5)
            for run in RUNS:
                fly(*run, seconds=arguments.seconds if run == RUNS[-1] else _SHORT_S)
        finally:
            camera.kill()


if __name__ == "__main__":
    main()
