"""``hyperline explain``: which bands and which neighbours made a label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import BlockLines, percent, radiometry_option, read_noted, stderr

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hyperline.scenes import Scene
    from hyperline.train.run import TrainedRun

_TOP_BANDS = 10
_SHARES = {
    "pixel": "the pixel itself",
    "line": "the rest of its line",
    "block": "the rest of its block",
    "earlier": "earlier lines",
    "carried": "lines before those",
}


@click.command()
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("scene_spec", metavar="SCENE")
@click.option("--line", metavar="L", type=int, help="Of the pixel, counted from 0.")
@click.option("--sample", metavar="S", type=int, help="Of the pixel, counted from 0.")
@click.option("--class", "class_name", metavar="NAME", help="Class to explain.  [default: the label given]")
@click.option("--mean-by-class", is_flag=True, help="Instead of one pixel: the bands of every class.")
@click.option("--pixels", type=click.IntRange(min=1), help="Of every class, with --mean-by-class.  [default: 50]")
@click.option("--labels", metavar="PATH", help="Label map, where SCENE holds none; for --mean-by-class.")
@radiometry_option
@click.option("--block-lines", type=BlockLines("full"), default=8, show_default=True, help="Lines in a block.")
@click.option("--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(
    run_path: Path,
    scene_spec: str,
    line: int | None,
    sample: int | None,
    class_name: str | None,
    mean_by_class: bool,
    pixels: int | None,
    labels: str | None,
    radiometry: Path | None,
    block_lines: int | str,
    out: Path,
    threads: int | None,
    as_json: bool,
) -> None:
    """Say which bands and which neighbours of a pixel of SCENE made the label that RUN gives it.

    Writes relevance.png, relevance.npz and summary.json to DIR. With --mean-by-class, the mean over labelled pixels
    that RUN was not trained on, for every class.
    """
    from hyperline.disk import disk_errors, replace_file
    from hyperline.errors import InputError, require
    from hyperline.match import match_run, require_units
    from hyperline.radiometry import fit_scene

    torch = require("torch", "train")
    from hyperline.train.run import load_run, whole_scene_block_lines

    if mean_by_class:
        if line is not None or sample is not None or class_name is not None:
            raise InputError("--mean-by-class looks at all classes; leave out --line, --sample and --class")
    elif line is None or sample is None:
        raise InputError("give the pixel with --line and --sample, or ask for --mean-by-class")
    elif pixels is not None:
        raise InputError("--pixels is for --mean-by-class; leave it out for one pixel")
    if threads:
        torch.set_num_threads(threads)
    run = load_run(run_path)
    scene = read_noted(scene_spec, labels, stderr(), radiometry)
    require_units(scene, scene.units, run.record)
    scene = fit_scene(scene, match_run(scene, run_path.name, run.network.config.bands, run.record))
    lines = whole_scene_block_lines(scene) if isinstance(block_lines, str) else block_lines
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    if mean_by_class:
        summary, text = _classes(run, scene, pixels or 50, lines, out)
    else:
        assert line is not None and sample is not None
        summary, text = _pixel(run, scene, (line, sample), class_name, lines, out)
    summary = {"scene": scene.name, "model": run_path.name} | summary
    replace_file(out / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    click.echo(json.dumps(summary) if as_json else f"{text}\nwrote {out} (relevance.npz, relevance.png, summary.json)")


def _pixel(
    run: TrainedRun, scene: Scene, place: tuple[int, int], class_name: str | None, block_lines: int, out: Path
) -> tuple[dict[str, Any], str]:
    from hyperline.train.explain.picture import pixel_picture
    from hyperline.train.explain.pixel import explain_pixel

    names = run.class_names
    class_id = None if class_name is None else _class_id(class_name, names)
    made = explain_pixel(run.network, scene, *place, class_id, block_lines)
    wavelengths = _wavelengths(run, scene)
    summary = made.as_dict(names, wavelengths, _TOP_BANDS)
    _save(
        out / "relevance.npz",
        own=made.own,
        bands=made.bands,
        pixels=made.pixels,
        first_line=made.first_line,
        wavelengths_nm=wavelengths,
    )
    what = f"line {made.line}, sample {made.sample} of {scene.name}"
    heading = f"{what}: {summary['class']}, probability {made.probability:.3f}, blocks of {block_lines} lines"
    pixel_picture(out / "relevance.png", made, summary["class"], wavelengths, heading)
    label = "" if made.class_id == made.label else f"; its label is {summary['label']}"
    text = [
        f"{heading}{label}",
        f"logit {made.score:.3f}: bands {summary['bands_for']:+.3f} and {summary['bands_against']:+.3f}, "
        f"biases {made.biases:+.3f}"
        + (f", {made.carried:+.3f} from lines before line {made.first_line}" if made.first_line else ""),
        "where the relevance lies: "
        + ", ".join(f"{_SHARES[name]} {percent(share)}" for name, share in summary["shares"].items() if share),
        f"the bands most for {summary['class']}:",
        *_band_rows(summary["top_bands"]),
    ]
    return summary, "\n".join(text)


def _classes(run: TrainedRun, scene: Scene, pixels: int, block_lines: int, out: Path) -> tuple[dict[str, Any], str]:
    from hyperline.classes import class_fault
    from hyperline.errors import InputError
    from hyperline.splits import held_out
    from hyperline.train.explain.classes import class_relevance
    from hyperline.train.explain.picture import class_picture

    names = run.class_names
    truth, _ = held_out(scene, run.record)
    if truth is None:
        raise InputError(f"{scene.name} has no labels to draw pixels by; give a label map with --labels PATH")
    if fault := class_fault(scene, names):
        raise InputError(f"{fault}; give labels in the model's numbering")
    made = class_relevance(run.network, scene, truth, pixels, block_lines)
    wavelengths = _wavelengths(run, scene)
    _save(out / "relevance.npz", bands=made.bands, pixels=made.pixels, class_names=names, wavelengths_nm=wavelengths)
    heading = f"{scene.name}: relevance of the bands by class, blocks of {block_lines} lines"
    class_picture(out / "relevance.png", made, names, wavelengths, heading)
    summary = made.as_dict(names, wavelengths, _TOP_BANDS)
    text = [heading]
    for one in summary["classes"]:
        text.append(f"{one['class']}, {one['pixels']} pixels, mean logit {one['score']:.3f}")
        text += _band_rows(one["top_bands"])
    return summary | {"block_lines": block_lines}, "\n".join(text)


def _class_id(name: str, names: tuple[str, ...]) -> int:
    from hyperline.errors import InputError

    for index, known in enumerate(names, start=1):
        if known.casefold() == name.casefold():
            return index
    raise InputError(f"the model has no class {name!r}; its classes are: {', '.join(names)}")


def _wavelengths(run: TrainedRun, scene: Scene) -> NDArray[np.float64] | None:
    import numpy as np

    if scene.wavelengths_nm is not None:
        return scene.wavelengths_nm
    recorded = run.record["scene"].get("wavelengths_nm")
    return None if recorded is None else np.asarray(recorded, dtype=np.float64)


def _band_rows(bands: list[dict[str, Any]]) -> list[str]:
    return [
        f"  band {one['band']:>4}"
        + ("" if one["wavelength_nm"] is None else f"  {one['wavelength_nm']:8.1f} nm")
        + f"  {one['relevance']:+.4f}"
        for one in bands
    ]


def _save(path: Path, **arrays: Any) -> None:
    import io

    import numpy as np

    from hyperline.disk import replace_file

    file = io.BytesIO()
    np.savez_compressed(file, **{name: values for name, values in arrays.items() if values is not None})
    replace_file(path, file.getvalue())
