"""A scene on disk, played line by line as a sensor would deliver it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.runtime.sources.source import Line
from hyperline.scenes.scene import Scene


@dataclass(frozen=True)
class SceneSource:
    """The lines of a scene, as fast as they are taken or paced at a rate.

    The schedule is absolute: line i is due i / rate seconds after the first, however late the lines before
    it were, so the pace never drifts. A line that cannot be handed over in time keeps its due time as its
    arrival.

    Attributes:
        scene: the scene; a memory-mapped cube is read one line at a time.
        rate: lines per second, or None for as fast as they are taken.
        repeat: play the scene this many times in a row, as one strip.
        first: index of the line to begin with.

    Raises:
        InputError: the scene holds nothing, or the rate or the repeat is not positive.
    """

    scene: Scene
    rate: float | None = None
    repeat: int = 1
    first: int = 0
    _closed: threading.Event = field(default_factory=threading.Event, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if min(self.scene.cube.shape) < 1:
            raise InputError(f"{self.scene.name} is empty: its (line, sample, band) are {self.scene.cube.shape}")
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise InputError(f"rate must be a positive number of lines per second, not {self.rate}")
        if self.repeat < 1:
            raise InputError(f"repeat must be at least 1, not {self.repeat}")

    @property
    def name(self) -> str:
        """The scene's name."""
        return self.scene.name

    @property
    def samples(self) -> int:
        """Cross-track samples of a line."""
        return self.scene.samples

    @property
    def bands(self) -> int:
        """Spectral bands of a line."""
        return self.scene.bands

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values."""
        return self.scene.cube.dtype

    @property
    def wavelengths_nm(self) -> NDArray[np.float64] | None:
        """(band,) band centres in nanometres, or None."""
        return self.scene.wavelengths_nm

    @property
    def scale(self) -> float:
        """Stored values times this are physical units."""
        return self.scene.scale

    @property
    def nodata(self) -> float | None:
        """The declared no-data value."""
        return self.scene.nodata

    @property
    def lines(self) -> int:
        """How many lines will come."""
        return self.scene.lines * self.repeat

    @property
    def end(self) -> int:
        """Index behind the last line."""
        return self.lines

    @property
    def truth_classes(self) -> int:
        """The highest class id of the labels; 0 without labels."""
        return 0 if self.scene.labels is None else int(self.scene.labels.max())

    def starting_at(self, index: int) -> SceneSource:
        """Return the same strip without the lines before ``index``; a resumed run passes them over so."""
        return replace(self, first=index)

    def __iter__(self) -> Iterator[Line]:
        """Yield the lines in order, each no earlier than it is due."""
        cube, labels = self.scene.cube, self.scene.labels
        self._closed.clear()  # a scene can be flown again
        start = time.perf_counter()
        for index in range(self.first, self.lines):
            if self._closed.is_set():
                return
            row = index % self.scene.lines
            if self.rate is None:
                arrived = time.perf_counter()
            else:
                arrived = start + (index - self.first) / self.rate
                early = arrived - time.perf_counter()
                if early > 0 and self._closed.wait(early):
                    return
            yield Line(index, cube[row], arrived, None if labels is None else labels[row])

    def close(self) -> None:
        """End the iteration, at once even where it waits for a line's time."""
        self._closed.set()
