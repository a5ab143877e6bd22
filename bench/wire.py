"""What receiving a line costs: the reader alone, and a strip sent and received over TCP on this machine.

    python bench/wire.py [--samples 1024] [--bands 224] [--seconds 5]

The reader alone reads from memory: two copies into its buffer, two CRCs, one ``Line``. Over TCP the sender has a
process of its own and sends as fast as the receiver takes; both share the machine's cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
import zlib

import numpy as np

from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.sources.framing import LineReader, StreamHeader, encode_line
from hyperline.runtime.sources.sender import describe, send_strip
from hyperline.runtime.sources.transport import ConnectTransport, ListenTransport
from hyperline.runtime.sources.wire import WireSource
from hyperline.scenes import Scene


def read_from_memory(header: StreamHeader, values: np.ndarray, seconds: float) -> float:
    """Return seconds a line."""
    record, position = memoryview(encode_line(header, 0, values)), 0

    def fill(view: memoryview) -> int:
        nonlocal position
        count = min(len(view), len(record) - position)
        view[:count] = record[position : position + count]
        position = (position + count) % len(record)
        return count

    reader = LineReader(header, fill)
    lines, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        if reader.read() is None:
            raise RuntimeError("the reader ended")
        lines += 1
    return (time.perf_counter() - start) / lines


def send(scene: Scene, repeat: int, port: int) -> None:
    """Send the scene, in a process of its own."""
    source = SceneSource(scene, repeat=repeat)
    send_strip(source, describe(source, strip=1), ConnectTransport("127.0.0.1", port), patience=10)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    cube = np.random.default_rng(0).integers(0, 4096, (16, arguments.samples, arguments.bands)).astype(np.uint16)
    scene = Scene("noise", cube)
    header = describe(SceneSource(scene), strip=1)
    alone = read_from_memory(header, cube[0], arguments.seconds)
    start = time.perf_counter()
    zlib.crc32(np.ascontiguousarray(cube))
    checked = (time.perf_counter() - start) / len(cube)
    print(f"{header.payload_bytes} bytes a line; its CRC alone {checked * 1e6:.0f} µs")
    print(f"reader from memory: {alone * 1e6:.0f} µs a line, {1 / alone:.0f} lines/s")

    transport = ListenTransport("127.0.0.1", 0)
    repeat = max(1, round(arguments.seconds * 1000 / len(cube)))
    sender = multiprocessing.get_context("spawn").Process(target=send, args=(scene, repeat, transport.port))
    sender.start()
    source = WireSource(transport)
    start = time.perf_counter()
    lines = sum(1 for _ in source)
    seconds = time.perf_counter() - start
    sender.join()
    megabytes = lines * header.payload_bytes / seconds / 1e6
    print(f"over TCP: {lines} lines, {lines / seconds:.0f} lines/s, {megabytes:.0f} MB/s")


if __name__ == "__main__":
    main()
