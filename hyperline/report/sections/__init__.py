"""The sections of a report, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hyperline.report.inputs import Inputs
from hyperline.report.sections import (
    accounting,
    accuracy,
    environment,
    experts,
    latency,
    maps,
    precisions,
    spectra,
    speed,
    training,
)


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        name: of its template, and of its place in the page.
        title: above it.
        make: lays out what it shows; None where its input is not there.
        missing: how to get it, where it is not there.
        command: that adds it.
    """

    name: str
    title: str
    make: Callable[[Inputs], Any]
    missing: str
    command: str


SECTIONS = (
    Section(
        "maps", "Maps", maps.make,
        "Maps of a strip: fly one, and give its folder.",
        "hyperline run FILE.hlb --source SCENE --out STRIP",
    ),
    Section(
        "accuracy", "Accuracy", accuracy.make,
        "Accuracy and confusion: fly a scene with labels, give a strip's --truth, or evaluate the model.",
        "hyperline evaluate FILE.hlb SCENE --json > evaluation.json; hyperline report --evaluation evaluation.json",
    ),
    Section(
        "spectra", "Spectra of the classes", spectra.make,
        "Spectra of each class: a strip flown to its end by this release has them.",
        "hyperline run FILE.hlb --source SCENE --out STRIP",
    ),
    Section(
        "experts", "Experts", experts.make,
        "Which expert served which block: strips flown with a bundle exported by this release have it.",
        "hyperline export RUN --out FILE.hlb; hyperline run FILE.hlb --source SCENE --out STRIP",
    ),
    Section(
        "accounting", "Every line accounted for", accounting.make,
        "The accounting of a strip: summary.json is written when it ends.",
        "hyperline run FILE.hlb --source SCENE --out STRIP",
    ),
    Section(
        "latency", "Latency", latency.make,
        "Latency: summary.json of a strip has it.",
        "hyperline run FILE.hlb --source SCENE --rate HZ --out STRIP",
    ),
    Section(
        "speed", "Speed and energy", speed.make,
        "Speed and energy of the model on this machine: bench it.",
        "hyperline bench FILE.hlb --json > bench.json; hyperline report --bench bench.json",
    ),
    Section(
        "precisions", "Accuracy by precision", precisions.make,
        "Accuracy of the bundle's models: give the bundle, calibrated or not.",
        "hyperline calibrate FILE.hlb --lines SCENE --precision int8; hyperline report --bundle FILE.hlb",
    ),
    Section(
        "training", "Training", training.make,
        "How the training went: give its folder.",
        "hyperline report --training RUN",
    ),
    Section(
        "environment", "Environment", environment.make,
        "The machine and its software: a bench records them.",
        "hyperline bench FILE.hlb --json > bench.json; hyperline report --bench bench.json",
    ),
)  # fmt: skip
