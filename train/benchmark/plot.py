"""The accuracies of a benchmark as a picture: a panel an experiment, a row a model, a dot a seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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

    Dots are numbered by accuracy, and named beside the panel: fifteen names do not fit between fifteen dots.

    Args:
        path: of the PNG.
        protocols: what was asked, and measured; an experiment without speeds is left out.
        results: of every cell, by its name.
        speeds: by names of protocol and experiment, at least one.
    """
    require("matplotlib", "pictures")
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    shown = [
        (protocol, one)
        for protocol in protocols
        for one in protocol.experiments
        if (protocol.name, one.title) in speeds
    ]
    figure = Figure(figsize=(9, 3.6 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    all_dots: list[list[tuple[float, float]]] = []
    for axes, (protocol, experiment) in zip(panels, shown, strict=True):
        measured = speeds[protocol.name, experiment.title]["models"]
        found = {model: 100 * values(experiment, model, results, "streamed", "oa") for model in experiment.models}
        ranked = sorted(experiment.models, key=lambda model: -found[model].mean())
        dots: list[tuple[float, float]] = []
        for rank, model in enumerate(ranked, start=1):
            accuracy, one = found[model], measured[model]
            dots.append((one["lines_per_second"], accuracy.mean()))
            deviation = accuracy.std(ddof=1) if len(accuracy) > 1 else 0.0
            colour = "#0072b2" if one["path"] == "onnx" else "#6a6f78"
            axes.errorbar(
                *([number] for number in dots[-1]), [deviation], fmt="o", color=colour, capsize=2, ms=4, lw=0.8
            )
            axes.annotate(
                f"{rank}  {experiment.models[model].title}, {accuracy.mean():.1f}",
                (1.02, 1 - (rank - 0.5) / len(ranked)),
                xycoords="axes fraction",
                va="center",
                fontsize=8,
                color=colour,
            )
        axes.set_xscale("log")
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(linewidth=0.4)
        axes.set_title(f"{protocol.name}: {experiment.title}", loc="left", fontsize=10)
        axes.set_xlabel("lines a second on one thread; blue: exported step, grey: in Python", fontsize=8)
        axes.set_ylabel("OA streamed, %", fontsize=8)
        all_dots.append(dots)
    figure.draw_without_rendering()  # places the panels
    for axes, dots in zip(panels, all_dots, strict=True):
        _number(axes, dots)
    save_figure(figure, path)


def _number(axes: Any, dots: Sequence[tuple[float, float]]) -> None:
    """Write a number beside each dot, from 1, where it covers neither a dot nor another number.

    Args:
        axes: whose limits and place in the figure are final.
        dots: x and y of each, in data.
    """
    pixels_a_point = axes.figure.dpi / 72
    places = axes.transData.transform(dots) / pixels_a_point
    taken = [*places]
    for number, (dot, place) in enumerate(zip(dots, places, strict=True), start=1):
        around = [
            radius * np.array([np.cos(angle), np.sin(angle)])
            for radius in (9, 15, 22, 30)
            for angle in np.radians((0, 180, 35, 145, -35, -145, 90, -90))
        ]
        # of the first that is free, or the one with most room
        room = [min(np.abs((place + shift - other) / (8, 7)).max() for other in taken) for shift in around]
        shift = around[next((index for index, one in enumerate(room) if one >= 1), int(np.argmax(room)))]
        taken.append(place + shift)
        axes.annotate(
            str(number),
            dot,
            xytext=tuple(shift),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "shrinkA": 3, "shrinkB": 2} if np.hypot(*shift) > 10 else None,
        )


def _panels(protocols: Sequence[Protocol]) -> tuple[list[str], list[Experiment]]:
    pairs = [(f"{protocol.name}: {one.title}", one) for protocol in protocols for one in protocol.experiments]
    return [title for title, _ in pairs], [one for _, one in pairs]
