"""Pictures for people: the class map beside the scene, and how a training went.

matplotlib comes with an extra and is imported only when a picture is drawn; the colours need NumPy alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.classes import UNKNOWN
from hyperline.disk import replace_file
from hyperline.errors import HyperlineError, require

_DPI = 150
_UNKNOWN_GREY = (150, 150, 150)
_WIDTH = 12.8  # inches: 1920 pixels, a slide
_MOST_HEIGHT = 13.2  # inches: 1980 pixels
_MOST_PIXELS = 2000  # of an array's side; more cannot be seen
_MOST_LEGEND = 60
_LONGEST_NAME = 40

# The seven hues of Okabe and Ito (Color Universal Design, 2008), their black left out: black is "no class".
_FIRST_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
# Linear sRGB as people see it who lack the L or the M cones: Machado, Oliveira, Fernandes (2009), severity 1.
_PROTANOPIA = (
    (0.152286, 1.052583, -0.204868),
    (0.114503, 0.786281, 0.099216),
    (-0.003882, -0.048116, 1.051998),
)
_DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.01182, 0.04294, 0.968881),
)
# Linear sRGB -> cones -> (after a cube root) Oklab, where distance is the difference seen: Ottosson (2020).
_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def class_colours(classes: int) -> NDArray[np.uint8]:
    """Choose a colour for each class, the same in every map and picture.

    After the seven hues of Okabe and Ito, each colour is the one of a grid that lies furthest from all before
    it, as most people see it or, weighted double because it is the harder bar, as the colour-blind do. Near
    black, white and grey are left out: they are background.

    Args:
        classes: how many, at most 255.

    Returns:
        (classes, 3) uint8 red, green, blue of class 1, 2, …; a smaller number gives a prefix of a larger's.
    """
    step = np.linspace(0, 255, 18).round()
    grid = np.stack(np.meshgrid(step, step, step, indexing="ij"), axis=-1).reshape(-1, 3)
    colours = np.concatenate([np.asarray(_FIRST_COLOURS, float), grid])
    stored = colours / 255
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
    views = np.stack([_oklab(linear @ np.transpose(eye)) for eye in (np.eye(3), _PROTANOPIA, _DEUTERANOPIA)])
    lightness, chroma = views[0, :, 0], np.hypot(views[0, :, 1], views[0, :, 2])
    usable = (lightness > 0.4) & (lightness < 0.9) & (chroma > 0.06) & (chroma < 0.2)
    usable[: len(_FIRST_COLOURS)] = True
    colours, views = colours[usable], views[:, usable]
    nearest = np.full(len(colours), np.inf)  # distance of each colour to those chosen
    chosen = []
    for index in range(classes):
        chosen.append(index if index < len(_FIRST_COLOURS) else int(np.argmax(nearest)))
        seen, *colour_blind = np.linalg.norm(views - views[:, chosen[-1], None], axis=-1)
        nearest = np.minimum(nearest, np.minimum(seen, 2 * np.minimum(*colour_blind)))
    return colours[chosen].astype(np.uint8)


def _oklab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    cones = linear.clip(0, 1) @ np.transpose(_TO_CONES)
    return np.asarray(np.cbrt(cones) @ np.transpose(_TO_OKLAB))


def thinned(array: NDArray[Any]) -> NDArray[Any]:
    """Leave out lines and samples until no side of (line, sample, …) is longer than a picture; a view."""
    lines, samples = (-(-side // _MOST_PIXELS) for side in array.shape[:2])
    return array[:: max(lines, 1), :: max(samples, 1)]


def map_colours(class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Choose the colours of a map: those of its classes, and grey for a last one that holds the unknown.

    Args:
        class_names: name of class 1, 2, ….

    Returns:
        (classes, 3) uint8.
    """
    colours = class_colours(len(class_names))
    if class_names and class_names[-1] == UNKNOWN:
        colours[-1] = _UNKNOWN_GREY
    return colours


