"""One cell of a benchmark: a model trained on one split with one seed, and judged."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hyperline import __version__
from hyperline.train.benchmark.contestants import CONTESTANTS
from hyperline.train.benchmark.protocol import Experiment, Protocol


@dataclass(frozen=True)
class Cell:
    """What one piece of work is.

    Attributes:
        experiment: scene and split.
        model: name in `CONTESTANTS`.
        seed: of split, weights and draws.
    """

    experiment: Experiment
    model: str
    seed: int

    @property
    def name(self) -> str:
        """Return a name that no other cell has, nor one of other settings or another release."""
        one = self.experiment
        facts = {
            "release": __version__,
            "scene": [one.scene, one.labels],
            "split": [one.split, one.labels_per_class, one.guard],
            "block_lines": one.block_lines,
            "seed": self.seed,
            "settings": CONTESTANTS[self.model].settings(),
            "epochs": one.epochs if CONTESTANTS[self.model].baseline is None else None,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return f"{self.model}-{self.seed}-{digest[:16]}"


def cells(protocol: Protocol) -> Iterator[Cell]:
    """Give every cell of a protocol, a seed of all models before the next: an early end leaves whole pairs."""
    for experiment in protocol.experiments:
        for seed in range(experiment.seeds):
            for model in experiment.models:
                yield Cell(experiment, model, seed)


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train, classify with the whole scene in view and streamed, and judge both; one thread.

    Returns:
        ``split`` (`Split.as_dict`), ``seconds``, ``parameters`` (None for a baseline), and ``offline`` and
        ``streamed``, each {oa, aa, kappa, per_class}.

    Raises:
        InputError: the scene cannot be read, or has no labels to train on.
    """
    import torch

    from hyperline.errors import InputError
    from hyperline.metrics import Metrics
    from hyperline.scenes import read_scene
    from hyperline.splits import make_split
    from hyperline.train.baselines import classify_baseline
    from hyperline.train.models import network_config
    from hyperline.train.trainer import TrainConfig, predict, start, train

    torch.set_num_threads(1)
    one, contestant = cell.experiment, CONTESTANTS[cell.model]
    scene = read_scene(one.scene, one.labels)
    if scene.labels is None:
        raise InputError(f"{one.scene} has no labels; name a label map in the protocol: labels = PATH")
    split = make_split(one.split, scene.labels, one.labels_per_class, cell.seed, scene.class_names, one.guard)
    classes = int(scene.labels.max())
    began, parameters = time.perf_counter(), None
    if contestant.baseline is not None:
        maps = {
            "offline": classify_baseline(contestant.baseline, scene, split, None, cell.seed).class_map,
            "streamed": classify_baseline(contestant.baseline, scene, split, one.block_lines, cell.seed).class_map,
        }
    else:
        epochs = {} if one.epochs is None else {"epochs": one.epochs}
        config = TrainConfig(seed=cell.seed, threads=1, **{**contestant.train, **epochs})
        model = network_config(contestant.network, bands=scene.bands, classes=classes, **contestant.model)
        network = train(start(scene, model, config), scene, split, config)
        maps = {"offline": predict(network, scene), "streamed": predict(network, scene, one.block_lines)}
        parameters = sum(parameter.numel() for parameter in network.parameters())
    result: dict[str, Any] = {
        "split": split.as_dict(),
        "seconds": time.perf_counter() - began,
        "parameters": parameters,
    }
    for name, class_map in maps.items():
        metrics = Metrics.from_maps(split.test, class_map, classes)
        result[name] = {"oa": metrics.oa, "aa": metrics.aa, "kappa": metrics.kappa, "per_class": metrics.per_class}
    return result
