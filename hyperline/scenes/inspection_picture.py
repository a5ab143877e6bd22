"""A picture of a scene's bands: the mean spectrum, its spread, and how much of it is noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hyperline.errors import require
from hyperline.pictures import class_colours, save_figure
from hyperline.scenes.inspection import Fault, Inspection
from hyperline.scenes.scene import Scene
from hyperline.sensor.resampling import band_ranges

_FAULTS: tuple[Fault, ...] = ("empty", "saturated", "water vapour", "noise")


def inspection_picture(path: Path, scene: Scene, found: Inspection) -> None:
    """Draw mean ± standard deviation and the signal-to-noise ratio, band by band; bands to drop are shaded.

    Args:
        path: the PNG to make or replace.
        scene: that was inspected.
        found: in it.

    Raises:
        InputError: matplotlib is not installed.
        HyperlineError: the file cannot be written.
    """
    figure = require("matplotlib.figure", "pictures").Figure(
        figsize=(12.8, 7.2 if found.snr is not None else 4.4), dpi=150, facecolor="white", layout="constrained"
    )
    known = scene.wavelengths_nm is not None
    at = np.asarray(scene.wavelengths_nm if known else np.arange(found.bands), float)
    order = np.argsort(at, kind="stable")  # detectors may overlap
    panels = figure.subplots(2 if found.snr is not None else 1, 1, sharex=True, squeeze=False)[:, 0]
    spectrum = panels[0]
    mean, deviation = found.mean * scene.scale, found.deviation * scene.scale
    spectrum.fill_between(
        at[order], (mean - deviation)[order], (mean + deviation)[order], alpha=0.25, label="± 1 standard deviation"
    )
    spectrum.plot(at[order], mean[order], linewidth=1.4, label="mean")
    spectrum.set_title(f"{scene.name}: {scene.units or 'stored value × scale'}", fontsize=11, loc="left")
    if found.snr is not None:
        panels[1].plot(at[order], found.snr[order], linewidth=1.4, color="0.25", label="mean / noise")
        panels[1].set_title("signal-to-noise ratio", fontsize=11, loc="left")
        if (found.snr > 0).all():
            panels[1].set_yscale("log")
    for panel in panels:
        _shade(panel, at, found)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = spectrum.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))  # ranges of one fault have one entry
    spectrum.legend(entries.values(), entries.keys(), frameon=False, fontsize=9)
    panels[-1].set_xlabel("wavelength, nm" if known else "band, counted from 0")
    save_figure(figure, path)


def _shade(panel: Any, at: np.ndarray[Any, Any], found: Inspection) -> None:
    half = float(np.median(np.abs(np.diff(at)))) / 2 if len(at) > 1 else 0.5
    for fault, colour in zip(_FAULTS, class_colours(len(_FAULTS)) / 255, strict=True):
        bands = np.array([band for band, reason in found.faults.items() if reason == fault], np.intp)
        for start, stop in band_ranges(bands):
            low, high = at[start:stop].min() - half, at[start:stop].max() + half
            panel.axvspan(low, high, color=colour, alpha=0.35, linewidth=0, label=f"drop: {fault}")
