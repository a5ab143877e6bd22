"""Time the exported step at the full frame of a sensor: native operators against function bodies and the floor.

    python bench/step.py [--samples 1024] [--bands 224] [--classes 16] [--threads 2] [--seconds 20]

The network has random weights: speed does not depend on them, the router picks two of four experts whatever they are.
Native and bodies take turns block by block, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from hyperline.bundle import Bundle, encode_golden, write_bundle
from hyperline.bundle.bundle import CARD, MODELS
from hyperline.errors import HyperlineError
from hyperline.export.parity import classify
from hyperline.export.step import export_step, untrained_card
from hyperline.runtime.bench import Plan, run_bench, stepper, take_turns
from hyperline.runtime.engines.ort_cpu import OrtCpuEngine
from hyperline.scenes import Scene
from hyperline.train.first_layer import unlabelled
from hyperline.train.models.mambamoe import MambaMoE, MambaMoEConfig

_BLOCK_LINES = 8


def main() -> None:
    """Export, check that both ways say the same, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--classes", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = full_frame_bundle(Path(folder) / "bench.hlb", arguments.bands, arguments.classes)
        sizes = {"samples": arguments.samples, "threads": arguments.threads, "seconds": arguments.seconds}
        plan = Plan(
            (bundle,),
            samples=(arguments.samples,),
            threads=(arguments.threads,),
            seconds=arguments.seconds,
            paths=("step",),
            paces=("flat-out",),
            idle_seconds=0.0,
        )
        step = run_bench(plan).model_dump(mode="json", by_alias=True)
        report = {"step": step, "against_bodies": _against_bodies(bundle, **sizes)}
    print(json.dumps(report, indent=2))


def _against_bodies(bundle: Bundle, samples: int, threads: int, seconds: float) -> dict[str, float]:
    """Return median times of a step in milliseconds, how many times faster native is, and how far the two differ."""
    engines = [OrtCpuEngine(bundle.model(), bundle.card, threads, native_ops=native) for native in (True, False)]
    if not engines[0].native_ops:
        raise HyperlineError("there is no native engine to measure; hyperline doctor says why")
    steps = [stepper(engine, bundle, samples) for engine in engines]
    answers = [step() for step in steps]
    difference = float(np.abs(answers[0].logits - answers[1].logits).max())
    equal = float(np.mean(answers[0].labels == answers[1].labels))
    native, bodies = (float(np.median(spent)) * 1e3 for spent in take_turns(steps, seconds))
    return {
        "native_ms": native,
        "bodies_ms": bodies,
        "times_faster": bodies / native,
        "max_logit_difference": difference,
        "equal_labels": equal,
    }


def full_frame_bundle(path: Path, bands: int, classes: int) -> Bundle:
    """Export a network with random weights, its first layer fitted to a made-up scene of smooth spectra and noise."""
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    line, sample = np.mgrid[0:64, 0:64] / 10
    abundance = np.stack([np.sin(line + sample), np.cos(line - 2 * sample), np.sin(3 * sample)], axis=-1)
    cube = 2000 + abundance @ generator.uniform(100, 600, (3, bands)) + generator.normal(0, 10, (64, 64, bands))
    scene = Scene("made-up", cube.astype(np.float32))
    config = MambaMoEConfig(bands=bands, classes=classes)
    network = MambaMoE(config).requires_grad_(False).eval()
    network.fit_first_layer(unlabelled(scene))
    names = tuple(f"class {i + 1}" for i in range(classes))
    lines, valid = np.ascontiguousarray(scene.cube[:_BLOCK_LINES]), np.ones((_BLOCK_LINES, 64), bool)
    answer = classify(network, lines, valid, _BLOCK_LINES)
    card = untrained_card(network, _BLOCK_LINES, names)
    model = export_step(network, _BLOCK_LINES, names).SerializeToString(deterministic=True)
    golden = encode_golden({"lines": lines, "valid": valid, "labels": answer.labels, "logits": answer.logits})
    return write_bundle(path, {MODELS["fp32"]: model, CARD: card.to_json(), **golden})


if __name__ == "__main__":
    main()
