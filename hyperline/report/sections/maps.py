"""Maps: colours as the sensor saw them, classes, truth, confidence and uncertainty, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperline.pictures import map_colours
from hyperline.report.chart import Axis, Tick
from hyperline.report.inputs import Inputs
from hyperline.report.picture import NO_CLASS, css_colour, data_url, ramp, value_palette
from hyperline.report.thin import Layout, Thinned, lay_out, thin
from hyperline.report.words import count, share


@dataclass(frozen=True)
class Panel:
    """One map of one segment.

    Attributes:
        key: of the map: composite, classes, truth, confidence or uncertainty.
        title: of the map.
        told: what it shows, for whoever cannot see it.
        url: of the picture.
    """

    key: str
    title: str
    told: str
    url: str


@dataclass(frozen=True)
class Segment:
    """A stretch of the strip.

    Attributes:
        first_line, last_line: of the strip, both included.
        panels: its maps.
        ticks: along track.
    """

    first_line: int
    last_line: int
    panels: tuple[Panel, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class LegendEntry:
    """A class, or none: its colour, and its share of the pixels."""

    number: int
    name: str
    colour: str
    pixels: str
    share: str
    labelled: str | None


@dataclass(frozen=True)
class Maps:
    """What the template shows; ``beside``: there is room for the legend beside the maps."""

    layout: Layout
    segments: tuple[Segment, ...]
    legend: tuple[LegendEntry, ...]
    ramp: tuple[str, ...]
    beside: bool
    has_values: bool
    has_truth: bool
    caption: str
    lacking: tuple[str, ...]


_MOST_BESIDE = 20

_TITLES = {
    "composite": "Colour composite",
    "classes": "Classes",
    "truth": "Truth",
    "confidence": "Confidence",
    "uncertainty": "Uncertainty",
}


def make(inputs: Inputs) -> Maps | None:
    """Read the maps of the strip; None without one, or where it has no line yet."""
    strip = inputs.strip
    if strip is None or not strip.lines:
        return None
    truth = inputs.truth.labels if inputs.truth else None
    held = {
        "composite": strip.quicklook,
        "classes": strip.classes,
        "truth": truth,
        "confidence": strip.confidence,
        "uncertainty": strip.uncertainty,
    }
    names = [name for name, one in held.items() if one is not None]
    layout = lay_out(strip.lines, strip.samples, len(names))
    small = thin(strip, truth, layout)
    palette = np.concatenate([np.array([NO_CLASS], np.uint8), map_colours(inputs.map_names)])
    pictures = {name: getattr(small, name) for name in names}
    if small.composite is not None:
        pictures["composite"] = stretched(small.composite)
    segments = tuple(_segment(layout, pictures, palette, first, stop) for first, stop in layout.segments)
    lacking = []
    if truth is None:
        lacking.append("The truth is shown with --truth SCENE_OR_MAP.")
    if strip.quicklook is None or strip.uncertainty is None:
        lacking.append("The colour composite and the uncertainty come with strips flown by this release.")
    return Maps(
        layout,
        segments,
        tuple(_legend(inputs.map_names, palette, small)),
        tuple(map(css_colour, ramp(12))),
        not layout.sideways and len(inputs.map_names) <= _MOST_BESIDE,
        bool({"confidence", "uncertainty"} & set(names)),
        truth is not None,
        _caption(layout),
        tuple(lacking),
    )


def stretched(composite: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Spread each colour over what is seen; in flight nobody knew yet what would be.

    Args:
        composite: (row, column, 3), 0 where nothing was measured.

    Returns:
        The same, the 2nd percentile of each colour at 1 and the 98th at 255.
    """
    measured: NDArray[np.bool_] = np.any(composite, axis=-1)
    if not measured.any():
        return composite
    low, high = np.percentile(composite[measured], (2, 98), axis=0)
    spread = 1 + 254 * ((composite - low) / np.maximum(high - low, 1)).clip(0, 1)
    return np.where(measured[..., None], spread, 0).astype(np.uint8)


def _segment(
    layout: Layout, pictures: dict[str, NDArray[np.uint8]], palette: NDArray[np.uint8], first: int, stop: int
) -> Segment:
    start, end = first * layout.line_step, min(stop * layout.line_step, layout.lines)
    panels = []
    for name in pictures:
        values = pictures[name][first:stop]
        if layout.sideways:
            values = np.swapaxes(values, 0, 1)
        colours = {"composite": None, "classes": palette, "truth": palette}.get(name, value_palette())
        told = f"{_TITLES[name]}, lines {start} to {end - 1}"
        panels.append(Panel(name, _TITLES[name], told, data_url(values, colours)))
    axis = Axis(start, max(end, start + 1), write=count, whole=True)
    return Segment(start, end - 1, tuple(panels), tuple(axis.ticks(8)))


def _legend(names: tuple[str, ...], palette: NDArray[np.uint8], small: Thinned) -> Iterator[LegendEntry]:
    all_ = int(small.pixels.sum())
    labelled = small.truth_pixels
    for number, name in enumerate(("no class", *names)):
        pixels = int(small.pixels[number])
        if number == 0 and not pixels:
            continue
        of_truth = None if labelled is None else count(int(labelled[number])) if number else "–"
        yield LegendEntry(number, name, css_colour(palette[number]), count(pixels), share(pixels, all_), of_truth)


def _caption(layout: Layout) -> str:
    size = f"{count(layout.lines)} lines × {count(layout.samples)} samples"
    line_step, sample_step = layout.line_step, layout.sample_step
    if line_step == sample_step == 1:
        return f"{size}, every pixel shown."
    of = f"{line_step} lines × {sample_step} {'sample' if sample_step == 1 else 'samples'}"
    scale = "" if line_step == sample_step else " Not to scale: the strip is drawn wider than it is."
    return (
        f"{size}. One pixel of the picture stands for {of}: in maps of classes for the class that most of them have, "
        f"in the others for their mean.{scale}"
    )
