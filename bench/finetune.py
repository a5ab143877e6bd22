"""Measure what quantisation-aware fine-tuning mends: INT8 against FP32 on lines never seen.

    python bench/finetune.py RUN BUNDLE SCENE [--epochs 5 10 20] [--seeds 3] [--method mse] [--share 1.0]

Ranges (`--method`) and weights come from the first half of the lines, the figures from the second. ``--share`` is
the part of each range that is used: 0.5 makes values saturate that should not.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from hyperline.bundle import Bundle
from hyperline.calibration.finetune import fine_tune
from hyperline.calibration.int8 import int8_model, with_tensors
from hyperline.calibration.layers import find_layers
from hyperline.calibration.lines import Lines, read_lines
from hyperline.calibration.observers import METHODS, Observer
from hyperline.calibration.stream import stream
from hyperline.scenes import read_scene
from hyperline.train.run import load_run


def main() -> None:
    """Print one row before fine-tuning and one for each number of epochs and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("scene")
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--method", choices=METHODS, default="mse")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    bundle = Bundle.open(options.bundle)
    card, model, network = bundle.card, onnx.load_from_string(bundle.model()), load_run(options.run).network
    lines = read_lines(read_scene(options.scene), card)
    half = len(lines.valid) // 2 // card.block_lines * card.block_lines
    seen = _part(lines, slice(0, half))
    layers, _ = find_layers(model)
    observers = {layer.name: Observer() for layer in layers}

    def look(_: int, tensors: dict[str, np.ndarray]) -> None:
        for layer in layers:
            observers[layer.name].see(tensors[layer.inputs[-1]])

    stream(model, card, seen, options.threads, [layer.inputs[-1] for layer in layers], look)
    ranges = {name: options.share * observer.range(options.method) for name, observer in observers.items()}
    reference = stream(model, card, lines, options.threads)
    valid = lines.valid[:, : lines.samples].copy()
    valid[:half] = False
    judged = valid & (lines.truth > 0)

    def report(what: str, graph: onnx.ModelProto) -> None:
        answer = stream(int8_model(graph, find_layers(graph)[0], ranges), card, lines, options.threads)
        agreement = (answer.labels == reference.labels)[valid].mean()
        accuracies = ((one.labels == lines.truth)[judged].mean() for one in (reference, answer))
        error = np.abs(answer.logits - reference.logits)[valid].mean()
        fp32, int8 = (f"{accuracy:.2%}" for accuracy in accuracies)
        print(f"{what:<28} agreement {agreement:.2%}, logits off by {error:.4f}, accuracy {fp32} -> {int8}", flush=True)

    print(
        f"{lines.name}: {half} lines seen, {len(lines.valid) - half} judged, ranges {options.method} x {options.share}"
    )
    report("rounded", model)
    for epochs in options.epochs:
        for seed in range(options.seeds):
            began = time.perf_counter()
            tuned = fine_tune(
                network, model, card, layers, ranges, seen,
                epochs=epochs, seed=seed, threads=options.threads,
            )  # fmt: skip
            seconds = time.perf_counter() - began
            what = f"{epochs} epochs, seed {seed}, {seconds:.0f} s"
            report(what, with_tensors(model, tuned.tensors))
            print(f"    kept epoch {tuned.epoch}, held back {tuned.losses[0]:.5f} -> {min(tuned.losses):.5f}")


def _part(lines: Lines, rows: slice) -> Lines:
    return replace(lines, values=lines.values[rows], valid=lines.valid[rows], truth=lines.truth[rows])


if __name__ == "__main__":
    main()
