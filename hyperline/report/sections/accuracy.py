"""Accuracy: how often the strip, and whatever else was evaluated, is right, and what it takes for what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperline.pictures import class_colours
from hyperline.report.documents import Accuracy, Evaluation, Summary
from hyperline.report.inputs import Inputs
from hyperline.report.picture import css_colour
from hyperline.report.words import count, percent

# A table of more columns than that can be neither read nor printed.
_MOST_CLASSES = 40
_MOST_CONFUSIONS = 8
_SHADES = 10


@dataclass(frozen=True)
class Cell:
    """Pixels of one class that were called another, and how dark that is: 0 none to 10 all of the class."""

    pixels: str
    shade: int
    right: bool


@dataclass(frozen=True)
class ClassRow:
    """One class of the truth.

    Attributes:
        pixels: of the truth.
        recall: of them that were found (producer's accuracy).
        precision: of those given this class that are of it (user's accuracy).
        cells: what they were called; the last is no class at all. Empty where the table would be too wide.
    """

    number: int
    name: str
    colour: str
    pixels: str
    recall: str
    precision: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Judgement:
    """One comparison with a truth."""

    title: str
    setting: str
    pixels: str
    oa: str
    aa: str
    kappa: str
    rows: tuple[ClassRow, ...]
    numbers: tuple[int, ...]
    confusions: tuple[str, ...]
    too_many: bool


def make(inputs: Inputs) -> tuple[Judgement, ...] | None:
    """Return every comparison that there is; None without any."""
    found = tuple(_judgements(inputs))
    return found or None


def _judgements(inputs: Inputs) -> Iterator[Judgement]:
    names = inputs.class_names
    summary = inputs.strip.summary if inputs.strip else None
    if inputs.scored is not None:
        assert inputs.truth is not None
        kind = "labelled pixels not trained on" if inputs.truth.own else "labelled pixels, trained on or not"
        scored = Accuracy.model_validate(inputs.scored.as_dict())
        yield judge("This strip", f"{inputs.truth.name}, all {kind}", scored, names)
    elif summary is not None and summary.accuracy is not None:
        yield judge("This strip", _of_summary(summary), summary.accuracy, names)
    for name, one in inputs.evaluations:
        yield judge(f"Evaluation {name}", _of_evaluation(one), one, names)


def _of_summary(summary: Summary) -> str:
    return (
        f"{summary.source}, on the pixels that the source has a truth for, in blocks of {summary.block_lines} lines, "
        f"{summary.engine}, {summary.precision}"
    )


def _of_evaluation(one: Evaluation) -> str:
    what = ", ".join(part for part in (one.model, one.scene) if part)
    return f"{what + ', ' if what else ''}in blocks of {one.block_lines} lines, {one.engine}, {one.precision}"


def judge(title: str, setting: str, accuracy: Accuracy, names: Sequence[str]) -> Judgement:
    """Lay out one comparison.

    Args:
        title: what was judged.
        setting: on what, and how.
        accuracy: with its confusion or without.
        names: of class 1, 2, ….
    """
    classes = len(accuracy.per_class)
    confusion = None if accuracy.confusion is None else np.array(accuracy.confusion, np.int64)
    too_many = classes > _MOST_CLASSES
    return Judgement(
        title,
        setting,
        count(accuracy.pixels),
        percent(accuracy.oa, 2),
        percent(accuracy.aa, 2),
        f"{accuracy.kappa:.4f}",
        tuple(_rows(accuracy, confusion, names, too_many)),
        tuple(range(1, classes + 1)) if confusion is not None and not too_many else (),
        tuple(_confusions(confusion, names)) if confusion is not None else (),
        too_many,
    )


def _rows(
    accuracy: Accuracy, confusion: NDArray[np.int64] | None, names: Sequence[str], too_many: bool
) -> Iterator[ClassRow]:
    colours = class_colours(len(names))
    for index, (name, recall) in enumerate(zip(names, accuracy.per_class, strict=True)):
        pixels, precision = "–", None
        cells: tuple[Cell, ...] = ()
        if confusion is not None:
            row, given = confusion[index], int(confusion[:, index].sum())
            pixels = count(int(row.sum()))
            precision = int(row[index]) / given if given else None
            cells = () if too_many else tuple(_cells(row, index))
        yield ClassRow(index + 1, name, css_colour(colours[index]), pixels, percent(recall), percent(precision), cells)


def _cells(row: NDArray[np.int64], index: int) -> Iterator[Cell]:
    whole = max(int(row.sum()), 1)
    for column, pixels in enumerate(row.tolist()):
        # Any pixel at all has a shade, and only all of them the darkest.
        shade = 1 + (_SHADES - 1) * pixels // whole if pixels else 0
        yield Cell(count(pixels) if pixels else "", shade, column == index)


def _confusions(confusion: NDArray[np.int64], names: Sequence[str]) -> Iterator[str]:
    """Say which classes are taken for which, the most pixels first."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    called = (*names, "no class")
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS]
    for index in order.tolist():
        row, column = divmod(index, confusion.shape[1])
        pixels = int(wrong[row, column])
        if pixels:
            yield (
                f"{names[row]} taken for {called[column]}: {count(pixels)} pixels, "
                f"{percent(pixels / int(confusion[row].sum()))} of the class"
            )
