"""Delete bands in the order of their relevance, and see how fast the true class is lost.

    python bench/explain.py --data ../shared/data [--seeds 5] [--pixels 2] [--epochs 30]

Networks are trained on the tuning scenes: spatial blocks, 15 labels a class. Around each of some test pixels, in the
lines of its block of 8 and 4 samples to either side, bands are replaced by those of the mean spectrum, first those most
relevant for the true class; judged are its probability, and whether it stays the label. Orders: relevance by the rules
of train/explain, gradient times input without them, and random. Bands go one by one, or in runs of ten neighbours. The
area under the curve is over the share of bands deleted: the less, the sooner an order finds what the label rests on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hyperline.scenes import Scene, read_scene
from hyperline.splits import block_split
from hyperline.train.benchmark.table import paired_difference
from hyperline.train.explain.relevance import ExplainedStrip
from hyperline.train.explain.windows import read_lines
from hyperline.train.models.mambamoe import MambaMoEConfig
from hyperline.train.network import Network, pad_to_multiple
from hyperline.train.trainer import TrainConfig, start, train

SCENES = ("salinas_a", "jasper_ridge")
BLOCK_LINES = 8
NEIGHBOURS = 4
RUNS = (1, 10)  # neighbouring bands deleted together
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
ORDERS = ("relevance", "gradient x input", "random")
RANDOM_ORDERS = 2


@dataclass(frozen=True)
class Place:
    """A pixel of a block, and what the network knows when the block comes.

    Attributes:
        block: (K, W, bands).
        valid: (K, W).
        state: before the block.
        line: of the pixel, in the block.
        sample: of the pixel.
        true_class: counted from 0.
    """

    network: Network
    block: Tensor
    valid: Tensor
    state: dict[str, Tensor] | None
    line: int
    sample: int
    true_class: int

    @property
    def near(self) -> slice:
        """The samples in which bands are deleted."""
        return slice(max(0, self.sample - NEIGHBOURS), self.sample + NEIGHBOURS + 1)

    def logits(self, block: Tensor) -> Tensor:
        """Return the logits (classes,) of the pixel, with other values in its block."""
        logits: Tensor = self.network(block, self.valid, BLOCK_LINES, self.state).logits[0]
        return logits[self.line, self.sample]


def main() -> None:
    """Train, delete, and print a table a scene."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scenes")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pixels", type=int, default=2, help="test pixels of every class, for each seed")
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("an interval needs two seeds")
    torch.set_num_threads(1)
    for name in SCENES:
        scene = read_scene(str(options.data / name / f"{name}.npz"))
        # (seed, run, order, share, probability and accuracy), each the mean over the pixels
        curves = np.stack(
            [deletion_curves(scene, seed, options.pixels, options.epochs) for seed in range(options.seeds)]
        )
        report(scene, curves, options.pixels)


def deletion_curves(scene: Scene, seed: int, pixels: int, epochs: int) -> np.ndarray:
    """Train one network and delete bands around test pixels.

    Returns:
        (run, order, share, 2): probability of the true class and share of pixels that keep it.
    """
    assert scene.labels is not None
    split = block_split(scene.labels, 15, seed)
    model = MambaMoEConfig(bands=scene.bands, classes=int(scene.labels.max()))
    config = TrainConfig(epochs=epochs, seed=seed, threads=1)
    strips = [(scene, split.train)]
    network = train(start(strips, model, config), strips, config)
    rng = np.random.default_rng([seed, 3])
    places = [
        tuple(place)
        for class_id in range(1, model.classes + 1)
        for place in rng.permutation(np.argwhere(split.test == class_id))[:pixels]
    ]
    found = [
        delete(Place(network, block, valid, state, line - first, sample, int(split.test[line, sample]) - 1), rng)
        for first, block, valid, state in blocks(network, scene)
        for line, sample in places
        if first <= line < first + BLOCK_LINES
    ]
    return np.mean(found, axis=0)


