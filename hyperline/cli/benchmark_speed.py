"""How many lines a second each model of an experiment classifies, streamed, on one thread, all in turns.

A network is measured as it would fly: its exported step in ONNX Runtime. Its weights are random, for speed does not
depend on them; its first layer is fitted, so that real lines meet real numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from hyperline.runtime.blocks import Block
    from hyperline.train.benchmark.protocol import Experiment
    from hyperline.train.benchmark.work import Task
    from hyperline.train.network import Network

SpeedPath = Literal["onnx", "torch", "numpy"]

_ROUNDS = 5


def speed_name(experiment: Experiment, machine: str) -> str:
    """Return a name that no other measurement has: of other models, code, scene or machine."""
    from hyperline.train.benchmark.work import code_of

    one = experiment
    facts = {
        "machine": machine,
        "scene": [one.scene, one.labels, one.train_site, one.test_site, one.classes],
        "block_lines": one.block_lines,
        "models": [[name, held.settings(), code_of(held)] for name, held in one.models.items()],
    }
    return f"speed-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]}"


def measure_speed(experiment: Experiment, machine: str, rounds: int = _ROUNDS) -> dict[str, Any]:
    """Classify a scene by every model in turns; in a process of its own, of one thread.

    What else the machine does falls on all models: a model's speed is that of the first, by medians, times the median
    of the ratios of each round.

    Args:
        experiment: its scene (of a collection the first plot that judges), block length and models.
        machine: where this is.
        rounds: turns.

    Returns:
        ``machine``, ``lines``, ``samples``, ``bands``, and ``models``: by name {lines_per_second, path}, the
        path one of `SpeedPath`.

    Raises:
        InputError: the scene cannot be read.
    """
    import torch

    from hyperline.runtime.bench.steps import timed
    from hyperline.train.benchmark.work import read_task

    torch.set_num_threads(1)
    task = read_task(experiment, seed=0)
    scene = task.judged[0][0]
    runs: dict[str, tuple[SpeedPath, Callable[[], object]]] = {
        name: _streamed(experiment, name, task) for name in experiment.models
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for name in order:
        runs[name][1]()
    for _ in range(rounds):
        for name in order:
            seconds[name].append(timed(runs[name][1]))
        order.reverse()
    first = np.array(next(iter(seconds.values())))
    speed = scene.lines / float(np.median(first))
    return {
        "machine": machine,
        "lines": scene.lines,
        "samples": scene.samples,
        "bands": scene.bands,
        "models": {
            name: {"lines_per_second": speed * float(np.median(first / np.array(seconds[name]))), "path": path}
            for name, (path, _) in runs.items()
        },
    }


def _streamed(experiment: Experiment, name: str, task: Task) -> tuple[SpeedPath, Callable[[], object]]:
    """Return what classifies the scene once, block by block, and how it does."""
    import torch

    from hyperline.errors import InputError
    from hyperline.train.baselines import fit_baseline
    from hyperline.train.models import make_network, network_config
    from hyperline.train.trainer import predict

    contestant, scene = experiment.models[name], task.judged[0][0]
    if contestant.baseline is not None:
        fitted = fit_baseline(contestant.baseline, task.strips, task.classes, experiment.block_lines)
        return "numpy", lambda: fitted.classify(scene)
    torch.manual_seed(0)
    network = make_network(
        network_config(contestant.network, bands=task.bands, classes=task.classes, **contestant.model)
    )
    network.fit_first_layer(task.strips)
    network.requires_grad_(False).eval()
    try:
        return "onnx", _exported(network, experiment.block_lines, task)
    except InputError:  # a network that the export does not know
        return "torch", lambda: predict(network, scene, experiment.block_lines)


def _exported(network: Network, block_lines: int, task: Task) -> Callable[[], object]:
    """Return what streams the scene through the exported step.

    Raises:
        InputError: the network cannot be exported.
    """
    from hyperline.classes import all_names
    from hyperline.export.step import export_step, untrained_card
    from hyperline.runtime.engines import load_engine
    from hyperline.train.network import MULTIPLE

    names = all_names(task.class_names, task.classes)[: task.classes]
    model = export_step(network, block_lines, names).SerializeToString(deterministic=True)
    card = untrained_card(network, block_lines, names)
    engine = load_engine("ort-cpu", model, card, threads=1)
    blocks = list(_blocks(task, block_lines, MULTIPLE))

    def stream() -> None:
        engine.reset(blocks[0].valid.shape[1])
        for block in blocks:
            engine.step(block)

    return stream


def _blocks(task: Task, block_lines: int, multiple: int) -> Iterator[Block]:
    """Cut the scene into blocks, padded as a run would."""
    from hyperline.runtime.blocks import Block
    from hyperline.scenes import valid_pixels

    scene = task.judged[0][0]
    for start in range(0, scene.lines, block_lines):
        raw = np.asarray(scene.cube[start : start + block_lines])
        seen = valid_pixels(raw, scene.nodata)
        count, samples = seen.shape
        lines = np.zeros((block_lines, -(-samples // multiple) * multiple, scene.bands), np.float32)
        valid = np.zeros(lines.shape[:2], bool)
        lines[:count, :samples] = np.where(seen[..., None], raw, 0)
        valid[:count, :samples] = seen
        yield Block(lines, valid, count)
