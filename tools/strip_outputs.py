"""Classify a scene with every model of a bundle, and keep labels and logits: for machines to be compared by.

    python tools/strip_outputs.py FILE.hlb SCENE.npz OUT.npz

Needs nothing but hyperline as it flies.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from hyperline.bundle import Bundle, read_bundle
from hyperline.plugins.native import NativeLibrary
from hyperline.radiometry import Radiometry
from hyperline.runtime.blocks import BlockAssembler
from hyperline.runtime.engines import load_engine
from hyperline.scenes import Scene, read_scene


def main() -> None:
    """Classify, and write ``PRECISION_labels`` (line, sample) and ``PRECISION_logits`` (line, sample, class)."""
    bundle, scene = read_bundle(Path(sys.argv[1])), read_scene(sys.argv[2])
    kept = {}
    for precision in bundle.precisions:
        labels, logits = classify(bundle, scene, precision)
        kept |= {f"{precision}_labels": labels, f"{precision}_logits": logits}
    np.savez(sys.argv[3], **kept)
    print(f"{scene.name}: {scene.lines} lines, {', '.join(bundle.precisions)}, on {NativeLibrary().instruction_set}")


def classify(bundle: Bundle, scene: Scene, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Stream a scene; return its labels (line, sample) and logits (line, sample, class).

    Raises:
        SystemExit: the model runs on function bodies, and not on the native operators that are to be compared.
    """
    card = bundle.card
    radiometry = Radiometry(scene.samples, scene.bands, scale=scene.scale, model_scale=card.scale, nodata=scene.nodata)
    assembler = BlockAssembler(card.block_lines, radiometry, card.sample_multiple)
    engine = load_engine("ort-cpu", bundle.model(precision), card, threads=1, precision=precision)
    if not engine.native_ops:
        sys.exit(f"{precision} does not run on the native operators: hyperline doctor says why")
    engine.reset(assembler.padded_samples)
    labels, logits = [], []
    for line in range(scene.lines + 1):
        # One line more than there are: the strip's last, partial block.
        block = assembler.push(scene.cube[line])[0] if line < scene.lines else assembler.flush()
        if block is not None:
            outputs = engine.step(block)
            labels.append(outputs.labels[: block.count, : scene.samples].copy())
            logits.append(outputs.logits[: block.count, : scene.samples].copy())
    return np.concatenate(labels), np.concatenate(logits)


if __name__ == "__main__":
    main()
