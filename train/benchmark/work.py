"""One cell of a benchmark: a model trained on one split with one seed, and judged."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.metrics import Metrics, Reliability
from hyperline.scenes import Strips, merge_classes, read_plots, read_scene
from hyperline.splits import Split, make_split, site_split
from hyperline.train.baselines import fit_baseline
from hyperline.train.baselines.classification import Classification
from hyperline.train.benchmark.contestants import Contestant
from hyperline.train.benchmark.fingerprint import fingerprint
from hyperline.train.benchmark.protocol import Experiment, Protocol
from hyperline.train.confidence import held_out_temperature, labels_and_confidence
from hyperline.train.models import NETWORKS, network_config
from hyperline.train.network import Network, NetworkConfig
from hyperline.train.trainer import TrainConfig, predict_logits, start, train

_Number = TypeVar("_Number", np.uint8, np.float64)


@dataclass(frozen=True)
class Cell:
    """What one piece of work is.

    Attributes:
        experiment: scene and split.
        model: name in `Experiment.models`.
        seed: of split, weights and draws.
    """

    experiment: Experiment
    model: str
    seed: int

    @property
    def contestant(self) -> Contestant:
        """The model itself."""
        return self.experiment.models[self.model]

    @property
    def code(self) -> str:
        """Return the hash of the code that its figures depend on."""
        return code_of(self.contestant)

    @property
    def name(self) -> str:
        """Return a name that no other cell has, nor one of other settings or other code."""
        one = self.experiment
        facts = {
            "code": self.code,
            "scene": [one.scene, one.labels],
            "split": [one.split, one.labels_per_class, one.guard],
            "sites": [one.train_site, one.test_site, one.classes],
            "block_lines": one.block_lines,
            "seed": self.seed,
            "settings": self.contestant.settings(),
            "epochs": one.epochs if self.contestant.baseline is None else None,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return f"{self.model}-{self.seed}-{digest[:16]}"


def code_of(contestant: Contestant) -> str:
    """Return the hash of the code that a model's figures depend on."""
    modules = ["hyperline.train.benchmark.work", "hyperline.splits", "hyperline.metrics"]
    if contestant.baseline is not None:
        return fingerprint(*modules, "hyperline.train.baselines")
    if contestant.temperature:
        modules.append("hyperline.train.confidence")
    return fingerprint(*modules, "hyperline.train.trainer", NETWORKS[contestant.network].__module__)


def cells(protocol: Protocol) -> Iterator[Cell]:
    """Give every cell of a protocol, a seed of all models before the next: an early end leaves whole pairs."""
    for experiment in protocol.experiments:
        for seed in range(experiment.seeds):
            for model in experiment.models:
                yield Cell(experiment, model, seed)


@dataclass(frozen=True)
class Task:
    """What a model gets to see, and what judges it.

    Attributes:
        strips: to train on.
        judged: scenes with the truth that judges, (line, sample) class ids, 0 elsewhere.
        split: of the pixels.
        classes: number of them.
        class_names: as far as there are any.
    """

    strips: Strips
    judged: Strips
    split: Split
    classes: int
    class_names: tuple[str, ...]

    @property
    def bands(self) -> int:
        """Number of spectral bands."""
        return self.strips[0][0].bands


def read_task(experiment: Experiment, seed: int) -> Task:
    """Read the scene of an experiment and draw its split.

    Raises:
        InputError: the scene cannot be read, or has no labels to train on.
    """
    one = experiment
    if one.split == "sites":
        assert one.train_site is not None and one.test_site is not None
        plots = read_plots(Path(one.scene))
        if one.classes is not None:
            plots = merge_classes(plots, one.classes)
        split = site_split(plots, one.labels_per_class, seed, one.train_site, one.test_site)
        here, there = (
            [(plots.scene(int(place)), labels[place]) for place in np.flatnonzero(plots.at(site))]
            for site, labels in ((one.train_site, split.train), (one.test_site, split.test))
        )
        return Task(here, there, split, int(plots.labels.max()), plots.class_names)
    scene = read_scene(one.scene, one.labels)
    if scene.labels is None:
        raise InputError(f"{one.scene} has no labels; name a label map in the protocol: labels = PATH")
    split = make_split(one.split, scene.labels, one.labels_per_class, seed, scene.class_names, one.guard)
    classes = int(scene.labels.max())
    return Task([(scene, split.train)], [(scene, split.test)], split, classes, scene.class_names)


