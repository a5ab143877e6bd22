"""The maps of a run as pictures, while they grow and afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.runtime.feed import Lines
from hyperline.scenes.envi_header import EnviHeader, read_header


class StripMaps:
    """Reads ``classes``, ``confidence`` and, where it was recorded, ``quicklook`` of a folder.

    The files are opened by these names alone and once. They only ever grow at their end while a strip is flown.

    Attributes:
        samples: of a line.
        class_names: name of class 0, 1, ….
        coloured: whether the strip's colours were recorded.
    """

    def __init__(self, folder: Path) -> None:
        """Open the maps.

        Raises:
            InputError: the folder holds no class map of a run.
        """
        header = _header(folder, "classes", 1, 1)
        if header is None:
            raise InputError(f"{folder} holds no run to view: it has no classes.hdr; give the --out of hyperline run")
        self.samples, self.class_names = header.samples, header.class_names
        self._files: dict[str, int] = {}
        self._line_bytes = {"classes": self.samples, "confidence": 4 * self.samples, "quicklook": 3 * self.samples}
        for name, bands, width in (("classes", 1, 1), ("confidence", 1, 4), ("quicklook", 3, 1)):
            held = _header(folder, name, bands, width)
            if held is not None and held.samples == self.samples:
                self._files[name] = os.open(folder / f"{name}.img", os.O_RDONLY | os.O_CLOEXEC)
        self.coloured = "quicklook" in self._files

    @property
    def lines(self) -> int:
        """Lines that are whole in every map."""
        return min(os.fstat(file).st_size // self._line_bytes[name] for name, file in self._files.items())

    def read(self, first: int, count: int) -> Lines:
        """Read lines; fewer, or none, where the maps end before them."""
        count = max(min(first + count, self.lines) - first, 0)
        confidence = self._rows("confidence", first, count).view("<f4").reshape(count, self.samples)
        with np.errstate(invalid="ignore"):  # of a damaged map
            shown = (np.clip(confidence, 0, 1) * 255).astype(np.uint8)
        return Lines(
            first,
            self._rows("quicklook", first, count).reshape(count, self.samples, 3),
            self._rows("classes", first, count).reshape(count, self.samples),
            shown,
        )

    def _rows(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        size = self._line_bytes[name]
        if name not in self._files:
            return np.zeros(count * size, np.uint8)
        data = os.pread(self._files[name], count * size, first * size)
        return np.frombuffer(data.ljust(count * size, b"\0"), np.uint8)  # shorter where the file was cut meanwhile

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])


def _header(folder: Path, name: str, bands: int, width: int) -> EnviHeader | None:
    path = folder / f"{name}.hdr"
    if not path.is_file() or not path.with_suffix(".img").is_file():
        return None
    header = read_header(path)
    if header.dtype is None or header.dtype.itemsize != width or header.bands != bands or header.header_offset:
        raise InputError(f"{path} is no map of hyperline run; give the --out of one")
    return header
