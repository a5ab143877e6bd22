"""The accuracies of a benchmark as a picture: a panel an experiment, a row a model, a dot a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyperline.errors import require
from hyperline.pictures import save_figure
from hyperline.train.benchmark.protocol import Experiment, Protocol
from hyperline.train.benchmark.table import Results, Speeds, values
from hyperline.train.benchmark.work import Cell

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


def cost_picture(path: Path, protocols: Sequence[Protocol], results: Results, speeds: Speeds) -> None:
    """Draw streamed accuracy against what it costs: lines a second, and parameters of those that have some.

    A dot a model, its bar the standard deviation over the seeds. Dots are numbered by accuracy, and named beside the
    panels: fifteen names do not fit between fifteen dots.

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
    figure = Figure(figsize=(13, 3.6 * len(shown)), layout="constrained")
    rows = figure.subplots(len(shown), 2, squeeze=False, sharey="row", width_ratios=(3, 2))
    panels: list[tuple[Any, dict[int, tuple[float, float]]]] = []  # each with its dots by rank
    for (by_speed, by_size), (protocol, experiment) in zip(rows, shown, strict=True):
        measured = speeds[protocol.name, experiment.title]["models"]
        found = {model: 100 * values(experiment, model, results, "streamed", "oa") for model in experiment.models}
        speed_dots: dict[int, tuple[float, float]] = {}
        size_dots: dict[int, tuple[float, float]] = {}
        ranked = sorted(experiment.models, key=lambda model: -found[model].mean())
        for rank, model in enumerate(ranked, start=1):
            accuracy, one = found[model], measured[model]
            colour = "#0072b2" if one["path"] == "onnx" else "#6a6f78"
            size = results[Cell(experiment, model, 0).name]["parameters"]
            costs = [(by_speed, speed_dots, one["lines_per_second"]), (by_size, size_dots, size)]
            for axes, dots, cost in costs:
                if cost is not None:
                    dots[rank] = (cost, accuracy.mean())
                    deviation = accuracy.std(ddof=1) if len(accuracy) > 1 else 0.0
                    bar = {"capsize": 2, "ms": 4, "lw": 0.8}
                    axes.errorbar([cost], [accuracy.mean()], [deviation], fmt="o", color=colour, **bar)
            by_size.annotate(
                f"{rank}  {experiment.models[model].title}, {accuracy.mean():.1f}",
                (1.03, 1 - (rank - 0.5) / len(ranked)),
                xycoords="axes fraction",
                va="center",
                fontsize=8,
                color=colour,
            )
        for axes in (by_speed, by_size):
            _scale(axes)
        by_speed.set_title(f"{protocol.name}: {experiment.title}", loc="left", fontsize=10)
        by_speed.set_xlabel("lines a second on one thread; blue: exported step, grey: in Python", fontsize=8)
        by_size.set_xlabel("parameters; shallow classifiers have none to count", fontsize=8)
        by_speed.set_ylabel("OA streamed, %", fontsize=8)
        panels += [(by_speed, speed_dots), (by_size, size_dots)]
    figure.draw_without_rendering()  # places the panels
    for axes, dots in panels:
        _number(axes, dots)
    save_figure(figure, path)


def _scale(axes: Any) -> None:
    """Make the x axis of costs logarithmic, and say its numbers in full."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=8)
    axes.grid(linewidth=0.4)


def _number(axes: Any, dots: Mapping[int, tuple[float, float]]) -> None:
    """Write its number beside each dot, where it covers neither a dot nor another number.

    Args:
        axes: whose limits and place in the figure are final.
        dots: x and y of each, in data, by number.
    """
    if not dots:
        return
    pixels_a_point = axes.figure.dpi / 72
    places = axes.transData.transform([*dots.values()]) / pixels_a_point
    taken = [*places]
    for (number, dot), place in zip(dots.items(), places, strict=True):
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
