"""The accuracies of a benchmark as a picture: a panel an experiment, a row a model, a dot a seed."""

from __future__ import annotations

from pathlib import Path

from hyperline.errors import require
from hyperline.pictures import save_figure
from hyperline.train.benchmark.contestants import CONTESTANTS
from hyperline.train.benchmark.protocol import Protocol
from hyperline.train.benchmark.table import Results, values

_ROW_INCHES, _HEAD_INCHES = 0.45, 1.1


def accuracy_picture(path: Path, protocol: Protocol, results: Results) -> None:
    """Draw overall accuracy, offline and streamed.

    Args:
        path: of the PNG.
        protocol: what was asked.
        results: of every cell, by its name.
    """
    require("matplotlib", "pictures")
    from matplotlib.figure import Figure

    heights = [_HEAD_INCHES + _ROW_INCHES * len(one.models) for one in protocol.experiments]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, experiment in zip(panels, protocol.experiments, strict=True):
        rows = range(len(experiment.models))
        for row, model in enumerate(experiment.models):
            for mode, shift, colour in (("offline", -0.16, "#8a8f98"), ("streamed", 0.16, "#0072b2")):
                found = 100 * values(experiment, model, results, mode, "oa")  # type: ignore[arg-type]
                axes.plot(found, [row + shift] * len(found), "o", color=colour, alpha=0.45, markersize=4)
                axes.plot([found.mean()], [row + shift], "|", color=colour, markersize=14, markeredgewidth=2.5)
        axes.set_yticks(list(rows), [CONTESTANTS[model].title for model in experiment.models])
        axes.invert_yaxis()
        axes.grid(axis="x", linewidth=0.4)
        axes.set_title(experiment.title, loc="left", fontsize=10)
        axes.set_xlabel(
            "overall accuracy, %: a dot a seed, the bar their mean; grey offline, blue streamed", fontsize=8
        )
    save_figure(figure, path)
