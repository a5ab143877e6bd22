"""How well a score tells a class that was never trained on from those that were, on scenes for tuning.

    python bench/unknown.py --data ../shared/data [--seeds 5] [--out docs/results/unknown]

One class at a time is left out of the training of the network; then every pixel of it that carries a label is unknown,
and the labelled pixels of the others that were not trained on are known. Streamed in blocks of 8 lines.

``max`` (of the softmax), ``entropy`` and ``energy`` follow from the logits, which every graph gives. ``feature
distance`` is the least Mahalanobis distance of what the last layer sees to the mean of a class (Lee et al. 2018, arXiv
1807.03888), with a covariance that is shrunk; ``spectral distance`` is the same of the noise-whitened components;
``spectral residual`` is what the kept components leave of the spectrum, in units of noise.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from hyperline.metrics import auroc, roc_curve
from hyperline.scenes import Scene, read_scene
from hyperline.splits import Split, random_split
from hyperline.train.confidence import answer_layer
from hyperline.train.mnf import fit_mnf
from hyperline.train.models import network_config
from hyperline.train.network import Network
from hyperline.train.trainer import TrainConfig, predict_logits, start, train

SCENES = ("salinas_a/salinas_a.npz", "jasper_ridge/jasper_ridge.npz")
BLOCK_LINES = 8
# Rates of known pixels called unknown at which the curves are kept.
RATES = np.linspace(0, 1, 201)
Map = NDArray[np.float64]


def scores(network: Network, scene: Scene, train_map: NDArray[np.uint8]) -> dict[str, Map]:
    """Score every pixel, higher where it looks less known; (line, sample) each."""
    features: list[torch.Tensor] = []
    layer = answer_layer(network)
    hook = layer.register_forward_hook(lambda _, inputs, __: features.append(inputs[0].detach()))
    logits = predict_logits(network, scene, BLOCK_LINES).astype(np.float64)
    hook.remove()
    total = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    log_p = logits - total[..., None]
    seen = torch.cat([one.reshape(BLOCK_LINES, -1, one.shape[-1]) for one in features])
    seen = seen[: scene.lines, : scene.samples].double().numpy()
    return {
        "max": 1 - np.exp(log_p.max(-1)),
        "entropy": -(np.exp(log_p) * log_p).sum(-1),
        "energy": -total,
        "feature distance": _distance(seen, train_map),
        "spectral distance": _distance(_components(network, scene), train_map),
        "spectral residual": _spectral_residual(network, scene),
    }


def _distance(features: Map, train_map: NDArray[np.uint8]) -> Map:
    known = features[train_map > 0]
    labels = train_map[train_map > 0]
    means = {number: known[labels == number].mean(0) for number in np.unique(labels)}
    shape = LedoitWolf(assume_centered=True).fit(known - np.stack([means[number] for number in labels])).precision_
    distances = [np.einsum("lsc,cd,lsd->ls", features - mean, shape, features - mean) for mean in means.values()]
    return np.min(distances, axis=0)


def _components(network: Network, scene: Scene) -> Map:
    lines = torch.from_numpy(np.asarray(scene.cube, np.float32))
    return network.components(lines).double().numpy()


def _spectral_residual(network: Network, scene: Scene) -> Map:
    every = fit_mnf(scene, scene.bands)
    rest = every.projection[:, network.config.components :]
    return (((scene.cube - every.mean) @ rest) ** 2).mean(-1).astype(np.float64)


def without(split: Split, number: int) -> tuple[Split, NDArray[np.bool_], NDArray[np.bool_]]:
    """Leave a class out; return the split without it, its known test pixels and the unknown ones."""

    def renumbered(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        kept = np.where(labels == number, 0, labels)
        return np.where(kept > number, kept - 1, kept).astype(np.uint8)

    known = (split.test > 0) & (split.test != number)
    return replace(split, train=renumbered(split.train), test=renumbered(split.test)), known, split.test == number


def measure(scene: Scene, number: int, seed: int, epochs: int, labels_per_class: int) -> dict[str, Any]:
    """Train without a class; return what each score tells apart, and the accuracy on the other classes."""
    assert scene.labels is not None
    split, known, unknown = without(random_split(scene.labels, labels_per_class, seed), number)
    config = TrainConfig(seed=seed, threads=1, epochs=epochs)
    model = network_config("mambamoe", bands=scene.bands, classes=int(scene.labels.max()) - 1)
    strips = [(scene, split.train)]
    network = train(start(strips, model, config), strips, config)
    found = {}
    for name, values in scores(network, scene, split.train).items():
        false, true = roc_curve(values[known], values[unknown])
        found[name] = {
            "auroc": auroc(values[known], values[unknown]),
            "found": np.interp(RATES, false, true).tolist(),
        }
    labels = predict_logits(network, scene, BLOCK_LINES).argmax(-1) + 1
    return {"oa": float((labels == split.test)[known].mean()), "scores": found}


def main() -> None:
    """Measure what is missing from the cache, then write table and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scenes")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--labels-per-class", type=int, default=15)
    parser.add_argument("--cache", type=Path, default=Path("build/unknown"))
    parser.add_argument("--out", type=Path, help="folder for table and picture")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for seed in range(options.seeds):
        for name in SCENES:
            scene = read_scene(str(options.data / name))
            assert scene.labels is not None
            for number in range(1, int(scene.labels.max()) + 1):
                file = options.cache / (
                    f"{Path(name).stem}-{number}-{seed}-{options.epochs}-{options.labels_per_class}.json"
                )
                if not file.exists():
                    file.write_text(json.dumps(measure(scene, number, seed, options.epochs, options.labels_per_class)))
                    print(f"{file.stem} done", flush=True)
                left_out = scene.class_names[number - 1] if scene.class_names else f"class {number}"
                results.setdefault(Path(name).stem, {}).setdefault(left_out, []).append(json.loads(file.read_text()))
    print("\n".join(table(results)))
    if options.out:
        draw(results, options.out)


