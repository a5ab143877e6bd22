"""What it costs a flight to tell the unknown: marking a block beside classifying it, at a sensor's full frame.

    python bench/unknown_step.py [--samples 512] [--threads 1] [--seconds 20]

Random weights, 200 bands, 16 classes, blocks of 8 lines; a block is classified and marked in turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from step import full_frame_bundle

from hyperline.bundle import Confidence
from hyperline.bundle.card import UnknownScore
from hyperline.runtime.bench.steps import stepper, take_turns
from hyperline.runtime.engines import load_engine
from hyperline.runtime.unknown import UnknownPixels


def main() -> None:
    """Time both and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = full_frame_bundle(Path(folder) / "full.hlb", bands=200, classes=16)
    table = UnknownScore(score="energy", rates=(0.01, 0.1), scores=(-2.0, -2.5), pixels=1000)
    confidence = Confidence(temperature=1.0, held_out_pixels=0, ece_before=0.0, ece_after=0.0, unknown=table)
    card = bundle.card.model_copy(update={"confidence": confidence})
    engine = load_engine("ort-cpu", bundle.model("fp32"), card, threads=options.threads)
    classify = stepper(engine, bundle, options.samples)
    outputs = classify().copy()
    unknown = UnknownPixels(card, 0.05, outputs.labels.shape[1])
    step, mark = (
        statistics.median(times) for times in take_turns([classify, lambda: unknown.mark(outputs)], options.seconds)
    )
    print(
        f"{options.samples} samples, threads: {options.threads}: a block takes {1e3 * step:.2f} ms to classify and "
        f"{1e6 * mark:.0f} µs to mark, {mark / step:.1%} of it"
    )


if __name__ == "__main__":
    main()