@torch.no_grad()
def blocks(network: Network, scene: Scene) -> Iterator[tuple[int, Tensor, Tensor, dict[str, Tensor] | None]]:
    """Stream a scene: first line of a block, its lines and valid as padded, and the state before it."""
    lines, valid = pad_to_multiple(*read_lines(scene, slice(None)), BLOCK_LINES)
    state = None
    for first in range(0, len(lines), BLOCK_LINES):
        part = slice(first, first + BLOCK_LINES)
        yield first, lines[part], valid[part], state
        state = network(lines[part], valid[part], BLOCK_LINES, state).state


def delete(place: Place, rng: np.random.Generator) -> np.ndarray:
    """Delete bands around one pixel; returns (run, order, share, 2) as `deletion_curves`."""
    relevances = [
        one[:, place.near].sum((0, 1)).numpy() for one in (rules_relevance(place), gradient_times_input(place))
    ]
    bands = place.block.shape[-1]
    curves = np.empty((len(RUNS), len(ORDERS), len(SHARES), 2))
    for at, run in enumerate(RUNS):
        starts = np.arange(0, bands, run)
        orders = [np.argsort(-np.add.reduceat(one, starts), kind="stable") for one in relevances]
        orders += [rng.permutation(len(starts)) for _ in range(RANDOM_ORDERS)]
        judged = [[judge(place, _first(order, run, bands, share)) for share in SHARES] for order in orders]
        curves[at, :2] = judged[:2]
        curves[at, 2] = np.mean(judged[2:], axis=0)
    return curves


def _first(order: np.ndarray, run: int, bands: int, share: float) -> np.ndarray:
    """Return the bands of the first runs of an order that make up a share."""
    deleted = order[: round(share * len(order))]
    every = (deleted[:, None] * run + np.arange(run)).ravel()
    return every[every < bands]


@torch.no_grad()
def judge(place: Place, deleted: np.ndarray) -> tuple[float, float]:
    """Return the probability of the true class without some bands, and 1 where it is still the label."""
    without = place.block.clone()
    gone = torch.from_numpy(deleted)
    without[:, place.near, gone] = place.network.mnf_mean[gone]
    logits = place.logits(without)
    return logits.softmax(-1)[place.true_class].item(), float(logits.argmax() == place.true_class)


def rules_relevance(place: Place) -> Tensor:
    """Return relevance (line, sample, band) by the rules."""
    strip = ExplainedStrip(place.network, place.block, place.valid, BLOCK_LINES, place.state)
    weights = torch.zeros_like(strip.logits)
    weights[place.line, place.sample, place.true_class] = 1
    return strip.relevance(weights).values


@torch.enable_grad()
def gradient_times_input(place: Place) -> Tensor:
    """Return the gradient of the network as it is, times the difference from the mean spectrum."""
    lines = place.block.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(place.logits(lines)[place.true_class], lines)
    return gradient * (place.block - place.network.mnf_mean)


def report(scene: Scene, curves: np.ndarray, pixels: int) -> None:
    """Print curves and areas of one scene: mean over the seeds."""
    for at, run in enumerate(RUNS):
        unit = "band by band" if run == 1 else f"runs of {run} bands"
        print(f"{scene.name}, {unit}; {len(curves)} seeds, up to {pixels} test pixels of every class each")
        for of, what in enumerate(("probability of the true class", "accuracy")):
            print(f"  {what:<30}" + "".join(f"{share:>7.0%}" for share in SHARES) + "   area ± sd over seeds")
            areas = np.trapezoid(curves[:, at, :, :, of], SHARES, axis=-1)  # (seed, order)
            for index, order in enumerate(ORDERS):
                values = "".join(f"{value:7.3f}" for value in curves[:, at, index, :, of].mean(0))
                spread = f"{areas[:, index].mean():.3f} ± {areas[:, index].std(ddof=1):.3f}"
                print(f"    {order:<28}{values}   {spread}")
            for index, order in enumerate(ORDERS[1:], 1):
                one = paired_difference(areas[:, 0], areas[:, index])
                print(f"    area, relevance less {order}: {one.mean:+.3f}, 95 % [{one.low:+.3f}, {one.high:+.3f}]")
        print(flush=True)


if __name__ == "__main__":
    main()
