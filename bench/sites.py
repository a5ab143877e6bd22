"""What limits a model at another site: its labels, its sensor's light, or the site.

    python bench/sites.py --data ../shared/data [--seeds 5] [--models forest-mnf lda-mnf ...]

On the scene and classes of bench/protocols/sites.toml, streamed in blocks of 8 lines. First by labels: trained on half
of the plots of a site and judged on the other half, and trained on all plots of the first site and judged at the
second, with 15 labels a class and with 200. Then by what is done to the spectra, 15 labels, across sites: as they are;
divided by their root mean square; less their mean and divided by their deviation (standard normal variate); and band by
band less the mean of the site, divided by its deviation, which takes a whole unlabelled strip of the new site and
undoes any gain and offset between the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyperline.metrics import Metrics
from hyperline.scenes import Scene, merge_classes, read_plots
from hyperline.train.baselines import fit_baseline
from hyperline.train.benchmark.protocol import Experiment, read_protocol
from hyperline.train.benchmark.work import Task, make_trained, read_task
from hyperline.train.trainer import predict

PROTOCOL = Path(__file__).parent / "protocols" / "sites.toml"
MODELS = ("forest-mnf", "lda-mnf", "forest-spectra", "svm-spectra")
LABELS = (15, 200)
Cube = NDArray[np.float32]
Judgement = tuple[float, float, float]


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that has idtrees_neon")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=MODELS, help="of the protocol")
    parser.add_argument("--skip-labels", action="store_true", help="the second table alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    (experiment,) = read_protocol(PROTOCOL).experiments
    experiment = replace(experiment, scene=str(options.data / "idtrees_neon" / Path(experiment.scene).name))
    print("OA % / AA % / kappa, means over the seeds\n")
    if not options.skip_labels:
        by_labels(experiment, options.models, options.seeds)
    by_spectra(experiment, options.models, options.seeds)


def by_labels(experiment: Experiment, models: Sequence[str], seeds: int) -> None:
    """Print what a model knows within a site and across, by its number of labels."""
    here, there = experiment.train_site, experiment.test_site
    print(f"| labels a class | model | {here}, other plots | {there}, other plots | {here} -> {there} |")
    print("|--:|---|---|---|---|")
    for count in LABELS:
        for model in models:
            cells: list[list[Judgement]] = [[], [], []]
            for seed in range(seeds):
                for cell, task in zip(cells, _tasks(experiment, count, seed), strict=True):
                    cell.append(judge(experiment, model, task, seed))
            print(f"| {count} | {model} | {' | '.join(map(_mean, cells))} |", flush=True)
    print()


def _tasks(experiment: Experiment, count: int, seed: int) -> list[Task]:
    """Draw the plots and labels of the three columns."""
    plots = read_plots(Path(experiment.scene))
    assert experiment.classes is not None
    plots = merge_classes(plots, experiment.classes)
    rng = np.random.default_rng([seed, 18])
    first, second = (
        rng.permutation(np.flatnonzero(plots.at(site))) for site in (experiment.train_site, experiment.test_site)
    )
    classes = int(plots.labels.max())
    tasks = []
    for trained, judged in (*((one[::2], one[1::2]) for one in (first, second)), (first, second)):
        train = np.zeros_like(plots.labels)
        for number in range(1, classes + 1):
            pixels = np.argwhere(plots.labels[trained] == number)
            place, line, sample = rng.permutation(pixels)[:count].T
            train[trained[place], line, sample] = number
        strips = [(plots.scene(int(one)), train[one]) for one in trained]
        truths = [(plots.scene(int(one)), plots.labels[one]) for one in judged]
        tasks.append(replace(read_task(experiment, seed), strips=strips, judged=truths))
    return tasks


def by_spectra(experiment: Experiment, models: Sequence[str], seeds: int) -> None:
    """Print what a model says at the other site, by what is done to the spectra before."""
    print(f"| {experiment.train_site} -> {experiment.test_site} | {' | '.join(WAYS)} |")
    print("|---" * (len(WAYS) + 1) + "|")
    for model in models:
        cells: dict[str, list[Judgement]] = {way: [] for way in WAYS}
        for seed in range(seeds):
            task = read_task(experiment, seed)
            for way, change in WAYS.items():
                strips, judged = (_changed(one, change) for one in (task.strips, task.judged))
                cells[way].append(judge(experiment, model, replace(task, strips=strips, judged=judged), seed))
        print(f"| {model} | {' | '.join(map(_mean, cells.values()))} |", flush=True)


def _changed(strips: Any, change: Callable[[list[Cube]], list[Cube]]) -> list[tuple[Scene, NDArray[np.uint8]]]:
    cubes = change([np.asarray(scene.cube, np.float32) for scene, _ in strips])
    return [(replace(scene, cube=cube), labels) for (scene, labels), cube in zip(strips, cubes, strict=True)]


def _root_mean_square(cubes: list[Cube]) -> list[Cube]:
    return [one / np.maximum(np.sqrt((one**2).mean(-1, keepdims=True)), 1e-6) for one in cubes]


def _normal_variate(cubes: list[Cube]) -> list[Cube]:
    return [(one - one.mean(-1, keepdims=True)) / np.maximum(one.std(-1, keepdims=True), 1e-6) for one in cubes]


def _of_the_site(cubes: list[Cube]) -> list[Cube]:
    spectra = np.concatenate([one.reshape(-1, one.shape[-1]) for one in cubes])
    spectra = spectra[np.isfinite(spectra).all(1) & spectra.any(1)]
    return [(one - spectra.mean(0)) / np.maximum(spectra.std(0), 1e-6) for one in cubes]


WAYS: dict[str, Callable[[list[Cube]], list[Cube]]] = {
    "as they are": lambda cubes: cubes,
    "root mean square": _root_mean_square,
    "standard normal variate": _normal_variate,
    "standardised by site": _of_the_site,
}


def judge(experiment: Experiment, model: str, task: Task, seed: int) -> Judgement:
    """Train a model of the protocol and judge it, streamed: OA, AA and kappa."""
    contestant = experiment.models[model]
    if contestant.baseline is not None:
        fitted = fit_baseline(contestant.baseline, task.strips, task.classes, experiment.block_lines, seed)
        maps = [fitted.classify(scene).class_map for scene, _ in task.judged]
    else:
        network, _, _ = make_trained(task, contestant, experiment.epochs, seed)
        maps = [predict(network, scene, experiment.block_lines) for scene, _ in task.judged]
    truth = np.concatenate([labels.ravel() for _, labels in task.judged])
    metrics = Metrics.from_maps(truth, np.concatenate([one.ravel() for one in maps]), task.classes)
    return metrics.oa, metrics.aa, metrics.kappa


def _mean(cells: list[Judgement]) -> str:
    oa, aa, kappa = np.mean(cells, axis=0)
    return f"{100 * oa:.1f} / {100 * aa:.1f} / {kappa:.2f}"


if __name__ == "__main__":
    main()
