"""``hyperline label``: labels drawn as polygons become a label map of a scene."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import stderr

if TYPE_CHECKING:
    from rich.console import Console

    from hyperline.scenes import Scene
    from hyperline.shapes import ShapeLabels

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("scene_spec", metavar="SCENE")
@click.option(
    "--from",
    "source",
    metavar="FILE",
    required=True,
    type=_PATH,
    help="Polygons, lines or points: GeoJSON, shapefile, GeoPackage, ENVI ROI (XML, or Classic's ASCII).",
)
@click.option("--out", metavar="LABELS", required=True, type=_PATH, help="Label map to write: .npz or .tif.")
@click.option("--class-field", metavar="NAME", help="Property that names the class.  [default: the only one that can]")
@click.option("--layer", metavar="NAME", help="Layer of FILE, where it has several.")
@click.option("--crs", metavar="EPSG:N", help="Coordinate system of FILE, where it does not say it or is wrong.")
@click.option("--pixels", is_flag=True, help="FILE is in pixels of SCENE: x = sample, y = line, from 0.")
@click.option(
    "--touched", is_flag=True, help="Label all pixels that a polygon touches, not only where it has the middle."
)
@click.option("--picture/--no-picture", default=True, show_default=True, help="Draw the labels over the scene.")
@click.option("--overwrite", is_flag=True, help="Replace LABELS.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def label(
    scene_spec: str,
    source: Path,
    out: Path,
    touched: bool,
    picture: bool,
    overwrite: bool,
    as_json: bool,
    **reading: Any,
) -> None:
    """Turn shapes drawn in a map into the label map of SCENE, for train --labels.

    Shapes in map coordinates need a scene that says where it lies (ENVI map info, GeoTIFF); they may be in any
    coordinate system. Pixels that shapes of different classes cover are left unlabelled.
    """
    from hyperline.errors import InputError
    from hyperline.scenes import read_georeference, read_scene
    from hyperline.shapes import rasterise, read_shapes, write_labels

    console = stderr()
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; choose another name, or give --overwrite")
    scene = read_scene(scene_spec)
    shapes = read_shapes(source, **reading)
    place = read_georeference(scene_spec)
    made = rasterise(shapes, (scene.lines, scene.samples), place, touched=touched)
    for note in (*scene.notes, *shapes.notes, *left_out(made), *drawn_once(made)):
        console.print(f"note: {note}")
    write_labels(out, made, place)
    written = [out]
    if picture:
        written += draw(out.with_suffix(".png"), scene, made, console)
    if as_json:
        facts = asdict(made)
        del facts["labels"]
        click.echo(json.dumps(facts | {"path": str(out), "scene": scene.name, "labelled": sum(made.pixels)}))
        return
    _show(made)
    click.echo("wrote " + ", ".join(map(str, written)))


def left_out(made: ShapeLabels) -> list[str]:
    """Say which shapes label nothing, and which pixels are disputed, a sentence each."""
    return [
        f"{count} {what}"
        for count, what in (
            (made.overlapping, "pixels lie in shapes of different classes and are left unlabelled"),
            (made.outside, "shapes lie outside the scene"),
            (made.beyond, "shapes reach beyond the scene; the part within is used"),
            (made.missed, "shapes are too small to hold the middle of a pixel; --touched takes what they touch"),
            (made.unnamed, "shapes have no class and are left out"),
            (made.empty, "shapes have no geometry and are left out"),
        )
        if count
    ]


def drawn_once(made: ShapeLabels) -> list[str]:
    """Say which classes have one shape of several pixels: nothing of them can be held out while the others train."""
    counts = zip(made.class_names, made.shapes, made.pixels, strict=True)
    names = [name for name, shapes, pixels in counts if shapes == 1 and pixels > 1]
    if not names:
        return []
    return [
        f"drawn in one place only: {', '.join(names)}. Draw a second elsewhere: training cannot judge what it makes of "
        "a class that it knows from one place (docs/new-sensor.md)"
    ]


def draw(path: Path, scene: Scene, made: ShapeLabels, console: Console) -> list[Path]:
    """Draw the labels over the scene.

    Returns:
        The PNG, or nothing without matplotlib, which is said on the console.
    """
    import numpy as np

    from hyperline.errors import InputError
    from hyperline.pictures import label_picture, thinned
    from hyperline.scenes import composite_bands

    composite = thinned(scene.cube)[..., list(composite_bands(scene, scene.bands))].astype(np.float32)
    if scene.nodata is not None:
        composite[(composite == np.float32(scene.nodata)).all(axis=-1)] = np.nan
    try:
        label_picture(
            path,
            composite,
            made.labels,
            class_names=made.class_names,
            title=f"{scene.name}: {sum(made.pixels)} labelled pixels of {sum(made.shapes)} shapes",
        )
    except InputError as error:
        console.print(f"no picture: {error}")
        return []
    return [path]


def _show(made: ShapeLabels) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "class", "shapes", "pixels", show_footer=True)
    table.columns[1].footer, table.columns[2].footer = "all", str(sum(made.shapes))
    table.columns[3].footer = str(sum(made.pixels))
    for column in table.columns[2:]:
        column.justify = "right"
    for number, (name, shapes, pixels) in enumerate(zip(made.class_names, made.shapes, made.pixels, strict=True), 1):
        table.add_row(str(number), name, str(shapes), str(pixels))
    # Names are a stranger's: no markup, and the reader has replaced control characters.
    Console(markup=False, emoji=False, highlight=False).print(table)
