"""Relevance as a picture: bands against wavelength, and the neighbourhood with its block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import require
from hyperline.pictures import class_colours, save_figure
from hyperline.train.explain.classes import ClassRelevance
from hyperline.train.explain.pixel import PixelExplanation

_DPI = 150
_AROUND_LINES, _AROUND_SAMPLES = 12, 20  # of the pixel, on every side, that the map shows
_FOR, _AGAINST, _OWN = "#0072b2", "#d55e00", "black"


def pixel_picture(
    path: Path,
    explanation: PixelExplanation,
    class_name: str,
    wavelengths_nm: NDArray[np.float64] | None,
    title: str,
) -> None:
    """Draw the relevance of the bands, and of the pixels around the one explained.

    Args:
        path: the PNG to make or replace.
        explanation: of the pixel.
        class_name: of the class explained.
        wavelengths_nm: (band,) band centres, or None where unknown.
        title: one line above.

    Raises:
        InputError: matplotlib is not installed.
        HyperlineError: the file cannot be written.
    """
    figure = require("matplotlib.figure", "pictures").Figure(
        figsize=(12.8, 5.0), dpi=_DPI, facecolor="white", layout="constrained"
    )
    figure.suptitle(title, fontsize=12)
    left, right = figure.subplots(1, 2, width_ratios=(7, 5))
    _draw_bands(left, explanation, class_name, wavelengths_nm)
    _draw_neighbours(figure, right, explanation)
    save_figure(figure, path)


def _draw_bands(
    axes: Any, explanation: PixelExplanation, class_name: str, wavelengths_nm: NDArray[np.float64] | None
) -> None:
    place, unit = _place(len(explanation.bands), wavelengths_nm)
    colours = np.where(explanation.bands > 0, _FOR, _AGAINST)
    axes.bar(place, explanation.bands, _width(place), color=colours)
    axes.plot(place, explanation.own, ".", color=_OWN, markersize=3)
    axes.plot([], [], "s", color=_FOR, label=f"for {class_name}, all pixels")
    axes.plot([], [], "s", color=_AGAINST, label=f"against {class_name}")
    axes.plot([], [], ".", color=_OWN, label="of these, the pixel's own")
    axes.axhline(0, color="0.4", linewidth=0.6)
    axes.set_xlabel(unit)
    axes.set_ylabel("relevance (logit)")
    axes.set_title("bands", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_neighbours(figure: Any, axes: Any, explanation: PixelExplanation) -> None:
    one, block = explanation, explanation.block
    top = max(one.first_line, one.line - _AROUND_LINES)
    # a little past the block, to show that nothing there was seen
    bottom = min(block.stop + 3, one.line + _AROUND_LINES)
    start = max(0, one.sample - _AROUND_SAMPLES)
    stop = min(one.pixels.shape[1], one.sample + _AROUND_SAMPLES + 1)
    seen = one.pixels[top - one.first_line : bottom - one.first_line, start:stop]
    # a few pixels may outweigh all others together; the scale is that of the tenth
    limit = float(np.sort(np.abs(seen), axis=None)[-10:][0]) or 1.0
    image = axes.imshow(
        seen,
        cmap="PuOr",
        vmin=-limit,
        vmax=limit,
        extent=(start - 0.5, stop - 0.5, top + len(seen) - 0.5, top - 0.5),
        interpolation="nearest",
    )
    patch = require("matplotlib.patches", "pictures").Rectangle
    if bottom > block.stop:
        past = (start - 0.5, block.stop - 0.5), stop - start, bottom - block.stop
        axes.add_patch(patch(*past, facecolor="0.9", edgecolor="0.6", hatch="///", linewidth=0))
    for edge in (block.start, block.stop):
        if top <= edge <= bottom:
            axes.axhline(edge - 0.5, color="black", linewidth=1.2)
    axes.add_patch(patch((one.sample - 0.5, one.line - 0.5), 1, 1, fill=False, edgecolor="#f0e442", linewidth=1.6))
    axes.set_ylim(bottom - 0.5, top - 0.5)
    axes.set_xlabel("sample; hatched: past the block, not seen")
    axes.set_ylabel("line")
    axes.set_title("pixels; black lines: the block; yellow: the pixel", loc="left", fontsize=10)
    figure.colorbar(image, ax=axes, label="relevance, all bands (logit)", extend="both", shrink=0.8)


def class_picture(
    path: Path, relevance: ClassRelevance, names: Sequence[str], wavelengths_nm: NDArray[np.float64] | None, title: str
) -> None:
    """Draw the mean relevance of the bands, a panel a class.

    Args:
        path: the PNG to make or replace.
        relevance: of the classes.
        names: of class 1, 2, ….
        wavelengths_nm: (band,) band centres, or None where unknown.
        title: one line above.

    Raises:
        InputError: matplotlib is not installed.
        HyperlineError: the file cannot be written.
    """
    shown = np.flatnonzero(relevance.pixels)
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure = require("matplotlib.figure", "pictures").Figure(
        figsize=(12.8, 0.6 + 1.9 * rows), dpi=_DPI, facecolor="white", layout="constrained"
    )
    figure.suptitle(title, fontsize=12)
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
    place, unit = _place(relevance.bands.shape[1], wavelengths_nm)
    colours = class_colours(len(names)) / 255
    for axes in panels.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, index in zip(panels.flat, shown, strict=False):
        axes.bar(place, relevance.bands[index], _width(place), color=colours[index])
        axes.axhline(0, color="0.4", linewidth=0.6)
        axes.set_title(f"{names[int(index)]} ({relevance.pixels[index]} pixels)", loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel(unit)
    figure.supylabel("mean relevance (logit)", fontsize=10)
    save_figure(figure, path)


def _place(bands: int, wavelengths_nm: NDArray[np.float64] | None) -> tuple[NDArray[Any], str]:
    if wavelengths_nm is None:
        return np.arange(bands), "band, counted from 0"
    return wavelengths_nm, "wavelength, nm"


def _width(place: NDArray[Any]) -> float:
    """Return the width of a bar: bands left out leave a gap, and where two detectors meet, bars overlap."""
    return float(np.median(np.abs(np.diff(place)))) if len(place) > 1 else 1.0
