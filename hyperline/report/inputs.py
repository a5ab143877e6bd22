"""All that a report is made of, read and found to belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle import Bundle, read_bundle
from hyperline.classes import UNKNOWN
from hyperline.errors import InputError
from hyperline.metrics import Metrics, confusion_matrix
from hyperline.report.documents import (
    Bench,
    Calibration,
    Curves,
    Evaluation,
    parse_document,
    read_document,
)
from hyperline.report.strip import Strip, read_strip
from hyperline.scenes import read_truth
from hyperline.scenes.files import printable
from hyperline.splits import Split, recorded_split

_CHUNK_PIXELS = 1 << 21


@dataclass(frozen=True)
class Source:
    """A file that the report was made from.

    Attributes:
        name: as given.
        what: it is.
        sha256: of its bytes; None for a folder, or what is no file.
    """

    name: str
    what: str
    sha256: str | None


@dataclass(frozen=True)
class Truth:
    """What is known of the strip's pixels.

    Attributes:
        name: of the scene or the map.
        labels: (line, sample) uint8 class ids, 0 = unlabelled; as long and as wide as the strip.
        judged: of them, those that may judge the model: all, or those that it was not trained on.
        own: whether some are left out for that.
    """

    name: str
    labels: NDArray[np.uint8]
    judged: NDArray[np.uint8]
    own: bool


@dataclass(frozen=True)
class Inputs:
    """What `read_inputs` found; whatever was not given is None or empty.

    Attributes:
        strip: the folder of a run.
        bundle: the model that it was flown with, or another.
        calibrations: of the bundle's other precisions.
        benches: with the name of each.
        evaluations: likewise.
        truth: of the strip's pixels.
        scored: the strip against the truth, where its summary has no confusion of its own.
        training: of the model.
        class_names: name of class 1, 2, ….
        sources: every file that was read.
        notes: what does not quite belong together, one sentence each.
    """

    strip: Strip | None = None
    bundle: Bundle | None = None
    calibrations: tuple[Calibration, ...] = ()
    benches: tuple[tuple[str, Bench], ...] = ()
    evaluations: tuple[tuple[str, Evaluation], ...] = ()
    truth: Truth | None = None
    scored: Metrics | None = None
    training: Curves | None = None
    class_names: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def map_names(self) -> tuple[str, ...]:
        """Name of class 1, 2, … of the strip's map, which may hold the unknown besides."""
        return (*self.class_names, UNKNOWN) if self.strip and self.strip.unknown else self.class_names


def read_inputs(
    strip: Path | None = None,
    *,
    bundle: Path | None = None,
    benches: Sequence[Path] = (),
    evaluations: Sequence[Path] = (),
    truth: str | None = None,
    training: Path | None = None,
) -> Inputs:
    """Read whatever is given; at least one thing must be.

    Args:
        strip: folder of ``hyperline run``.
        bundle: a bundle file.
        benches: files of ``hyperline bench --json``.
        evaluations: files of ``hyperline evaluate --json``.
        truth: a scene with labels, or a label map; needs a strip.
        training: folder of ``hyperline train``.

    Raises:
        InputError: nothing is given, a file is missing or damaged, or two of them contradict each other.
    """
    if not (strip or bundle or benches or evaluations or training):
        raise InputError(
            "a report of nothing cannot be made: give a strip's folder, --bundle, --bench, --evaluation or --training"
        )
    if truth is not None and strip is None:
        raise InputError("--truth is the truth of a strip; give the strip's folder too")
    held_strip = read_strip(strip) if strip else None
    held_bundle = read_bundle(bundle) if bundle else None
    held_benches = tuple((path.name, read_document(Bench, path, "a bench")) for path in benches)
    curves = read_document(Curves, training / "run.json", "the record of a training") if training else None
    held_evaluations = tuple((path.name, read_document(Evaluation, path, "an evaluation")) for path in evaluations)
    notes: list[str] = []
    names = _class_names(held_strip, held_bundle, held_evaluations)
    if held_strip and held_bundle and held_strip.summary:
        flown = held_strip.summary.bundle_sha256
        if flown != held_bundle.sha256:
            notes.append(
                f"The strip was flown with a bundle of SHA-256 {flown}; {printable(held_bundle.path.name)} is another "
                "file now. Calibrating and signing change a bundle."
            )
    held_truth = _truth(truth, held_strip, held_bundle, len(names)) if truth is not None and held_strip else None
    scored = None
    if held_strip and held_truth and (held_strip.summary is None or held_strip.summary.confusion is None):
        scored = _score(held_strip, held_truth, len(names))
    sources = [
        *([Source(str(strip), "strip", None)] if strip else []),
        *([Source(str(bundle), "bundle", held_bundle.sha256)] if held_bundle else []),
        *(_source(path, "bench") for path in benches),
        *(_source(path, "evaluation") for path in evaluations),
        *([Source(truth, "truth", None)] if truth else []),
        *([_source(training / "run.json", "training")] if training else []),
    ]
    return Inputs(
        held_strip,
        held_bundle,
        _calibrations(held_bundle) if held_bundle else (),
        held_benches,
        held_evaluations,
        held_truth,
        scored,
        curves,
        names,
        tuple(Source(printable(one.name), one.what, one.sha256) for one in sources),
        tuple(notes),
    )