def class_map_picture(
    path: Path,
    composite: NDArray[Any],
    classes: NDArray[np.uint8],
    *,
    class_names: Sequence[str],
    truth: NDArray[np.uint8] | None = None,
    confidence: NDArray[np.float32] | None = None,
    title: str | None = None,
) -> None:
    """Draw the scene in colour, its class map, the truth and the confidence where known, with one legend.

    Strips much longer than wide are laid on their side. Nothing is more than 2000 pixels a side.

    Args:
        path: the PNG to make or replace.
        composite: (line, sample, 3) red, green, blue in any unit; each band is stretched from its 2nd to its
            98th percentile. NaN where there is no measurement. ``thinned`` beforehand or not.
        classes: (line, sample) uint8 class ids, 0 = no class. May be memory-mapped.
        class_names: name of class 1, 2, ….
        truth: (line, sample) uint8 class ids, 0 = unlabelled.
        confidence: (line, sample) float32 from 0 to 1.
        title: one line above.

    Raises:
        InputError: matplotlib is not installed.
        HyperlineError: the file cannot be written.
    """
    maps = {"class map": thinned(classes)} | ({} if truth is None else {"truth": thinned(truth)})
    colours = _colour_table(class_names)
    panels = {"colour composite": _stretched(thinned(composite))} | {
        name: colours[values] for name, values in maps.items()
    }
    if confidence is not None:
        grey = np.nan_to_num(thinned(confidence)).clip(0, 1) * 255
        panels["confidence (black 0, white 1)"] = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    _draw_panels(path, panels, list(maps.values()), class_names, classes.shape, title)


def label_picture(
    path: Path,
    composite: NDArray[Any],
    labels: NDArray[np.uint8],
    *,
    class_names: Sequence[str],
    title: str | None = None,
) -> None:
    """Draw the scene in colour, and beside it the same with its labels painted over.

    Args:
        path: the PNG to make or replace.
        composite: as for :func:`class_map_picture`.
        labels: (line, sample) uint8 class ids, 0 = unlabelled, where the scene shows.
        class_names: name of class 1, 2, ….
        title: one line above.

    Raises:
        InputError: matplotlib is not installed.
        HyperlineError: the file cannot be written.
    """
    seen, shown = _stretched(thinned(composite)), thinned(labels)
    # Grey and half as bright around the labels, whose colours nothing else then has.
    dimmed = np.repeat(seen.mean(axis=-1, keepdims=True) * 0.6, 3, axis=-1).astype(np.uint8)
    painted = np.where((shown > 0)[..., None], _colour_table(class_names)[shown], dimmed)
    panels = {"colour composite": seen, "labels": painted}
    _draw_panels(path, panels, [shown[shown > 0]], class_names, labels.shape, title)


