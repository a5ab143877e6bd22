"""What a temperature does to the calibration error, and how cheaply it is found, on scenes for tuning.

    python bench/confidence.py --data ../shared/data [--seeds 3]

The network that is judged is trained on every label; temperatures come from auxiliary trainings on four fifths of the
labels, of as many epochs or fewer, of one held-out fifth or of several together. ``best`` is fitted on the test pixels
themselves: no temperature can do better. ECE in points, of 15 bins, on the pixels not trained on, in blocks of 8 lines.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.metrics import Reliability
from hyperline.scenes import Scene, read_scene
from hyperline.splits import Split, make_split
from hyperline.train.confidence import fit_temperature, hold_out, labels_and_confidence
from hyperline.train.models import network_config
from hyperline.train.network import Network
from hyperline.train.trainer import TrainConfig, predict_logits, start, train

# scene, split, labels a class
TASKS = (
    ("jasper_ridge/jasper_ridge.npz", "blocks", 15),
    ("salinas_a/salinas_a.npz", "random", 5),
    ("jasper_ridge/jasper_ridge.npz", "random", 15),
    ("salinas_a/salinas_a.npz", "blocks", 15),
)
BLOCK_LINES = 8
EPOCHS = 60
# name: epochs of the auxiliary training, folds
WAYS = {"60 epochs": (60, 1), "30 epochs": (30, 1), "30 epochs, 2 folds": (30, 2)}
Logits = NDArray[Any]


def train_all(scene: Scene, split: Split, seed: int) -> dict[str, Logits]:
    """Return the logits of the pixels that judge, ``streamed`` and ``offline``, and those held out by each training."""
    config = TrainConfig(seed=seed, threads=1, epochs=EPOCHS)
    assert scene.labels is not None
    model = network_config("mambamoe", bands=scene.bands, classes=int(scene.labels.max()))

    def trained(epochs: int, seen: NDArray[np.uint8]) -> Network:
        few = replace(config, epochs=epochs)
        strips = [(scene, seen)]
        return train(start(strips, model, few), strips, few)

    network, judged = trained(EPOCHS, split.train), split.test > 0
    found = {
        "labels": split.test[judged],
        "streamed": predict_logits(network, scene, BLOCK_LINES)[judged],
        "offline": predict_logits(network, scene)[judged],
    }
    for epochs, fold in sorted({(epochs, fold) for epochs, folds in WAYS.values() for fold in range(folds)}):
        seen, held = hold_out(split.train, seed, fold)
        found[f"held labels {epochs} {fold}"] = held[held > 0]
        found[f"held {epochs} {fold}"] = predict_logits(trained(epochs, seen), scene, BLOCK_LINES)[held > 0]
    return found


def judge(found: dict[str, Logits]) -> dict[str, dict[str, float]]:
    """Return temperature and calibration error of every way, offline too."""
    temperatures = {"none": 1.0, "best": fit_temperature(found["streamed"], found["labels"])}
    for name, (epochs, folds) in WAYS.items():
        held, labels = (
            np.concatenate([found[f"{what} {epochs} {fold}"] for fold in range(folds)])
            for what in ("held", "held labels")
        )
        temperatures[name] = fit_temperature(held, labels)
    return {
        name: {
            "temperature": temperature,
            "ece": _ece(found["streamed"] / temperature, found["labels"]),
            "ece_offline": _ece(found["offline"] / temperature, found["labels"]),
        }
        for name, temperature in temperatures.items()
    }


def _ece(logits: Logits, truth: Logits) -> float:
    return Reliability.from_maps(truth, *labels_and_confidence(logits)).ece


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
            file = options.cache / f"{Path(name).stem}-{kind}-{labels}-{seed}.npz"
            if not file.exists():
                scene = read_scene(str(options.data / name))
                assert scene.labels is not None
                split = make_split(kind, scene.labels, labels, seed, scene.class_names)  # type: ignore[arg-type]
                np.savez(file, **train_all(scene, split, seed))  # type: ignore[arg-type]
                print(f"{file.stem} done", flush=True)
            results.setdefault(f"{Path(name).stem}, {kind}, {labels}", []).append(judge(dict(np.load(file))))
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