def table(results: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    """Lay out the means over the seeds, a row a class left out."""
    names = list(next(iter(next(iter(results.values())).values()))[0]["scores"])
    rows = ["| Scene | Left out | " + " | ".join(names) + " |", "|---|---|" + "--:|" * len(names)]
    for scene, classes in results.items():
        means = []
        for left_out, runs in classes.items():
            cells = [np.mean([run["scores"][name]["auroc"] for run in runs]) for name in names]
            means.append(cells)
            rows.append(f"| {scene} | {left_out} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
        rows.append(f"| {scene} | **mean** | " + " | ".join(f"**{cell:.3f}**" for cell in np.mean(means, 0)) + " |")
    return rows


def draw(results: dict[str, dict[str, list[dict[str, Any]]]], out: Path) -> None:
    """Draw the mean ROC curve of every score, a panel a scene."""
    from matplotlib.figure import Figure

    from hyperline.pictures import class_colours, save_figure

    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    for axes, (scene, classes) in zip(figure.subplots(1, len(results)), results.items(), strict=True):
        runs = [run for each in classes.values() for run in each]
        names = list(runs[0]["scores"])
        for name, colour in zip(names, class_colours(len(names)) / 255, strict=True):
            found = np.mean([run["scores"][name]["found"] for run in runs], axis=0)
            area = np.mean([run["scores"][name]["auroc"] for run in runs])
            axes.plot(RATES, found, color=colour, label=f"{name}, {area:.3f}")
        axes.set(title=scene, xlabel="known pixels called unknown", ylabel="unknown pixels called unknown")
        axes.set(xlim=(0, 0.5), ylim=(0, 1))
        axes.legend(title="area under the curve", frameon=False, fontsize=9, loc="lower right")
        axes.grid(alpha=0.3)
    out.mkdir(parents=True, exist_ok=True)
    save_figure(figure, out / "unknown.png")


if __name__ == "__main__":
    main()