def _source(path: Path, what: str) -> Source:
    digest = hashlib.sha256(path.read_bytes()) if path.is_file() else None
    return Source(str(path), what, digest.hexdigest() if digest else None)


def _class_names(
    strip: Strip | None, bundle: Bundle | None, evaluations: tuple[tuple[str, Evaluation], ...]
) -> tuple[str, ...]:
    """Return the names of the classes: the bundle's, for the map's header cannot hold every character.

    Raises:
        InputError: two of them know another number of classes.
    """
    known = [(str(strip.folder), strip.class_names)] if strip else []
    known += [(str(bundle.path), bundle.card.class_names)] if bundle else []
    numbers = known + [(name, one.per_class) for name, one in evaluations]
    if strip and strip.summary and strip.summary.per_class:
        numbers.append((str(strip.folder / "summary.json"), strip.summary.per_class))
    for name, classes in numbers[1:]:
        if len(classes) != len(numbers[0][1]):
            raise InputError(
                f"{numbers[0][0]} has {len(numbers[0][1])} classes, {name} has {len(classes)}; a report is of one model"
            )
    if known:
        return known[-1][1]
    for _, one in evaluations:
        if one.class_names is not None and len(one.class_names) == len(one.per_class):
            return one.class_names
    return tuple(
        f"class {number}" for number in range(1, 1 + max((len(one.per_class) for _, one in evaluations), default=0))
    )


def _calibrations(bundle: Bundle) -> tuple[Calibration, ...]:
    return tuple(
        parse_document(Calibration, bundle.members[name], f"{bundle.path}: {name}", "the report of a calibration")
        for name in sorted(bundle.members)
        if name.startswith("calibration/") and name.endswith(".json")
    )


def _truth(spec: str, strip: Strip, bundle: Bundle | None, classes: int) -> Truth:
    """Read the truth and lay it on the strip.

    Raises:
        InputError: it covers other pixels, or knows a class that the model does not.
    """
    found = read_truth(spec, (strip.lines, strip.samples))
    lines, samples = found.values.shape
    if int(found.values.max()) > classes:
        raise InputError(f"{spec}: labels go up to class {found.values.max()}, the strip has {classes} classes")
    if samples != strip.samples or (lines < strip.lines and strip.lines % lines):
        raise InputError(
            f"{spec}: the labels are {lines} lines × {samples} samples, the strip is {strip.lines} × {strip.samples}; "
            "they must be as wide as the strip, and as long, longer, or played several times in it"
        )
    judged, own = found.values, False
    split = _training_split(found.values, bundle)
    if split is not None:
        judged, own = split.test, True
    passes = -(-strip.lines // lines)

    def laid(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.tile(labels, (passes, 1))[: strip.lines] if passes > 1 else labels[: strip.lines]

    return Truth(printable(Path(spec).name), laid(found.values), laid(judged), own)


def _training_split(labels: NDArray[np.uint8], bundle: Bundle | None) -> Split | None:
    """Return the split of the model's training where these are its labels."""
    if bundle is None:
        return None
    try:
        return recorded_split(labels, bundle.card.provenance)
    except InputError:  # labels of which no such split can be drawn, or a model that knows none
        return None


def _score(strip: Strip, truth: Truth, classes: int) -> Metrics | None:
    """Compare the class map with the truth, a piece at a time; None where nothing may judge."""
    confusion = np.zeros((classes, classes + 1), np.int64)
    step = max(1, _CHUNK_PIXELS // strip.samples)
    for first in range(0, strip.lines, step):
        stop = min(first + step, strip.lines)
        labels = strip.classes.read(first, stop)[..., 0]
        if strip.unknown:
            labels = np.where(labels > classes, 0, labels)
        confusion += confusion_matrix(truth.judged[first:stop], labels, classes)
    return Metrics.from_confusion(confusion) if confusion.any() else None
