"""Training: on what, with which pixels, and how it went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hyperline.report.chart import Chart, line, linear
from hyperline.report.documents import Curves
from hyperline.report.inputs import Inputs
from hyperline.report.words import count, duration, percent, plain, split

_MOST_CURVES = 12


@dataclass(frozen=True)
class Training:
    """What the template shows."""

    facts: tuple[tuple[str, str], ...]
    accuracies: tuple[tuple[str, str, str, str, str], ...]
    charts: tuple[Chart, ...]
    warnings: tuple[str, ...]


def make(inputs: Inputs) -> Training | None:
    """Lay out the record of a training; None without one."""
    curves = inputs.training
    if curves is None:
        return None
    drawn, scene = curves.split, curves.scene
    facts = (
        ("scene", plain(scene.get("name"))),
        ("split", split(drawn)),
        ("pixels", f"{plain(drawn.get('train_pixels'))} trained on, {plain(drawn.get('test_pixels'))} to judge by"),
        ("made", plain(curves.created)),
        ("time", duration(curves.seconds) if curves.seconds is not None else "–"),
    )
    accuracies = tuple(
        (name, percent(one.oa, 2), percent(one.aa, 2), f"{one.kappa:.4f}", count(one.pixels))
        for name, one in (("whole scene in view", curves.offline), ("streamed", curves.streamed))
        if one is not None
    )
    warnings = drawn.get("warnings")
    told = tuple(map(str, warnings)) if isinstance(warnings, list) else ()
    return Training(facts, accuracies, tuple(_charts(curves)), told)


def _charts(curves: Curves) -> Iterator[Chart]:
    epochs = max((len(values) for values in curves.history.values()), default=0)
    x = linear([0.0, float(epochs)], "epoch", whole=True)
    for name, values in list(curves.history.items())[:_MOST_CURVES]:
        if len(values) < 2:
            continue
        y = linear(values, "", zero=min(values) >= 0)
        # A shorter list is spread over the same epochs.
        points = [(epochs * (index + 1) / len(values), value) for index, value in enumerate(values)]
        told = f"{name.replace('_', ' ')}, from {values[0]:.3g} to {values[-1]:.3g}"
        yield Chart(name.replace("_", " "), told, x, y, (line(x, y, points),), height="small")
