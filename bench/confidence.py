"""What a temperature does to the calibration error, and how cheaply it is found, on scenes for tuning.

    python bench/confidence.py --data ../shared/data [--seeds 3]

The network that is judged is trained on every label; temperatures come from auxiliary trainings on four fifths of the
labels, of as many epochs or fewer, of one held-out fifth or of several together. ``best`` is fitted on the test pixels
themselves: no temperature can do better. ECE in points, of 15 bins, on the pixels not trained on, in blocks of 8 lines.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.metrics import Reliability
from hyperline.scenes import Scene, read_scene
from hyperline.splits import Split, make_split
from hyperline.train.confidence import fit_temperature, hold_out
from hyperline.train.models import network_config
from hyperline.train.trainer import TrainConfig, predict_logits, start, train

# scene, split, labels a class
TASKS = (
    ("jasper_ridge/jasper_ridge.npz", "random", 15),
    ("salinas_a/salinas_a.npz", "random", 5),
    ("jasper_ridge/jasper_ridge.npz", "blocks", 15),
    ("salinas_a/salinas_a.npz", "blocks", 15),
)
BLOCK_LINES = 8
EPOCHS = 60
# name: epochs of the auxiliary training, folds
WAYS = {"60 epochs": (60, 1), "30 epochs": (30, 1), "60 epochs, 2 folds": (60, 2)}
Logits = NDArray[np.floating]


def measure(scene: Scene, split: Split, seed: int) -> dict[str, Any]:
    """Return temperature and calibration error of every way, offline too."""
    config = TrainConfig(seed=seed, threads=1, epochs=EPOCHS)
    assert scene.labels is not None
    model = network_config("mambamoe", bands=scene.bands, classes=int(scene.labels.max()))

    def logits(epochs: int, seen: NDArray[np.uint8]) -> tuple[Logits, Logits]:
        few = replace(config, epochs=epochs)
        network = train(start(scene, model, few), scene, replace(split, train=seen), few)
        return predict_logits(network, scene, BLOCK_LINES), predict_logits(network, scene)

    streamed, offline = logits(EPOCHS, split.train)
    judged = split.test > 0
    temperatures = {"none": 1.0, "best": fit_temperature(streamed[judged], split.test[judged])}
    folds: dict[tuple[int, int], tuple[Logits, NDArray[np.uint8]]] = {}
    for name, (epochs, count) in WAYS.items():
        for fold in range(count):
            if (epochs, fold) not in folds:
                seen, held = hold_out(split.train, seed, fold)
                folds[epochs, fold] = logits(epochs, seen)[0][held > 0], held[held > 0]
        parts = [folds[epochs, fold] for fold in range(count)]
        temperatures[name] = fit_temperature(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    return {
        name: {
            "temperature": temperature,
            "ece": _ece(streamed / temperature, split.test),
            "ece_offline": _ece(offline / temperature, split.test),
        }
        for name, temperature in temperatures.items()
    }


def _ece(logits: Logits, truth: NDArray[np.uint8]) -> float:
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return Reliability.from_maps(truth, logits.argmax(-1) + 1, odds.max(-1) / odds.sum(-1)).ece


def main() -> None:
    """Measure what is missing from the cache, then print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scenes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path("build/confidence"))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {}
    for seed in range(options.seeds):
        for name, kind, labels in TASKS:
            file = options.cache / f"{Path(name).stem}-{kind}-{labels}-{seed}.json"
            if not file.exists():
                scene = read_scene(str(options.data / name))
                assert scene.labels is not None
                split = make_split(kind, scene.labels, labels, seed, scene.class_names)  # type: ignore[arg-type]
                file.write_text(json.dumps(measure(scene, split, seed)))
                print(f"{file.stem} done", flush=True)
            results.setdefault(f"{Path(name).stem}, {kind}, {labels}", []).append(json.loads(file.read_text()))
    ways = list(next(iter(results.values()))[0])
    print("| ECE streamed (temperature) | " + " | ".join(ways) + " |")
    print("|---" + "|--:" * len(ways) + "|")
    for task, runs in results.items():
        cells = [
            f"{100 * np.mean([run[way]['ece'] for run in runs]):.1f} "
            f"({np.exp(np.mean(np.log([run[way]['temperature'] for run in runs]))):.2f})"
            for way in ways
        ]
        print(f"| {task} | " + " | ".join(cells) + " |")
    means = [100 * np.mean([run[way]["ece"] for runs in results.values() for run in runs]) for way in ways]
    print("| mean | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    whole = [100 * np.mean([run[way]["ece_offline"] for runs in results.values() for run in runs]) for way in ways]
    print("| mean, whole scene in view | " + " | ".join(f"{mean:.1f}" for mean in whole) + " |")


if __name__ == "__main__":
    main()
