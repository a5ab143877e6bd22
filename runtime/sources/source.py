"""What a source of lines is, whatever stands behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Line:
    """One line as the source hands it over.

    Attributes:
        index: the line's number in its strip, from 0, unwrapped. A jump means that lines were lost on the way; an
            index not above the last one is a duplicate or out of order.
        values: (sample, band), the source's own dtype and units; of another shape where the line arrived in
            another size. The next line may come in the same memory: whoever keeps the values copies them.
        arrived: ``time.perf_counter()`` seconds at which the sensor delivered it. A paced source states the
            time at which the line was due, so that a pipeline that falls behind sees its true latency.
        truth: (sample,) uint8 class ids where they are known, else None; kept as ``values`` are.
        timestamp_ns: the sensor's own clock, nanoseconds, where it gives one.
        dark: whether the shutter was closed: the values are the detector's own, and nothing of the ground is in them.
    """

    index: int
    values: NDArray[Any]
    arrived: float
    truth: NDArray[np.uint8] | None = None
    timestamp_ns: int | None = None
    dark: bool = False


class Source(Protocol):
    """A strip that comes line by line.

    Attributes:
        name: for reports.
        samples: cross-track samples of a line.
        bands: spectral bands of a line.
        dtype: of the lines.
        wavelengths_nm: (band,) band centres in nanometres, or None where unknown.
        scale: stored values times this are physical units.
        nodata: a pixel whose bands all hold this value carries no measurement; None where not declared.
        lines: how many lines will come, or None where nobody knows.
        end: index behind the strip's last line, as soon as it is known for certain; None where the strip broke off.
            Asked for once the iteration has ended: lines that are missing before it were lost.
        rate: lines per second at which the lines are due, or None for as fast as they are taken.
        truth_classes: the highest class id of the lines' truth; 0 where they come without truth.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - the attributes are described above
    @property
    def samples(self) -> int: ...  # noqa: D102
    @property
    def bands(self) -> int: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def wavelengths_nm(self) -> NDArray[np.float64] | None: ...  # noqa: D102
    @property
    def scale(self) -> float: ...  # noqa: D102
    @property
    def nodata(self) -> float | None: ...  # noqa: D102
    @property
    def lines(self) -> int | None: ...  # noqa: D102
    @property
    def end(self) -> int | None: ...  # noqa: D102
    @property
    def rate(self) -> float | None: ...  # noqa: D102
    @property
    def truth_classes(self) -> int: ...  # noqa: D102
    def __iter__(self) -> Iterator[Line]: ...
    def close(self) -> None:
        """End the iteration within half a second, from whatever thread; it cannot be taken up again."""
