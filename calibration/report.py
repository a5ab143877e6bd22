"""What a calibration came to, for people: a page of Markdown and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyperline.calibration.calibrate import Variant
from hyperline.disk import replace_file
from hyperline.errors import require
from hyperline.pictures import save_figure, thinned

_WORST_CLASSES = 40


def write_report(folder: Path, stem: str, variant: Variant, class_names: Sequence[str]) -> tuple[Path, Path]:
    """Write ``STEM.PRECISION.md`` and ``STEM.PRECISION.png``.

    Args:
        folder: an existing folder.
        stem: of the bundle's file.
        variant: of `calibrate`, its report with the measured ``speed`` where there is one.
        class_names: of the model.

    Returns:
        The two paths.

    Raises:
        InputError: matplotlib is not installed.
        HyperlineError: a file cannot be written.
    """
    base = f"{stem}.{variant.report['precision']}"
    page, picture = folder / f"{base}.md", folder / f"{base}.png"
    calibration_picture(picture, variant, class_names)
    replace_file(page, ("\n".join(_markdown(variant.report, class_names, picture.name)) + "\n").encode())
    return page, picture


def _markdown(report: dict[str, Any], class_names: Sequence[str], picture: str) -> Iterator[str]:
    name, loss, lines = report["precision"], report["loss"], report["lines"]
    judged = f"lines {lines['judged'][0]} to {lines['judged'][1] - 1}"
    yield f"# {report['model']} in {name.upper()}"
    yield ""
    yield (
        f"Judged on {judged} of {lines['scene']} ({lines['pixels_judged']} pixels, {lines['labelled_judged']} with a "
        f"label that was not trained on), streamed behind the lines before them. Lines {lines['set_ranges'][0]} to "
        f"{lines['set_ranges'][1] - 1} set the ranges and drove the search."
    )
    for warning in lines["warnings"]:
        yield f"\n**Note:** {warning}."
    yield ""
    yield "| | float32 | " + name.upper() + " | allowed |"
    yield "|---|---|---|---|"
    accuracy, budget = report["accuracy"], report["budget"]
    if accuracy:
        for label, key, digits in (("overall accuracy", "oa", 2), ("average accuracy", "aa", 2), ("kappa", "kappa", 4)):
            factor, unit = (1, "") if key == "kappa" else (100, " %")
            values = [f"{factor * accuracy[one][key]:.{digits}f}{unit}" for one in ("fp32", name)]
            yield f"| {label} | {' | '.join(values)} | |"
    yield f"| pixels that float32 has right and this has not | | {loss['points']:.3f} % | {budget['points']:g} % |"
    yield f"| the same in the class that loses most | | {loss['worst_class']:.2f} % | {budget['class_points']:g} % |"
    yield f"| labels that agree | | {100 * loss['agreement']:.3f} % | at least {100 * budget['agreement']:g} % |"
    sizes = report["bytes"]
    share = f"{sizes[name] / sizes['fp32']:.0%}"
    yield f"| model file | {sizes['fp32'] / 1e3:.0f} kB | {sizes[name] / 1e3:.0f} kB ({share}) | |"
    if speed := report.get("speed"):
        yield (
            f"| lines/s, in turns ({speed['samples']} samples, {speed['threads']} threads, {speed['engine']}) | "
            f"{speed['fp32']:.0f} | {speed[name]:.0f} ({speed['ratio']:.2f} times) | |"
        )
    yield f"\n![]({picture})\n"
    if accuracy:
        yield from _classes(accuracy, name, class_names)
    if "layers" in report:
        yield from _layers(report)


def _classes(accuracy: dict[str, Any], name: str, class_names: Sequence[str]) -> Iterator[str]:
    yield "## Classes"
    yield ""
    yield f"| class | pixels | float32 | {name.upper()} | change |"
    yield "|---|---|---|---|---|"
    of_class = (accuracy[one]["per_class"] for one in ("fp32", name))
    rows = zip(class_names, *of_class, accuracy["fp32"]["confusion"], strict=True)
    for label, before, after, counts in rows:
        if before is not None:
            change = 100 * (after - before)
            yield f"| {label} | {sum(counts)} | {100 * before:.2f} % | {100 * after:.2f} % | {change:+.2f} |"
    yield ""


def _layers(report: dict[str, Any]) -> Iterator[str]:
    more = report["more_lines"]
    yield "## Ranges"
    yield ""
    tuned = ", after a quantisation-aware fine-tuning" if report["fine_tuned"] else ""
    yield f"Ranges by {report['method']}{tuned}."
    if more["grew"] is not None:
        yield (
            f"Over the last quarter of the lines that set them, the largest value of {more['layer']} grew most, by "
            f"{more['grew']:.0%}: "
            + ("more lines would change the ranges." if more["grew"] > 0.1 else "more lines would change little.")
        )
    yield ""
    columns = "layer", "runs in", "range", "largest", "outlier", "agree", "logits", "ms float32", "ms INT8"
    yield f"| {' | '.join(columns)} |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for layer in report["layers"]:
        alone, cost = layer["alone"], layer["milliseconds"]
        yield (
            f"| {layer['name']} | {layer['runs_in']} | {layer['range']:.3g} | {layer['largest']:.3g} | "
            f"{layer['outlier']:.1f} | {100 * alone['agreement']:.2f} % | {alone['logits']:.2g} | "
            f"{cost['float32']:.3f} | {cost['int8']:.3f} |"
        )
    yield ""
    yield "*Outlier*: the largest channel of the layer's input, in medians of its channels. *Agree*, *logits*: labels"
    yield "that stay and mean change of the logits when this layer alone is in INT8, on the lines that set the ranges."
    yield ""
    held = [layer for layer in report["layers"] if layer["why_float"]]
    yield "## In float32"
    yield ""
    for layer in held:
        yield f"- {layer['name']}: {layer['why_float']}."
    reasons: dict[str, list[str]] = {}
    for one in report["always_float"]:
        reasons.setdefault(one["reason"], []).append(one["name"])
    for reason, names in reasons.items():
        yield f"- {reason}: {len(names)} products ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})."
    yield "- norms, softmax, the scans and their states."
    yield ""
    yield "| step sizes of a scan, states after a block | lowest | highest | 99.99 % below |"
    yield "|---|---|---|---|"
    for one in (*report["steps"], *report["states"]):
        yield f"| {one['name']} | {one['low']:.3g} | {one['high']:.3g} | {one['percentile']:.3g} |"


def calibration_picture(path: Path, variant: Variant, class_names: Sequence[str]) -> None:
    """Draw where labels changed, what each class lost, and how much each layer disturbs.

    Raises:
        InputError: matplotlib is not installed.
        HyperlineError: the file cannot be written.
    """
    report = variant.report
    name = report["precision"]
    layers = report.get("layers", [])
    accuracy = report["accuracy"]
    panels = ["map", *(["classes"] if accuracy else []), *(["layers"] if layers else [])]
    figure = require("matplotlib.figure", "pictures").Figure(
        figsize=(5.0 * len(panels), max(4.2, 0.19 * max(len(layers), len(class_names)) + 1)),
        dpi=130,
        facecolor="white",
        layout="constrained",
    )
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        if panel == "map":
            _draw_map(axes, variant, name)
        elif panel == "classes":
            _draw_classes(axes, accuracy, name, class_names)
        else:
            _draw_layers(axes, layers)
    save_figure(figure, path)


_BESIDE_TITLE: dict[str, Any] = {
    "frameon": False,
    "fontsize": 8,
    "loc": "lower right",
    "bbox_to_anchor": (1.0, 0.99),
    "ncols": 3,
    "borderpad": 0,
}
_GREY, _BLUE, _ORANGE, _RED = "#bbbbbb", "#0072b2", "#e69f00", "#d55e00"


def _draw_map(axes: Any, variant: Variant, name: str) -> None:
    first = variant.report["lines"]["judged"][0]
    changed = (variant.reference != variant.labels).astype(np.uint8)
    lost = (variant.reference == variant.truth) & (changed > 0) & (variant.truth > 0)
    shown = np.where(variant.reference > 0, 1, 0) + changed + lost
    palette = np.array([[255, 255, 255], [225, 225, 225], [0, 114, 178], [213, 94, 0]], np.uint8)
    extent = (0, shown.shape[1], shown.shape[0], 0)
    axes.imshow(thinned(palette[shown]), interpolation="nearest", aspect="auto", extent=extent)
    axes.axhline(first, color="black", linewidth=1, linestyle="--")
    axes.text(1, first - 1, "sets the ranges", va="bottom", fontsize=8)
    axes.text(1, first + 1, "judges", va="top", fontsize=8)
    axes.set_title(f"labels that {name.upper()} changes (blue), and spoils (red)", fontsize=10, loc="left")
    axes.set_xlabel("sample")
    axes.set_ylabel("line")


def _draw_classes(axes: Any, accuracy: dict[str, Any], name: str, class_names: Sequence[str]) -> None:
    rows = [
        (label, 100 * before, 100 * after)
        for label, before, after in zip(
            class_names, accuracy["fp32"]["per_class"], accuracy[name]["per_class"], strict=True
        )
        if before is not None
    ]
    rows = sorted(rows, key=lambda row: row[2] - row[1])[:_WORST_CLASSES][::-1]
    at = np.arange(len(rows))
    axes.barh(at + 0.2, [row[1] for row in rows], 0.38, color=_GREY, label="float32")
    axes.barh(at - 0.2, [row[2] for row in rows], 0.38, color=_BLUE, label=name.upper())
    for place, (_, before, after) in zip(at, rows, strict=True):
        axes.text(max(before, after) + 1, place, f"{after - before:+.2f}", va="center", fontsize=7)
    axes.set_yticks(at, [row[0] for row in rows], fontsize=7)
    axes.set_xlim(0, 115)
    axes.set_title("accuracy of each class, %", fontsize=10, loc="left")
    axes.legend(**_BESIDE_TITLE)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_layers(axes: Any, layers: list[dict[str, Any]]) -> None:
    colours = {"int8": _BLUE, "int8 smoothed": _ORANGE, "float32": _RED}
    at = np.arange(len(layers))[::-1]
    moved = [max(one["alone"]["logits"], 1e-7) for one in layers]
    axes.barh(at, moved, 0.7, color=[colours[one["runs_in"]] for one in layers])
    axes.set_xscale("log")
    axes.set_yticks(at, [one["name"] for one in layers], fontsize=7)
    axes.set_title("one layer in INT8: change of the logits", fontsize=10, loc="left")
    for label, colour in colours.items():
        if any(one["runs_in"] == label for one in layers):
            axes.barh([0], [0], color=colour, label=f"runs in {label}")
    axes.legend(**_BESIDE_TITLE)
    axes.spines[["top", "right"]].set_visible(False)
