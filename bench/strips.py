"""What the benches of the loop share: a model and a scene that are made up, and a strip flown at what it costs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from step import full_frame_bundle

from hyperline.bundle import Bundle, add_members, read_bundle
from hyperline.bundle.bundle import MODELS
from hyperline.calibration.int8 import int8_model
from hyperline.calibration.layers import find_layers
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import RunSummary, run_strip
from hyperline.scenes import Scene

_LINES = 256  # of the scene that is played again and again


def made_up_bundle(folder: Path, bands: int, classes: int) -> Bundle:
    """Export a network with random weights, in float32 and INT8."""
    bundle = full_frame_bundle(folder / "bench.hlb", bands, classes)
    graph = onnx.load_from_string(bundle.model())
    layers, _ = find_layers(graph)
    int8 = int8_model(graph, layers, {layer.name: 8.0 for layer in layers}).SerializeToString(deterministic=True)
    add_members(bundle.path, {MODELS["int8"]: int8})
    return read_bundle(bundle.path)


def made_up_scene(bundle: Bundle, samples: int) -> Scene:
    """Repeat the golden block over a strip, with noise, as 16-bit counts."""
    lines = bundle.golden()["lines"]
    rows, columns = np.arange(_LINES) % lines.shape[0], np.arange(samples) % lines.shape[1]
    noise = np.random.default_rng(0).integers(0, 20, (_LINES, samples, lines.shape[2]), np.uint16)
    return Scene("made-up", lines[rows][:, columns].astype(np.uint16) + noise)


def fly_strip(bundle: Bundle, source: SceneSource, out: Path, **options: Any) -> tuple[RunSummary, float]:
    """Fly a strip over the one before.

    Args:
        bundle: the model.
        source: of lines.
        out: folder of the strip.
        options: of `run_strip`.

    Returns:
        Its summary, and the processor seconds of a line between the first block and the last.
    """
    marks: list[tuple[int, float]] = []  # lines, processor time
    summary = run_strip(
        bundle,
        source,
        out,
        overwrite=True,
        on_progress=lambda lines: marks.append((lines, time.process_time())),
        **options,
    )
    (first, before), (last, after) = marks[0], marks[-1]
    return summary, (after - before) / max(last - first, 1)