def make_trained(
    task: Task, contestant: Contestant, epochs: int | None, seed: int
) -> tuple[Network, NetworkConfig, TrainConfig]:
    """Train a network, on one thread; ``epochs`` None as tuned. Returns its settings too."""
    config = TrainConfig(
        **{**contestant.train, **({} if epochs is None else {"epochs": epochs}), "seed": seed, "threads": 1}
    )
    model = network_config(contestant.network, bands=task.bands, classes=task.classes, **contestant.model)
    return train(start(task.strips, model, config), task.strips, config), model, config


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train, classify with the whole scene in view and streamed, and judge both; one thread.

    Returns:
        ``code`` (`Cell.code` where it was run), ``split`` (`Split.as_dict`), ``seconds``, ``parameters`` (None for a
        baseline), ``temperature`` (None where none is fitted), and ``offline`` and ``streamed``, each {oa, aa, kappa,
        per_class}, with ``ece`` where there are probabilities and ``ece_temperature`` where there is a temperature.

    Raises:
        InputError: the scene cannot be read, or has no labels to train on.
    """
    torch.set_num_threads(1)
    one, contestant = cell.experiment, cell.contestant
    task = read_task(one, cell.seed)
    began, parameters, temperature = time.perf_counter(), None, None
    answers: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.float64] | None]]] = {}
    cooled: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.float64]]]] = {}
    if contestant.baseline is not None:
        for mode, block_lines in (("offline", None), ("streamed", one.block_lines)):
            fitted = fit_baseline(contestant.baseline, task.strips, task.classes, block_lines, cell.seed)
            answers[mode] = [_of_baseline(fitted.classify(scene)) for scene, _ in task.judged]
    else:
        network, model, config = make_trained(task, contestant, one.epochs, cell.seed)
        logits = {
            mode: [predict_logits(network, scene, block_lines) for scene, _ in task.judged]
            for mode, block_lines in (("offline", 0), ("streamed", one.block_lines))
        }
        answers = {mode: [labels_and_confidence(said) for said in found] for mode, found in logits.items()}
        parameters = sum(parameter.numel() for parameter in network.parameters())
        if contestant.temperature:
            temperature = held_out_temperature(task.strips, model, config, one.block_lines, None).temperature
            cooled = {
                mode: [labels_and_confidence(said / temperature) for said in found] for mode, found in logits.items()
            }
    result: dict[str, Any] = {
        "code": cell.code,
        "split": task.split.as_dict(),
        "seconds": time.perf_counter() - began,
        "parameters": parameters,
        "temperature": temperature,
    }
    truth = _flat([labels for _, labels in task.judged])
    for mode, found in answers.items():
        labels = _flat([one for one, _ in found])
        metrics = Metrics.from_maps(truth, labels, task.classes)
        result[mode] = {"oa": metrics.oa, "aa": metrics.aa, "kappa": metrics.kappa, "per_class": metrics.per_class}
        sure = [confidence for _, confidence in found if confidence is not None]
        if len(sure) == len(found):
            result[mode]["ece"] = Reliability.from_maps(truth, labels, _flat(sure)).ece
        if mode in cooled:
            after = _flat([confidence for _, confidence in cooled[mode]])
            result[mode]["ece_temperature"] = Reliability.from_maps(truth, labels, after).ece
    return result


def _of_baseline(found: Classification) -> tuple[NDArray[np.uint8], NDArray[np.float64] | None]:
    if found.probabilities is None:
        return found.class_map, None
    return found.class_map, found.probabilities.max(-1).astype(np.float64)


def _flat(maps: list[NDArray[_Number]]) -> NDArray[_Number]:
    return np.concatenate([one.ravel() for one in maps])