def _colour_table(class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Return (classes + 1, 3): black for no class, then the colours of the classes."""
    return np.concatenate([np.zeros((1, 3), np.uint8), map_colours(class_names)])


def _draw_panels(
    path: Path,
    panels: Mapping[str, NDArray[np.uint8]],
    maps: Sequence[NDArray[np.uint8]],
    class_names: Sequence[str],
    shape: tuple[int, ...],
    title: str | None,
) -> None:
    """Draw images of one strip side by side, or below each other, with one legend of the classes in ``maps``.

    Args:
        path: the PNG.
        panels: (line, sample, 3) by their headings, thinned.
        maps: class ids that the legend explains.
        class_names: name of class 1, 2, ….
        shape: (lines, samples) of the strip.
        title: one line above.
    """
    lines, samples = shape
    sideways = lines > 2.5 * samples
    colours = _colour_table(class_names)

    # Inches. Everything has its place, so nothing can overlap and nothing need be cut.
    margin, gap, heading = 0.25, 0.15, 0.32
    top = 0.6 if title else 0.2
    entries = _legend_entries(maps, class_names)
    columns = max(1, int((_WIDTH - 2 * margin) / (0.55 + 0.088 * max(len(name) for _, name in entries))))
    legend = 0.2 + 0.21 * -(-len(entries) // columns)
    ratio = lines / samples if sideways else samples / lines  # width to height
    stacked = ratio > 2.5
    rows, across = (len(panels), 1) if stacked else (1, len(panels))
    footing = 0.25  # the line that says which way is along track
    room = (_MOST_HEIGHT - top - legend - footing) / rows - heading
    width = (_WIDTH - 2 * margin - (across - 1) * gap) / across
    height = max(width / ratio, 0.5)
    if height > min(room, 7.0):
        height = min(room, 7.0)
        width = max(min(width, height * ratio), 1.8)
    total = top + rows * (heading + height) + footing + legend
    figure = require("matplotlib.figure", "pictures").Figure(figsize=(_WIDTH, total), dpi=_DPI, facecolor="white")

    left = (_WIDTH - across * width - (across - 1) * gap) / 2
    for place, (name, image) in enumerate(panels.items()):
        row, column = divmod(place, across)
        x, y = left + column * (width + gap), total - top - (row + 1) * (heading + height)
        axes = figure.add_axes((x / _WIDTH, y / total, width / _WIDTH, height / total))
        axes.imshow(np.swapaxes(image, 0, 1) if sideways else image, aspect="auto", interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(name, fontsize=11, loc="left", pad=4)
    stretch = height * ratio / width
    direction = "along track →" if sideways else "along track ↓"
    # A strip of extreme length would be a hair line at its true proportions; say so when they are not kept.
    scale = f"   ({lines} lines × {samples} samples, {'not to scale' if abs(stretch - 1) > 0.02 else 'to scale'})"
    figure.text(left / _WIDTH, (legend + 0.04) / total, direction + scale, fontsize=9, color="0.35", va="bottom")
    if title:
        figure.text(0.5, 1 - 0.3 / total, title, fontsize=15, ha="center", va="center")
    patch = require("matplotlib.patches", "pictures").Patch
    figure.legend(
        handles=[
            patch(visible=False, label=name)
            if index is None
            else patch(facecolor=colours[index] / 255, edgecolor="0.6", label=name)
            for index, name in entries
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, legend / total),
        ncols=columns,
        fontsize=9,
        frameon=False,
        handlelength=1.2,
        handleheight=1.0,
    )
    save_figure(figure, path)


def _stretched(composite: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch each band of (line, sample, 3) from its 2nd to its 98th percentile; grey where NaN."""
    values = composite.astype(np.float32)
    known = np.isfinite(values).all(axis=-1)
    picture = np.full(values.shape, 128, np.uint8)
    if known.any():
        low, high = np.percentile(values[known], (2, 98), axis=0)
        picture[known] = ((values[known] - low) / np.where(high > low, high - low, 1)).clip(0, 1) * 255
    return picture


def _legend_entries(maps: Iterable[NDArray[np.uint8]], class_names: Sequence[str]) -> list[tuple[int | None, str]]:
    """Name the classes that occur, the most frequent where a legend cannot hold them all."""
    counts = np.sum([np.bincount(values.ravel(), minlength=256) for values in maps], axis=0)
    ids = [index for index in np.argsort(-counts, kind="stable").tolist() if counts[index]]
    entries: list[tuple[int | None, str]] = []
    for index in sorted(ids[:_MOST_LEGEND]):
        name = class_names[index - 1] if index else "no class"
        entries.append((index, name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"))
    if len(ids) > _MOST_LEGEND:
        entries.append((None, f"… and {len(ids) - _MOST_LEGEND} more"))
    return entries


def training_curves_picture(path: Path, history: Mapping[str, Sequence[float]]) -> None:
    """Draw how a training went: losses, load balance, learning rate, accuracy, whichever there are.

    Args:
        path: the PNG to make or replace.
        history: one list a curve. A shorter list than the longest is spread over the same epochs.

    Raises:
        InputError: matplotlib is not installed.
        HyperlineError: the history is empty, or the file cannot be written.
    """
    curves = {name: np.asarray(values, float) for name, values in history.items() if len(values)}
    if not curves:
        raise HyperlineError(f"{path}: nothing to draw, the history is empty")
    panels: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, values in curves.items():
        panels.setdefault(_curve_panel(name), {})[name] = values
    epochs = max(len(values) for values in curves.values())
    columns = len(panels) if len(panels) <= 3 else 2
    rows = -(-len(panels) // columns)
    figure = require("matplotlib.figure", "pictures").Figure(
        figsize=(min(6.2 * columns, _WIDTH), 3.4 * rows), dpi=_DPI, facecolor="white", layout="constrained"
    )
    for place, (panel, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        for colour, (name, values) in zip(class_colours(len(lines)) / 255, lines.items(), strict=True):
            # A single evaluation belongs to the last epoch; it needs a marker to be seen.
            at = np.linspace(1 if len(values) == epochs else epochs / len(values), epochs, len(values))
            axes.plot(at, values, color=colour, linewidth=1.6, marker="o" if len(values) < 30 else None, label=name)
        axes.set_title(panel, fontsize=11, loc="left")
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if len(lines) > 1 or [panel] != list(lines):
            axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def _curve_panel(name: str) -> str:
    """Say which curves share a panel: those of one unit."""
    lower = name.lower()
    if "balance" in lower:
        return "load balance"
    if "rate" in lower.replace("_", " ").split() or lower == "lr":
        return "learning rate"
    if "loss" in lower or "scale" in lower or "level" in lower or "consistency" in lower:
        return "loss"
    if any(word in lower for word in ("oa", "aa", "kappa", "accuracy")):
        return "accuracy"
    return name


def save_figure(figure: Any, path: Path) -> None:
    """Write a matplotlib figure as a PNG, whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    replace_file(path, picture.getvalue())
