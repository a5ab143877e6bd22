"""The accuracies of a benchmark as a picture: a panel an experiment, a row a model, a dot a seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hyperline.errors import require
from hyperline.pictures import save_figure
from hyperline.train.benchmark.protocol import Experiment, Protocol
from hyperline.train.benchmark.table import Results, Speeds, values

_ROW_INCHES, _HEAD_INCHES = 0.45, 1.1


def accuracy_picture(path: Path, protocols: Sequence[Protocol], results: Results) -> None:
    """Draw overall accuracy, offline and streamed.

    Args:
        path: of the PNG.
        protocols: what was asked, and measured.
        results: of every cell, by its name.
    """
    require("matplotlib", "pictures")
    from matplotlib.figure import Figure

    titles, experiments = _panels(protocols)
    heights = [_HEAD_INCHES + _ROW_INCHES * len(one.models) for one in experiments]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, title, experiment in zip(panels, titles, experiments, strict=True):
        rows = range(len(experiment.models))
        for row, model in enumerate(experiment.models):
            for mode, shift, colour in (("offline", -0.16, "#8a8f98"), ("streamed", 0.16, "#0072b2")):
                found = 100 * values(experiment, model, results, mode, "oa")  # type: ignore[arg-type]
                axes.plot(found, [row + shift] * len(found), "o", color=colour, alpha=0.45, markersize=4)
                axes.plot([found.mean()], [row + shift], "|", color=colour, markersize=14, markeredgewidth=2.5)
        axes.set_yticks(list(rows), [one.title for one in experiment.models.values()])
        axes.invert_yaxis()
        axes.grid(axis="x", linewidth=0.4)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(
            "overall accuracy, %: a dot a seed, the bar their mean; grey offline, blue streamed", fontsize=8
        )
    save_figure(figure, path)


def speed_picture(path: Path, protocols: Sequence[Protocol], results: Results, speeds: Speeds) -> None:
    """Draw streamed accuracy against lines a second, a dot a model, its bar the standard deviation over the seeds.

    Args:
        path: of the PNG.
        protocols: what was asked, and measured; an experiment without speeds is left out.
        results: of every cell, by its name.
        speeds: by names of protocol and experiment, at least one.
    """
    require("matplotlib", "pictures")
    from matplotlib.figure import Figure

    shown = [
        (protocol, one)
        for protocol in protocols
        for one in protocol.experiments
        if (protocol.name, one.title) in speeds
    ]
    figure = Figure(figsize=(8, 3.6 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axes, (protocol, experiment) in zip(panels, shown, strict=True):
        for model, contestant in experiment.models.items():
            found = 100 * values(experiment, model, results, "streamed", "oa")
            one = speeds[protocol.name, experiment.title]["models"][model]
            deviation = found.std(ddof=1) if len(found) > 1 else 0.0
            colour = "#0072b2" if one["path"] == "onnx" else "#8a8f98"
            axes.errorbar(
                [one["lines_per_second"]], [found.mean()], [deviation], fmt="o", color=colour, capsize=3, markersize=5
            )
            axes.annotate(
                contestant.title,
                (one["lines_per_second"], found.mean()),
                xytext=(6, 4),
                textcoords="offset points",
                fontsize=8,
            )
        axes.set_xscale("log")
        axes.margins(x=0.25)
        axes.grid(linewidth=0.4)
        axes.set_title(f"{protocol.name}: {experiment.title}", loc="left", fontsize=10)
        axes.set_xlabel("lines a second on one thread; blue: exported step, grey: in Python", fontsize=8)
        axes.set_ylabel("OA streamed, %", fontsize=8)
    save_figure(figure, path)


def _panels(protocols: Sequence[Protocol]) -> tuple[list[str], list[Experiment]]:
    pairs = [(f"{protocol.name}: {one.title}", one) for protocol in protocols for one in protocol.experiments]
    return [title for title, _ in pairs], [one for _, one in pairs]
