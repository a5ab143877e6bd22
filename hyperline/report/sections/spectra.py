"""Spectra of each class, as the model saw them in flight: the mean, and one standard deviation to either side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperline.classes import all_names
from hyperline.pictures import map_colours
from hyperline.report.chart import Axis, Chart, area, line, linear
from hyperline.report.documents import ClassSpectrum, Spectra
from hyperline.report.inputs import Inputs
from hyperline.report.picture import css_colour
from hyperline.report.words import count

# Bands that are left out (of water vapour, say) leave a gap this many times as wide as the usual distance.
_GAP = 4.0


@dataclass(frozen=True)
class ClassChart:
    """One class."""

    colour: str
    pixels: str
    chart: Chart


@dataclass(frozen=True)
class SpectraCharts:
    """What the template shows."""

    charts: tuple[ClassChart, ...]
    unseen: tuple[str, ...]
    caption: str


def make(inputs: Inputs) -> SpectraCharts | None:
    """Lay out the spectra of the strip; None where it has none."""
    spectra = inputs.strip.spectra if inputs.strip else None
    if spectra is None:
        return None
    seen = [one for one in spectra.classes if one.pixels and one.mean]
    unseen = tuple(one.name for one in spectra.classes if not one.pixels)
    classes = max([len(inputs.map_names), *(one.id for one in spectra.classes)])
    colours = map_colours(all_names(inputs.map_names, classes))
    caption = (
        "From the lines as the model saw them, one of every few blocks; all classes on one scale. The curve is the "
        "mean, the coloured band one standard deviation to either side."
    )
    return SpectraCharts(tuple(_charts(spectra, seen, colours)), unseen, caption)


def _charts(spectra: Spectra, seen: list[ClassSpectrum], colours: NDArray[np.uint8]) -> Iterator[ClassChart]:
    if not seen:
        return
    bands = len(seen[0].mean)
    known = spectra.wavelengths_nm
    across = np.array(known if known is not None else range(bands), float)
    order = np.argsort(across, kind="stable")  # sensors of two spectrometers overlap
    across = across[order]
    means = [np.array(one.mean)[order] for one in seen]
    stds = [np.array(one.std)[order] for one in seen]
    ends = [
        edge
        for mean, std in zip(means, stds, strict=True)
        for edge in (float((mean - std).min()), float((mean + std).max()))
    ]
    x = Axis(
        float(across[0]), float(max(across[-1], across[0] + 1)), "nm" if known is not None else "band", write=count
    )
    y = linear(ends, spectra.units or "", zero=min(ends) > 0 and min(ends) < 0.5 * max(ends))
    for one, mean, std in zip(seen, means, stds, strict=True):
        colour = css_colour(colours[one.id - 1])
        wave, middle, spread = _parted(across, mean, std)
        told = f"Mean spectrum of {one.name}, from {mean.min():.4g} to {mean.max():.4g}"
        paths = (
            area(x, y, wave, middle - spread, middle + spread, "spread", colour),
            line(x, y, zip(wave.tolist(), middle.tolist(), strict=True), "mean"),
        )
        yield ClassChart(colour, count(one.pixels), Chart(one.name, told, x, y, paths, height="small"))


def _parted(
    across: NDArray[np.float64], mean: NDArray[np.float64], std: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Put a NaN where bands are left out, so that nothing is drawn across."""
    steps = np.diff(across)
    usual = float(np.median(steps)) if len(steps) else 0.0
    gaps = np.flatnonzero(steps > _GAP * usual) + 1 if usual > 0 else np.array([], int)
    wave, middle, spread = (np.insert(values, gaps, np.nan) for values in (across, mean, std))
    return wave, middle, spread
