"""``hyperline scene``: what there is to know of a scene before anything is trained on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyperline.cli.options import percent, stderr

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hyperline.scenes import Scene
    from hyperline.scenes.inspection import Inspection

# Noise is estimated on so many runs of lines, spread over the scene: more would only take longer.
_RUNS, _RUN_LINES = 16, 64
_NOISE_VALUES = 2**26
_SHOWN = 8


@click.group()
def scene() -> None:
    """Look at scenes."""


@scene.command()
@click.argument("spec", metavar="SCENE")
@click.option("--picture", metavar="PNG", type=click.Path(path_type=Path), help="Draw mean spectrum and SNR by band.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(spec: str, picture: Path | None, as_json: bool) -> None:
    """Say what SCENE holds, what is wrong with it, and which bands to leave out."""
    from hyperline.scenes import read_scene
    from hyperline.scenes.inspection import inspect_scene

    console = stderr()
    read = read_scene(spec)
    noise, why = band_noise(read)
    found = inspect_scene(read, noise)
    facts = _facts(spec, read, found)
    for note in (*read.notes, *([f"no signal-to-noise ratios: {why}"] if why else [])):
        console.print(f"note: {note}")
    if picture is not None:
        from hyperline.scenes.inspection_picture import inspection_picture

        inspection_picture(picture, read, found)
    if as_json:
        click.echo(json.dumps(facts))
        return
    _show(facts, found)
    if picture is not None:
        click.echo(f"wrote {picture}")


def band_noise(read: Scene) -> tuple[NDArray[np.float64] | None, str | None]:
    """Estimate the noise of each band: what no combination of all others explains (train/mnf.py).

    Returns:
        (band,) standard deviations in stored values, or None and why there are none.
    """
    import numpy as np

    from hyperline.errors import InputError
    from hyperline.train.mnf import fit_mnf

    runs = _runs(read)
    # A band of telemetry among others would set what counts as little noise: all bands get the same spread first.
    spread = np.sqrt(np.nanmean([np.nanvar(run.cube, axis=(0, 1), dtype=np.float64) for run in runs], axis=0))
    spread[~(spread > 0)] = 1.0
    try:
        fitted = fit_mnf([replace(run, cube=run.cube / spread) for run in runs], read.bands, "regression")
    except InputError as error:
        return None, str(error)
    # Components have noise of variance 1, so that the noise of the bands is what undoes them.
    covariance = np.linalg.inv(fitted.projection @ fitted.projection.T)
    return np.sqrt(np.diag(covariance)) * spread, None


def _runs(read: Scene) -> list[Scene]:
    """Cut runs of lines that are spread over a scene, as float32 with NaN where there is no measurement."""
    import numpy as np

    from hyperline.scenes import valid_pixels

    most = max(_RUN_LINES, min(_RUNS * _RUN_LINES, _NOISE_VALUES // (read.samples * read.bands)))
    count = 1 if read.lines <= most else most // _RUN_LINES
    length = min(read.lines, most) if count == 1 else _RUN_LINES
    runs = []
    for start in np.linspace(0, read.lines - length, count).astype(int).tolist():
        stored = np.asarray(read.cube[start : start + length])
        lines = np.where(valid_pixels(stored, read.nodata)[..., None], stored, np.nan).astype(np.float32)
        runs.append(replace(read, cube=lines, labels=None, nodata=None))
    return runs


def _facts(spec: str, read: Scene, found: Inspection) -> dict[str, Any]:
    from hyperline.errors import InputError
    from hyperline.scenes import read_envi_header, read_georeference

    header = read_envi_header(spec)
    wavelengths = read.wavelengths_nm
    dtype = read.cube.dtype
    try:
        place = read_georeference(spec)
    except InputError as error:
        place, lies = None, str(error)
    else:
        lies = "not stated"
    if place is not None:
        lies = f"{place.crs.to_string() if place.crs else 'no coordinate system'}, from {place.transform.c:.10g}, "
        lies += f"{place.transform.f:.10g} in steps of {place.transform.a:g}, {place.transform.e:g}"
    return {
        "scene": read.name,
        "lines": found.lines,
        "samples": found.samples,
        "bands": found.bands,
        "interleave": header.interleave if header else None,
        "dtype": dtype.name,
        "byte_order": {"<": "little", ">": "big", "=": "little", "|": None}[dtype.byteorder],
        "scale": read.scale,
        "nodata": read.nodata,
        "range": [float(found.minimum.min()), float(found.maximum.max())],
        "wavelengths": None
        if wavelengths is None
        else {
            "stated_unit": header.wavelength_unit if header and header.states_unit else None,
            "order": found.order,
            "from_nm": float(wavelengths.min()),
            "to_nm": float(wavelengths.max()),
            "gaps": found.gaps,
        },
        "georeference": lies,
        "invalid_pixels": found.invalid_pixels,
        "invalid_share": found.invalid_pixels / (found.lines * found.samples),
        "dead_samples": found.dead_samples,
        "dead_elements": found.dead_elements,
        "dead_lines": found.dead_lines,
        "repeated_lines": found.repeated_lines,
        "mean": found.mean.tolist(),
        "deviation": found.deviation.tolist(),
        "saturated_share": found.saturated.tolist(),
        "snr": None if found.snr is None else found.snr.tolist(),
        "drop": [{"band": band, "reason": reason} for band, reason in found.faults.items()],
        "kept_bands": ",".join(f"{start}:{stop}" for start, stop in found.kept),
    }


def _show(facts: dict[str, Any], found: Inspection) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from hyperline.sensor.resampling import band_ranges

    waves = facts["wavelengths"]
    layout = (facts["interleave"], facts["dtype"], facts["byte_order"] and f"{facts['byte_order']}-endian")
    rows = {
        "size": f"{found.lines} lines × {found.samples} samples × {found.bands} bands",
        "stored as": ", ".join(str(part) for part in layout if part),
        "values": f"{facts['range'][0]:g} to {facts['range'][1]:g}, times {facts['scale']:g}",
        "wavelengths": "unknown"
        if waves is None
        else f"{waves['from_nm']:g} to {waves['to_nm']:g} nm, {waves['order']}, "
        f"{'stated in ' + waves['stated_unit'] if waves['stated_unit'] else 'unit not stated'}",
        "gaps": "none"
        if not found.gaps
        else _listed([f"{step:.0f} nm after band {left}" for left, _, step in found.gaps]),
        "georeference": facts["georeference"],
        "no measurement": f"{found.invalid_pixels} pixels, {percent(facts['invalid_share'])}"
        + ("" if facts["nodata"] is None else f" (no-data value {facts['nodata']:g})"),
        "dead samples": "too few lines to tell" if found.dead_samples is None else _listed(found.dead_samples),
        "dead elements": "too few lines to tell" if found.dead_elements is None else str(found.dead_elements),
        "dead lines": _listed(found.dead_lines),
        "repeated lines": _listed(found.repeated_lines),
        "saturated": _listed(
            [f"band {band} {percent(float(found.saturated[band]))}" for band in np.flatnonzero(found.saturated)]
        ),
    }
    if found.snr is not None:
        low, middle, high = np.percentile(found.snr, (0, 50, 100))
        rows["SNR"] = f"median {middle:.0f}, lowest {low:.1f} (band {int(np.argmin(found.snr))}), highest {high:.0f}"
    for reason in dict.fromkeys(found.faults.values()):
        bands = np.array([band for band, why in found.faults.items() if why == reason], np.intp)
        ranges = band_ranges(bands)
        rows[f"drop: {reason}"] = f"{len(bands)} bands, " + _listed([f"{start}:{stop}" for start, stop in ranges])
    table = Table(title=facts["scene"], show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, text)
    Console(markup=False, emoji=False, highlight=False).print(table)
    if found.faults and facts["kept_bands"]:
        kept = found.bands - len(found.faults)
        click.echo(f"train with the {kept} other bands: --bands {facts['kept_bands']}")
    elif found.faults:
        click.echo("no band is left: look at the file, or at how it was read")
    else:
        click.echo("no band needs to be left out")


def _listed(items: Any) -> str:
    shown = ", ".join(str(item) for item in items[:_SHOWN])
    return (shown or "none") + (f", … {len(items)} in all" if len(items) > _SHOWN else "")
