"""From the cells of a benchmark to tables: means, scatter, and differences on the same splits with their intervals."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from hyperline.train.benchmark.protocol import Experiment, Protocol
from hyperline.train.benchmark.work import Cell

Mode = Literal["offline", "streamed"]
MODES: tuple[Mode, ...] = ("offline", "streamed")
# What a reader may not know, once a page.
_WORDS = (
    "OA: share of the test pixels that have the right class. AA: its mean over classes. κ: Cohen's, agreement beyond "
    "chance. ECE: expected calibration error, the distance between confidence and accuracy. Streamed: a block of lines "
    "at a time, without the lines beyond it; offline: with the whole scene in view."
)
# By their keys in a result; a model that gives no probabilities has no calibration error.
_MEASURES = {"oa": "OA", "aa": "AA", "kappa": "κ", "ece": "ECE", "ece_temperature": "ECE with temperature"}
# How a speed was measured, by its key in a result.
_SPEED_MARKS = {"onnx": "", "torch": "†", "numpy": "‡"}
_SPEED_NOTES = {
    "torch": "by PyTorch, block by block: this network has no exported step",
    "numpy": "in Python, the whole strip at once: nothing that would fly",
}
_CONFIDENCE = 0.95

Results = Mapping[str, Mapping[str, Any]]
Speed = Mapping[str, Any]
Speeds = Mapping[tuple[str, str], Speed]


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


def markdown(
    protocols: Sequence[Protocol], results: Results, speeds: Speeds, circumstances: str, skipped: Sequence[str]
) -> str:
    """Lay out a report.

    Args:
        protocols: what was asked, and measured.
        results: of every cell, by its name.
        speeds: of the models of an experiment, by names of protocol and experiment; those not measured are not there.
        circumstances: command, machine, release and code.
        skipped: experiments that could not be measured, and why.
    """
    parts = ["# Accuracy\n", f"{circumstances}\n", f"{_WORDS}\n"]
    if skipped:
        parts.append("Not measured:\n\n" + "\n".join(f"- {one}" for one in skipped) + "\n")
    for protocol in protocols:
        role = "settings are chosen" if protocol.role == "tuning" else "no setting is chosen"
        parts.append(f"## {protocol.name}\n")
        parts.append(" ".join(filter(None, [f"Role: {protocol.role}; {role} on these scenes.", protocol.note])) + "\n")
        parts += [_experiment(one, results, speeds.get((protocol.name, one.title))) for one in protocol.experiments]
    return "\n".join(parts)


def _experiment(experiment: Experiment, results: Results, speed: Speed | None) -> str:
    first = results[Cell(experiment, next(iter(experiment.models)), 0).name]["split"]
    lines = [
        f"### {experiment.title}\n",
        f"{_split(experiment, first['guard'])}, {experiment.labels_per_class} labels a class; mean ± standard "
        f"deviation over {experiment.seeds} seeds, in % (κ as a fraction). Streamed is in blocks of "
        f"{experiment.block_lines} lines; baselines are held to the same latency.\n",
        *_accuracies(experiment, results, speed),
    ]
    reference, *others = experiment.models
    if others:
        lines += [
            f"\n{experiment.models[reference].title} less each other, on the same splits, in points of OA with its "
            "95 % interval:\n",
            "| | offline | streamed | streamed against the other offline |",
            "|---|---|---|---|",
        ]
    for model in others:
        texts = [
            _interval(experiment, reference, model, results, *modes)
            for modes in (("offline", "offline"), ("streamed", "streamed"), ("streamed", "offline"))
        ]
        lines.append(f"| {experiment.models[model].title} | {' | '.join(texts)} |")
    if others:
        lines.append("\n" + " ".join(judgement(experiment, results)))
    return "\n".join([*lines, ""])


def _accuracies(experiment: Experiment, results: Results, speed: Speed | None) -> Iterator[str]:
    """Give the rows of the table of means; columns that nothing was measured for are left out."""
    columns = [(key, mode, f"{_MEASURES[key]} {mode}") for key in _MEASURES for mode in MODES]
    some = [results[Cell(experiment, model, 0).name] for model in experiment.models]
    columns = [one for one in columns if any(one[0] in cell[one[1]] for cell in some)]
    titles = [title for _, _, title in columns] + ["parameters"] + ["lines/s"] * (speed is not None)
    yield f"| | {' | '.join(titles)} |"
    yield "|---" * (len(titles) + 1) + "|"
    marks = set()
    for model, cell in zip(experiment.models, some, strict=True):
        texts = [
            _spread(values(experiment, model, results, mode, key), key) if key in cell[mode] else "–"
            for key, mode, _ in columns
        ]
        texts.append(str(cell["parameters"] or "–"))
        if speed is not None:
            one = speed["models"][model]
            mark = _SPEED_MARKS[one["path"]]
            marks.add(one["path"])
            texts.append(f"{one['lines_per_second']:,.0f}{mark}")
        yield f"| {experiment.models[model].title} | {' | '.join(texts)} |"
    if speed is not None:
        told = "".join(
            f" {_SPEED_MARKS[path]} {_SPEED_NOTES[path]}." for path in _SPEED_MARKS if path in marks and path != "onnx"
        )
        yield (
            f"\nLines/s: streamed classification of {speed['lines']} lines of {speed['samples']} samples and "
            f"{speed['bands']} bands, on one thread of {speed['machine']}, all models in turns; exported steps in ONNX "
            f"Runtime with native ops.{told}"
        )


def judgement(experiment: Experiment, results: Results) -> list[str]:
    """Say in sentences how the experiment's first model stands, streamed, among all.

    Returns:
        One sentence on the best shallow baseline, where there is one, and one on its rank: whether it is first, or
        within one standard error (of the mean difference, on the same splits) of the first.
    """
    held = {model: values(experiment, model, results, "streamed", "oa") for model in experiment.models}
    reference, *others = experiment.models
    name = experiment.models[reference].title
    sentences = []
    shallow = [model for model in others if experiment.models[model].is_shallow]
    if shallow:
        best = max(shallow, key=lambda model: float(held[model].mean()))
        difference = _interval(experiment, reference, best, results, "streamed", "streamed")
        sentences.append(
            f"The best shallow baseline at the same latency is {experiment.models[best].title} with "
            f"{100 * held[best].mean():.1f} %; {name} less it is {difference} points."
        )
    ranked = sorted(held, key=lambda model: -float(held[model].mean()))
    first, place = ranked[0], ranked.index(reference) + 1
    if place == 1:
        return [*sentences, f"{name} is first of {len(ranked)} models."]
    gap = held[first] - held[reference]
    behind = (
        f"{name} is number {place} of {len(ranked)} models, {100 * gap.mean():.1f} points behind "
        f"{experiment.models[first].title}"
    )
    if gap.size < 2:
        return [*sentences, f"{behind}; one seed has no standard error."]
    error = float(gap.std(ddof=1) / math.sqrt(gap.size))
    inside = "within" if gap.mean() <= error else "not within"
    return [*sentences, f"{behind}: {inside} one standard error of the difference, {100 * error:.1f} points."]


def _split(experiment: Experiment, guard: int) -> str:
    """Say which pixels of which scene train and which judge."""
    if experiment.split == "sites":
        return f"{_scene(experiment)}: trained at {experiment.train_site} alone, judged at {experiment.test_site}"
    band = f", guard band of {guard} pixels" if guard else ""
    return f"{experiment.split} split of {_scene(experiment)}{band}"


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


def as_csv(protocols: Sequence[Protocol], results: Results) -> str:
    """Write every cell as a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["protocol", "experiment", "scene", "split", "labels_per_class", "model", "seed", "split_hash", "code"]
        + ["parameters", "seconds"]
        + [f"{key}_{mode}" for mode in MODES for key in _MEASURES]
    )
    for protocol in protocols:
        for experiment in protocol.experiments:
            for model in experiment.models:
                for seed in range(experiment.seeds):
                    one = results[Cell(experiment, model, seed).name]
                    writer.writerow(
                        [protocol.name, experiment.title, _scene(experiment), experiment.split]
                        + [experiment.labels_per_class, model, seed, one["split"]["hash"][:16], one["code"]]
                        + [one["parameters"], f"{one['seconds']:.1f}"]
                        + [f"{one[mode][key]:.6f}" if key in one[mode] else "" for mode in MODES for key in _MEASURES]
                    )
    return text.getvalue()
