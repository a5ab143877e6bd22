"""Count what recording costs of a block beside class and confidence, part by part, at the full frame of a sensor.

    python bench/records.py [--samples 1024] [--bands 224] [--precision int8] [--seconds 30]

It counts processor time of one thread, for other work on the machine makes everything else last longer; with all cores
at work, its share of a step is what recording costs of the throughput. The step with its uncertainty and experts takes
turns with the step without. All else is counted between steps, on a block that has just been put together line by line,
as in flight: of each part the median of what all images take less what the two maps alone take. Images go to --folder.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from flight import made_up_bundle
from timing import processor

from hyperline.bundle import Bundle
from hyperline.bundle.card import OPTIONAL_OUTPUTS
from hyperline.plugins.native import installed_library
from hyperline.runtime.bench import stepper
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import Outputs, load_engine
from hyperline.runtime.quicklook import Quicklook
from hyperline.runtime.sinks import EnviSink, run_forms
from hyperline.runtime.spectra import ClassSpectra
from hyperline.runtime.writer import fill, image_memory

_CLASSES = 16


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--precision", choices=["fp32", "int8"], default="int8")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--folder", type=Path, help="where the images go  [default: a temporary one]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bundle = made_up_bundle(Path(folder), options.bands, _CLASSES)
        model = bundle.model(options.precision)
        engines = [
            load_engine("ort-cpu", one, bundle.card, 1, options.precision) for one in (model, without_records(model))
        ]
        whole, bare = (stepper(engine, bundle, options.samples) for engine in engines)
        pairs = []
        end = time.perf_counter() + options.seconds
        while time.perf_counter() < end:
            pairs.append((_spent(whole), _spent(bare)))
        step, plain = np.median(pairs, axis=0).tolist()
        # Each pair of turns is compared on its own, so that what else the machine does falls on both.
        rows = {"uncertainty and experts in the step": float(np.median(np.diff(pairs) * -1))}
        rows |= _parts(bundle, options.samples, options.seconds, whole, Path(folder))
    print(
        f"{options.samples} samples × {options.bands} bands, {options.precision}; a step takes {1e3 * step:.2f} ms of "
        f"one processor, {1e3 * plain:.2f} without its uncertainty and experts ({len(pairs)} each); "
        f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    for name, seconds in (*rows.items(), ("together", sum(rows.values()))):
        print(f"{name:44} {1e6 * seconds:7.1f} µs a block  {100 * seconds / plain:5.2f} % of a step")


def _spent(run: Callable[[], object]) -> float:
    """Return the processor time of this thread that a call takes."""
    began = time.thread_time()
    run()
    return time.thread_time() - began


def without_records(model: bytes) -> bytes:
    """Return a step as it was before it said its uncertainty and experts."""
    graph = onnx.load_from_string(model)
    kept = [output for output in graph.graph.output if output.name not in OPTIONAL_OUTPUTS]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    for decision in (*graph.graph.node, *graph.functions):
        if "Decide" in (getattr(decision, "op_type", ""), decision.name):
            del decision.output[2:]
    return bytes(graph.SerializeToString(deterministic=True))


def _parts(bundle: Bundle, samples: int, seconds: float, step: Callable[[], Outputs], folder: Path) -> dict[str, float]:
    """Count what is not part of the step; seconds a block."""
    card, golden = bundle.card, bundle.golden()
    padded = -(-samples // card.sample_multiple) * card.sample_multiple
    columns = np.arange(padded) % golden["valid"].shape[1]
    lines = np.ascontiguousarray(golden["lines"][:, columns])
    block = Block(np.empty_like(lines), np.ascontiguousarray(golden["valid"][:, columns]), card.block_lines)
    quicklook, spectra = Quicklook(card, golden, padded), ClassSpectra(card, golden, padded)
    outputs = step()
    forms = run_forms(card, samples, outputs)
    colours = quicklook.of(block)
    (folder / "all").mkdir()
    (folder / "maps").mkdir()
    held = {"all": forms, "maps": forms[:2]}
    sinks = {name: EnviSink(folder / name, some, card.block_lines) for name, some in held.items()}
    images = {name: image_memory(some, card.block_lines, padded) for name, some in held.items()}
    library = installed_library()
    plain = Outputs(outputs.labels, outputs.confidence, outputs.logits)

    def keep(name: str, said: Outputs) -> None:
        fill(images[name], said, library)
        if name == "all":
            np.copyto(images[name]["quicklook"], colours)

    runs: dict[str, Callable[[], object]] = {
        "quicklook": lambda: quicklook.of(block),
        "spectra": lambda: spectra.see(block, outputs.labels),
        "all kept": lambda: keep("all", outputs),
        "maps kept": lambda: keep("maps", plain),
        "all written": lambda: sinks["all"].write(images["all"], card.block_lines),
        "maps written": lambda: sinks["maps"].write(images["maps"], card.block_lines),
    }
    spent: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        outputs = step()
        for row in range(card.block_lines):
            np.copyto(block.lines[row], lines[row])
        for name, run in runs.items():
            spent[name].append(_spent(run))
    for sink in sinks.values():
        sink.close()
    # Few blocks give the spectra a line, so the mean is what a block costs.
    medians = {name: float((np.mean if name == "spectra" else np.median)(times)) for name, times in spent.items()}
    return {
        "quicklook, made": medians["quicklook"],
        "spectra": medians["spectra"],
        "images, copied for the writer": medians["all kept"] - medians["maps kept"],
        "images, written (in the writer's thread)": medians["all written"] - medians["maps written"],
    }


if __name__ == "__main__":
    main()
