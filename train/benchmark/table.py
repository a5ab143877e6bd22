"""From the cells of a benchmark to tables: means, scatter, and differences on the same splits with their intervals."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from hyperline.train.benchmark.contestants import CONTESTANTS
from hyperline.train.benchmark.protocol import Experiment, Protocol
from hyperline.train.benchmark.work import Cell

Mode = Literal["offline", "streamed"]
MODES: tuple[Mode, ...] = ("offline", "streamed")
_MEASURES = ("oa", "aa", "kappa")
_CONFIDENCE = 0.95

Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """A mean difference over pairs, and the interval that holds it with 95 % confidence (Student's t).

    Attributes:
        mean, low, high: in the unit of the values; low and high are NaN with a single pair.
        pairs: number of pairs.
    """

    mean: float
    low: float
    high: float
    pairs: int


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Difference:
    """Compare two series pair by pair: value - reference."""
    difference = np.asarray(values, float) - np.asarray(reference, float)
    mean, pairs = float(difference.mean()), difference.size
    if pairs < 2:
        return Difference(mean, math.nan, math.nan, pairs)
    reach = float(student.ppf(0.5 + _CONFIDENCE / 2, pairs - 1) * difference.std(ddof=1) / math.sqrt(pairs))
    return Difference(mean, mean - reach, mean + reach, pairs)


def values(experiment: Experiment, model: str, results: Results, mode: Mode, measure: str) -> NDArray[np.float64]:
    """Return a measure by seed."""
    names = (Cell(experiment, model, seed).name for seed in range(experiment.seeds))
    return np.array([results[name][mode][measure] for name in names])


def markdown(protocol: Protocol, results: Results, circumstances: str) -> str:
    """Lay out a report.

    Args:
        protocol: what was asked.
        results: of every cell, by its name.
        circumstances: command, machine and release.
    """
    role = (
        "settings were chosen on these scenes" if protocol.role == "tuning" else "no setting was chosen on these scenes"
    )
    parts = [f"# {protocol.name}\n", f"{circumstances} Role: {protocol.role}; {role}.\n"]
    return "\n".join([*parts, *(_experiment(experiment, results) for experiment in protocol.experiments)])


def _experiment(experiment: Experiment, results: Results) -> str:
    first = results[Cell(experiment, experiment.models[0], 0).name]["split"]
    guard = f", guard band of {first['guard']} pixels" if first["guard"] else ""
    lines = [
        f"## {experiment.title}\n",
        f"{experiment.split} split of {_scene(experiment)}, {experiment.labels_per_class} labels a class{guard}; mean "
        f"± standard deviation over {experiment.seeds} seeds, in % (κ as a fraction). Streamed is in blocks of "
        f"{experiment.block_lines} lines; shallow classifiers are held to the same latency.\n",
        "| | OA offline | OA streamed | AA offline | AA streamed | κ offline | κ streamed | parameters |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model in experiment.models:
        texts = [_spread(values(experiment, model, results, mode, key), key) for key in _MEASURES for mode in MODES]
        parameters = results[Cell(experiment, model, 0).name]["parameters"]
        lines.append(f"| {CONTESTANTS[model].title} | {' | '.join(texts)} | {parameters or '–'} |")
    reference, *others = experiment.models
    if others:
        lines += [
            f"\n{CONTESTANTS[reference].title} less each other, on the same splits, in points of OA with its 95 % "
            "interval:\n",
            "| | offline | streamed | streamed against the other offline |",
            "|---|---|---|---|",
        ]
    for model in others:
        texts = [
            _interval(experiment, reference, model, results, *modes)
            for modes in (("offline", "offline"), ("streamed", "streamed"), ("streamed", "offline"))
        ]
        lines.append(f"| {CONTESTANTS[model].title} | {' | '.join(texts)} |")
    return "\n".join([*lines, ""])


def _scene(experiment: Experiment) -> str:
    return experiment.scene.rpartition("/")[2]


def _spread(found: NDArray[np.float64], key: str) -> str:
    deviation = found.std(ddof=1) if found.size > 1 else 0.0
    if key == "kappa":
        return f"{found.mean():.3f} ± {deviation:.3f}"
    return f"{100 * found.mean():.1f} ± {100 * deviation:.1f}"


def _interval(experiment: Experiment, one: str, other: str, results: Results, mode: Mode, other_mode: Mode) -> str:
    found = paired_difference(
        values(experiment, one, results, mode, "oa").tolist(),
        values(experiment, other, results, other_mode, "oa").tolist(),
    )
    if math.isnan(found.low):
        return f"{100 * found.mean:+.1f}"
    return f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def as_csv(protocol: Protocol, results: Results) -> str:
    """Write every cell as a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["experiment", "scene", "split", "labels_per_class", "model", "seed", "split_hash", "parameters", "seconds"]
        + [f"{key}_{mode}" for mode in MODES for key in _MEASURES]
    )
    for experiment in protocol.experiments:
        for model in experiment.models:
            for seed in range(experiment.seeds):
                one = results[Cell(experiment, model, seed).name]
                writer.writerow(
                    [experiment.title, _scene(experiment), experiment.split, experiment.labels_per_class, model, seed]
                    + [one["split"]["hash"][:16], one["parameters"], f"{one['seconds']:.1f}"]
                    + [f"{one[mode][key]:.6f}" for mode in MODES for key in _MEASURES]
                )
    return text.getvalue()
