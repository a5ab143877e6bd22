"""ENVI flat binary files, mapped into memory and presented as (line, sample, band)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes.envi_header import EnviHeader
from hyperline.scenes.files import reading
from hyperline.scenes.labels import LabelMap, check_labels
from hyperline.scenes.scene import Scene


def read_scene(header: EnviHeader, data: Path) -> Scene:
    """Map a cube and carry over what its header knows.

    Raises:
        InputError: the data file's size contradicts the header.
    """
    cube, notes = map_cube(header, data)
    return Scene(
        name=header.path.stem,
        cube=cube,
        wavelengths_nm=header.wavelengths_nm,
        nodata=header.nodata,
        scale=header.scale,
        notes=header.notes + notes,
    )


def read_labels(header: EnviHeader, data: Path) -> LabelMap:
    """Read a map of one band, an ENVI Classification above all, whose class 0 is "Unclassified".

    Raises:
        InputError: more than one band, or values that are no class ids.
    """
    values, notes = map_cube(header, data)
    if header.bands != 1:
        raise InputError(f"{header.path}: {header.bands} bands; a label map has 1")
    labels = check_labels(values[:, :, 0], str(data))
    if header.classes is not None and int(labels.max()) >= header.classes:
        raise InputError(
            f"{header.path}: 'classes' is {header.classes}, class 0 included, "
            f"but {data.name} holds class {labels.max()}"
        )
    return LabelMap(labels, header.class_names[1:], header.notes + notes)


def map_cube(header: EnviHeader, data: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Map a data file of any number of bands, so that frames of calibration can be read as well.

    Returns:
        Read-only view (line, sample, band) of the mapped file in its own dtype, and notes.

    Raises:
        InputError: the file is shorter than the header says; or longer, unless by whole lines.
    """
    dtype, lines, samples, bands = header.dtype, header.lines, header.samples, header.bands
    if dtype is None:
        raise InputError(f"{header.path}: describes a TIFF, which has no flat layout to map")
    line_bytes = samples * bands * dtype.itemsize
    expected = header.header_offset + lines * line_bytes
    with reading(data, "an ENVI data file"):
        found = data.stat().st_size
    stated = (
        f"{header.path.name} says {lines} lines × {samples} samples × {bands} bands of {dtype.name} "
        f"after {header.header_offset} bytes, {expected} bytes in all; found {found}"
    )
    if found < expected:
        whole = max(0, found - header.header_offset) // line_bytes
        advice = "copy the file again"
        if header.interleave != "bsq" and whole:
            advice += f", or set 'lines = {whole}' to read what is there"
        raise InputError(f"{data}: truncated: {stated}; {advice}")
    notes: tuple[str, ...] = ()
    if found > expected:
        extra, rest = divmod(found - expected, line_bytes)
        if rest:
            raise InputError(f"{data}: too long: {stated}; check samples, bands, data type and header offset")
        correction = f"set 'lines = {lines + extra}' in {header.path.name}"
        if header.interleave == "bsq":
            # Another number of lines moves every band but the first: nothing in the file can be trusted.
            raise InputError(f"{data}: too long by {extra} whole lines: {stated}; {correction}")
        notes = (
            f"{data.name} is longer than {header.path.name} says by {extra} whole lines, which are not read; "
            f"{correction} to read them",
        )
    with reading(data, "an ENVI data file"):
        return _map_as_line_sample_band(header, data, dtype), notes


def _map_as_line_sample_band(header: EnviHeader, data: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    lines, samples, bands = header.lines, header.samples, header.bands
    shape, axes = {
        "bil": ((lines, bands, samples), (0, 2, 1)),
        "bip": ((lines, samples, bands), (0, 1, 2)),
        "bsq": ((bands, lines, samples), (1, 2, 0)),
    }[header.interleave]
    mapped = np.memmap(data, dtype=dtype, mode="r", offset=header.header_offset, shape=shape)
    return mapped.transpose(axes)
