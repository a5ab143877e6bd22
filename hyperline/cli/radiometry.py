"""``hyperline radiometry``: the correction of a sensor as one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import sensor_options, stderr

if TYPE_CHECKING:
    from hyperline.sensor import SensorCorrection


@click.group()
def radiometry() -> None:
    """Make, or look at, the correction of a sensor: dark, white or gain, bad elements, saturation, bands."""


@radiometry.command()
@click.argument("out", metavar="FILE.npz", type=click.Path(path_type=Path))
@sensor_options
@click.option("--overwrite", is_flag=True, help="Replace FILE.npz.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def make(out: Path, overwrite: bool, as_json: bool, **sensor: Any) -> None:
    """Combine the files of a sensor into FILE.npz, for --radiometry of train, evaluate, export, calibrate and run.

    Files are ENVI, .npz, .npy, .mat or GeoTIFF. Lines are averaged without the lowest and highest tenth.
    """
    from hyperline.errors import InputError
    from hyperline.sensor import make_correction, write_correction

    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; choose another name, or give --overwrite")
    given = {name: value for name, value in sensor.items() if value is not None}
    correction, notes = make_correction(**given)
    write_correction(out, correction)
    console = stderr()
    for note in notes:
        console.print(f"note: {note}")
    _show(correction, as_json)
    if not as_json:
        click.echo(f"wrote {out}")


@radiometry.command()
@click.argument("file", metavar="FILE.npz", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(file: Path, as_json: bool) -> None:
    """Check FILE.npz and say what it holds."""
    from hyperline.sensor import read_correction

    _show(read_correction(file), as_json)


def _show(correction: SensorCorrection, as_json: bool) -> None:
    import numpy as np

    from hyperline.scenes.files import printable

    used = correction.used
    bad = 0 if correction.bad is None else int(np.count_nonzero(correction.bad[:, used]))

    def median(table: Any) -> float | None:
        if table is None:
            return None
        inside = table[:, used]
        return float(np.median(inside if correction.bad is None else inside[~correction.bad[:, used]]))

    facts = {
        "samples": correction.samples,
        "bands": correction.bands,
        "model_bands": correction.model_bands,
        "ranges": correction.ranges,
        "bin": correction.bin,
        "model_samples": correction.model_samples,
        "bin_samples": correction.bin_samples,
        "units": correction.units,
        "dark_median": median(correction.dark),
        "dark_noise_median": median(correction.dark_noise),
        "dark_drift": correction.dark_drift,
        "gain_median": median(correction.gain),
        "bad_elements": bad,
        "mend": correction.mend,
        "saturation": correction.saturation,
        "on_saturation": correction.on_saturation,
        "provenance": dict(correction.provenance),
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    size = f"{correction.samples} samples × {correction.bands} bands"
    samples = f"{correction.model_samples} samples × " if correction.bin_samples > 1 else ""
    click.echo(f"{size} of counts -> {samples}{correction.model_bands} bands of {correction.units}")
    for name, value, unit in (
        ("dark", facts["dark_median"], "counts"),
        ("noise of the dark", facts["dark_noise_median"], f"counts, may drift by {correction.dark_drift:g} times that"),
        ("gain", facts["gain_median"], "a count"),
    ):
        if value is not None:
            click.echo(f"{name}: median {value:.6g} {unit}")
    click.echo(f"{bad} of {correction.samples * len(used)} elements in use are bad, mended along the {correction.mend}")
    if correction.saturation is not None:
        then = "makes a pixel invalid" if correction.on_saturation == "invalid" else "is counted"
        click.echo(f"saturation at {correction.saturation:g} counts {then}")
    for name, source in correction.provenance.items():
        if isinstance(source, dict) and {"file", "lines", "sha256"} <= source.keys():
            text = f"{name}: {source['file']}, lines: {source['lines']}, SHA-256 {str(source['sha256'])[:16]}…"
            click.echo(printable(text))
