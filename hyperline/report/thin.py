"""Maps of a strip of any length, made small enough to look at.

A strip of 100,000 lines of 1024 samples has more pixels than any screen, and a gigabyte of maps. It is read a piece
at a time; squares of pixels become one, by the majority where they are classes and by the mean where they are measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.report.strip import Strip

# Pixels of one picture: 2000 lines of 512 samples.
_MOST_PIXELS = 1 << 20
_WIDTH = 1400  # of the page in pixels of a sharp screen
_HEIGHT = 1800  # of all maps of a long strip together
_MOST_SEGMENTS = 12
_FEWEST_SAMPLES = 24  # across track, where there are so many
_SIDEWAYS = 2.5  # lines to samples from which a strip is laid on its side
# Pixels, and counters of classes, that are held at a time.
_CHUNK_PIXELS = 1 << 21
_CHUNK_COUNTERS = 1 << 22


@dataclass(frozen=True)
class Layout:
    """How the maps of a strip are laid out on the page.

    Attributes:
        lines, samples: of the strip.
        line_step, sample_step: lines and samples that become one pixel of the picture.
        sideways: along track runs to the right, not down.
        segment_rows: rows of the picture (of ``line_step`` lines each) in a segment; one segment holds all but of a
            long strip.
    """

    lines: int
    samples: int
    line_step: int
    sample_step: int
    sideways: bool
    segment_rows: int

    @property
    def rows(self) -> int:
        """Rows of the picture, all segments together."""
        return -(-self.lines // self.line_step)

    @property
    def columns(self) -> int:
        """Columns of the picture."""
        return -(-self.samples // self.sample_step)

    @property
    def segments(self) -> list[tuple[int, int]]:
        """First row of each segment, and the row behind its last."""
        return [(first, min(first + self.segment_rows, self.rows)) for first in range(0, self.rows, self.segment_rows)]


def lay_out(lines: int, samples: int, maps: int) -> Layout:
    """Choose a layout for so many maps of a strip; to scale, but for a strip of very few samples."""
    sideways = lines > _SIDEWAYS * samples
    segments = 1
    if sideways:
        # Every segment is as wide as the page; so many of them that all maps of all fill the height.
        segments = round(math.sqrt(_HEIGHT * lines / (maps * samples * _WIDTH)))
        segments = min(max(segments, 1), _MOST_SEGMENTS)
    step = max(1, math.ceil(math.sqrt(lines * samples / _MOST_PIXELS)))
    if sideways:
        step = max(step, math.ceil(lines / (segments * _WIDTH)))
    sample_step = max(1, min(step, samples // _FEWEST_SAMPLES))
    rows = -(-lines // step)
    return Layout(lines, samples, step, sample_step, sideways, max(1, -(-rows // segments)))


@dataclass(frozen=True)
class Thinned:
    """Small maps; all (row, column) uint8, None where the strip has none.

    Attributes:
        classes: the class that most pixels of a square have, 0 where most have none.
        truth: the class that most of its labelled pixels have, 0 where none is labelled.
        confidence, uncertainty: the mean over its classified pixels, 1 = 0.0 to 255 = 1.0; 0 where there is none.
        composite: (row, column, 3), the mean over its measured pixels, 0 where there is none.
        pixels: of all of the strip, not of the picture, by class: (256,), class 0 first.
        truth_pixels: likewise.
    """

    classes: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None
    confidence: NDArray[np.uint8] | None
    uncertainty: NDArray[np.uint8] | None
    composite: NDArray[np.uint8] | None
    pixels: NDArray[np.int64]
    truth_pixels: NDArray[np.int64] | None


def thin(strip: Strip, truth: NDArray[np.uint8] | None, layout: Layout) -> Thinned:
    """Read the maps of a strip, a piece at a time, and make them small.

    Args:
        strip: its maps.
        truth: (line, sample) class ids, 0 = unlabelled, as long and as wide as the strip.
        layout: of `lay_out`.

    Raises:
        InputError: a map holds a class that its header does not know, or the truth does.
    """
    classes = len(strip.class_names) + strip.unknown
    shape = (layout.rows, layout.columns)
    small = {
        name: np.zeros(shape + (() if bands == 1 else (bands,)), np.uint8)
        for name, held, bands in (
            ("classes", strip.classes, 1),
            ("truth", truth, 1),
            ("confidence", strip.confidence, 1),
            ("uncertainty", strip.uncertainty, 1),
            ("composite", strip.quicklook, 3),
        )
        if held is not None
    }
    pixels, truth_pixels = np.zeros(classes + 1, np.int64), np.zeros(classes + 1, np.int64)
    rows = _rows_at_a_time(layout, classes)
    for row in range(0, layout.rows, rows):
        first, stop = row * layout.line_step, min((row + rows) * layout.line_step, layout.lines)
        where = slice(row, row + rows)
        labels = np.asarray(strip.classes.read(first, stop)[..., 0])
        held = labels > 0
        counts = _count(labels, layout, classes, strip.classes.header.path, first)
        pixels += counts.sum((0, 1))
        small["classes"][where] = _majority(counts)
        if truth is not None:
            counts = _count(truth[first:stop], layout, classes, None, first)
            truth_pixels += counts.sum((0, 1))
            small["truth"][where] = _majority(counts, among_labelled=True)
        for name, raster, full in (("confidence", strip.confidence, 1.0), ("uncertainty", strip.uncertainty, 255.0)):
            if raster is not None:
                mean, any_ = _mean(_finite(raster.read(first, stop)), held, layout)
                value = 1 + np.rint(254 * (mean[..., 0] / full).clip(0, 1))
                small[name][where] = np.where(any_, value, 0)
        if strip.quicklook is not None:
            colours = np.asarray(strip.quicklook.read(first, stop))
            measured: NDArray[np.bool_] = held | np.any(colours, axis=-1)  # what is classified may be black
            mean, any_ = _mean(colours, measured, layout)
            small["composite"][where] = np.rint(mean) * any_[..., None]
    return Thinned(
        small["classes"],
        small.get("truth"),
        small.get("confidence"),
        small.get("uncertainty"),
        small.get("composite"),
        pixels,
        truth_pixels if truth is not None else None,
    )


def _rows_at_a_time(layout: Layout, classes: int) -> int:
    by_pixels = _CHUNK_PIXELS // (layout.samples * layout.line_step)
    by_counters = _CHUNK_COUNTERS // (layout.columns * (classes + 1))
    return max(1, min(by_pixels, by_counters))


def _count(labels: NDArray[np.uint8], layout: Layout, classes: int, path: Any, first: int) -> NDArray[np.int64]:
    """Count the classes of every square: (row, column, class), class 0 first."""
    lines, samples = labels.shape
    wrong = labels > classes
    if wrong.any():
        line, sample = (int(index) for index in np.argwhere(wrong)[0])
        raise InputError(
            f"{path or 'the truth'}: class {labels[line, sample]} at line {first + line}, sample {sample}; the strip "
            f"has {classes} classes"
        )
    rows = -(-lines // layout.line_step)
    of_line = np.arange(lines, dtype=np.int64) // layout.line_step * layout.columns
    of_sample = np.arange(samples, dtype=np.int64) // layout.sample_step
    index = (of_line[:, None] + of_sample) * (classes + 1) + labels
    return np.bincount(index.ravel(), minlength=rows * layout.columns * (classes + 1)).reshape(
        rows, layout.columns, classes + 1
    )


def _majority(counts: NDArray[np.int64], among_labelled: bool = False) -> NDArray[np.uint8]:
    """Return the class that most pixels have; of two that are level the lower, and any rather than none."""
    best: NDArray[np.int64] = counts[..., 1:].argmax(-1) + 1
    most = np.take_along_axis(counts, best[..., None], -1)[..., 0]
    kept = most > 0 if among_labelled else most >= np.maximum(counts[..., 0], 1)
    return np.where(kept, best, 0).astype(np.uint8)


def _mean(
    values: NDArray[Any], held: NDArray[np.bool_], layout: Layout
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean of every square over the pixels held, (row, column, band), and where there is any."""
    at_line = np.arange(0, len(values), layout.line_step)
    at_sample = np.arange(0, values.shape[1], layout.sample_step)

    def summed(array: NDArray[Any], dtype: type) -> NDArray[Any]:
        over_lines = np.add.reduceat(array, at_line, axis=0, dtype=dtype)
        return np.add.reduceat(over_lines, at_sample, axis=1)

    pixels = summed(held, np.uint32)
    total = summed(values * held[..., None], np.uint32 if values.dtype.kind == "u" else np.float64)
    return total / np.maximum(pixels, 1)[..., None], pixels > 0


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values) if values.dtype.kind == "u" else np.nan_to_num(values)
