"""Count what recording costs of a block beside class and confidence, at the full frame of a sensor.

    python bench/records.py [--samples 1024] [--bands 224] [--precision int8] [--threads 1] [--seconds 60]

Short strips are flown as fast as the lines are taken, in turns: with all that a run records; without a quicklook; and
from a bundle whose step says nothing of uncertainty and experts, as those of before did. It prints processor time of
the whole process a block: of the strip of each kind that took least, for other work on the machine takes its share of
the caches too, and the median, its ratio with a 95 % interval. With more than one thread it is of less use, for threads
spin while they wait for each other.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from strips import fly_strip, made_up_bundle, made_up_scene
from timing import processor

from hyperline.bundle import Bundle, read_bundle, write_bundle
from hyperline.bundle.bundle import MODELS
from hyperline.bundle.card import OPTIONAL_OUTPUTS
from hyperline.runtime.bench.comparison import ratio_interval
from hyperline.runtime.flight import LoopOptions
from hyperline.runtime.sources.files import SceneSource

_CLASSES = 16


def main() -> None:
    """Fly and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--precision", choices=["fp32", "int8"], default="int8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--folder", type=Path, help="where the images go  [default: a temporary one]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        bundle = made_up_bundle(folder, options.bands, _CLASSES)
        before = _without_records(bundle)
        source = SceneSource(made_up_scene(bundle, options.samples), repeat=4)
        alone = "class and confidence alone"
        kinds = {
            "all": (bundle, LoopOptions()),
            "without a quicklook": (bundle, LoopOptions(quicklook=False)),
            alone: (before, LoopOptions(quicklook=False)),
        }
        spent: dict[str, list[float]] = {kind: [] for kind in kinds}
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            for kind, (flown, loop) in kinds.items():
                _, seconds = fly_strip(
                    flown,
                    source,
                    folder / "strip",
                    precision=options.precision,
                    threads=options.threads,
                    options=loop,
                    feed=False,  # which needs a quicklook too
                )
                spent[kind].append(seconds * bundle.card.block_lines)
    least = min(spent[alone])
    print(
        f"{options.samples} samples × {options.bands} bands, {options.precision}, threads: {options.threads}, "
        f"{len(spent['all'])} strips of {source.lines} lines each; {processor()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    without = np.array(spent[alone])
    for kind, times in spent.items():
        median = np.median(times)
        print(f"{kind:27} {1e3 * min(times):7.3f} ms a block, {100 * (min(times) / least - 1):+.1f} %;", end=" ")
        print(f"median {1e3 * median:.3f}, {100 * (median / np.median(without) - 1):+.1f} %", end=" ")
        low, high = (100 * (ratio - 1) for ratio in ratio_interval(np.array(times), without))
        print(f"({low:+.1f} to {high:+.1f})" if kind != alone else "")


def _without_records(bundle: Bundle) -> Bundle:
    """Return a bundle whose steps say nothing of uncertainty and experts."""
    path = bundle.path.with_name("before.hlb")
    members = {name: bytes(data) for name, data in bundle.members.items() if name != "manifest.json"}
    members |= {MODELS[name]: _cut(bundle.model(name)) for name in ("fp32", "int8")}
    write_bundle(path, members)
    return read_bundle(path)


def _cut(model: bytes) -> bytes:
    graph = onnx.load_from_string(model)
    kept = [output for output in graph.graph.output if output.name not in OPTIONAL_OUTPUTS]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    for node in graph.graph.node:
        if node.op_type == "Decide":
            del node.output[2:]
    for function in graph.functions:
        if function.name == "Decide":
            del function.output[2:]
    return bytes(graph.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
