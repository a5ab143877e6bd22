"""A strip's folder, as a report reads it: whatever of its maps and records is there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hyperline.classes import UNKNOWN, all_names
from hyperline.errors import InputError
from hyperline.report.documents import Spectra, Summary, read_document
from hyperline.scenes.envi import map_cube
from hyperline.scenes.envi_header import EnviHeader, find_data, read_header
from hyperline.scenes.labels import MAX_CLASSES

# Experts of all scales; a network has a dozen.
_MOST_WEIGHTS = 1024


@dataclass(frozen=True)
class Raster:
    """An ENVI map on the disk, read in pieces.

    Attributes:
        header: that says its size.
        data: the file of its values.
    """

    header: EnviHeader
    data: Path

    @property
    def shape(self) -> tuple[int, int, int]:
        """(line, sample, band)."""
        return self.header.lines, self.header.samples, self.header.bands

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Return lines ``first`` to ``stop`` (line, sample, band).

        The file is mapped anew for every piece: what a mapping has touched counts as this process's memory until it
        is gone.
        """
        return map_cube(self.header, self.data)[0][first:stop]


@dataclass(frozen=True)
class Strip:
    """What ``hyperline run`` left in a folder.

    Attributes:
        folder: of the strip.
        summary: None where the strip is still flown, or its process was killed.
        classes: (line, sample, 1) uint8 class ids, 0 = no class.
        confidence: (line, sample, 1) float32 from 0 to 1.
        uncertainty: (line, sample, 1) uint8, 255 = every class as likely.
        quicklook: (line, sample, 3) uint8 red, green, blue; 0 where nothing was measured.
        experts: (block, expert, scale) float32 gate weights, the finest scale first.
        spectra: of each class.
        class_names: name of class 1, 2, …, as the class map's header has them, the unknown left out.
        unknown: whether the map has one class more, of pixels that are unknown.
        lines, samples: that all of the maps have.
    """

    folder: Path
    summary: Summary | None
    classes: Raster
    confidence: Raster | None
    uncertainty: Raster | None
    quicklook: Raster | None
    experts: Raster | None
    spectra: Spectra | None
    class_names: tuple[str, ...]
    unknown: bool
    lines: int
    samples: int


def read_strip(folder: Path) -> Strip:
    """Look at a strip's folder; maps are opened, not read.

    Raises:
        InputError: there is no strip in the folder, or a file in it contradicts itself or the others.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; a strip is what hyperline run … --out DIR leaves")
    classes = _raster(folder, "classes", 1, "u1")
    if classes is None:
        raise InputError(f"{folder} holds no strip: it has no classes.hdr; hyperline run … --out {folder} makes one")
    maps = {
        "confidence": _raster(folder, "confidence", 1, "f4"),
        "uncertainty": _raster(folder, "uncertainty", 1, "u1"),
        "quicklook": _raster(folder, "quicklook", 3, "u1"),
    }
    lines, samples, _ = classes.shape
    for one in maps.values():
        if one is not None and one.shape[1] != samples:
            raise InputError(
                f"{one.header.path}: {one.shape[1]} samples, where classes.hdr has {samples}; they are of two strips"
            )
        # A strip that is being flown: its maps grow one after the other.
        lines = min(lines, lines if one is None else one.shape[0])
    header = classes.header
    names = header.class_names[1:]
    number = (header.classes or len(header.class_names) or MAX_CLASSES + 1) - 1
    if not 1 <= number <= MAX_CLASSES:
        raise InputError(f"{header.path}: {number} classes; a strip has 1 to {MAX_CLASSES}")
    experts = _raster(folder, "experts", None, "f4")
    if experts is not None and (experts.shape[0] > classes.shape[0] or math.prod(experts.shape[1:]) > _MOST_WEIGHTS):
        blocks, of_block, scales = experts.shape
        raise InputError(
            f"{experts.header.path}: {of_block} experts at {scales} scales for {blocks} blocks cannot be of a strip of "
            f"{classes.shape[0]} lines"
        )
    path = folder / "summary.json"
    summary = read_document(Summary, path, "the summary of a strip") if path.exists() else None
    # A strip that is being flown has no summary yet.
    unknown = number > 1 and names[-1:] == (UNKNOWN,) and (summary is None or summary.unknown is not None)
    spectra = folder / "spectra.json"
    return Strip(
        folder,
        summary,
        classes,
        maps["confidence"],
        maps["uncertainty"],
        maps["quicklook"],
        experts,
        read_document(Spectra, spectra, "the spectra of a strip") if spectra.exists() else None,
        all_names(names, number - unknown),
        unknown,
        lines,
        samples,
    )


def _raster(folder: Path, name: str, bands: int | None, dtype: str) -> Raster | None:
    path = folder / f"{name}.hdr"
    if not path.exists():
        return None
    header = read_header(path)
    raster = Raster(header, find_data(header))
    if (bands is not None and header.bands != bands) or header.dtype is None or header.dtype.str[1:] != dtype:
        held = f"{header.bands} bands of {header.dtype or 'a TIFF'}"
        raise InputError(f"{path}: {held}; the {name} map of a strip has {bands or 'bands'} of {dtype}")
    map_cube(header, raster.data)  # refuses a file of another size than the header says
    return raster
