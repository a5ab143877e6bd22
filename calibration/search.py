"""Which layers may run in INT8: the fastest assignment inside an accuracy budget.

Every layer is first quantised alone, to see what it does to the labels. The search then starts from all of them in
INT8. While that loses more than the budget, the layer whose disturbance buys the least time is mended: smoothed where
that helps it, put back into float32 otherwise. At last, layers put back are tried again, the quietest first, for the
order of the first pass is a guess where errors add up.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.disk import disk_errors, replace_file
from hyperline.errors import HyperlineError

_LOG = logging.getLogger(__name__)


class Mode(str, Enum):
    """How a layer runs."""

    FLOAT = "float32"
    INT8 = "int8"
    SMOOTHED = "int8 smoothed"


Assignment = Mapping[str, Mode]


@dataclass(frozen=True)
class Loss:
    """What a changed graph does to the labels of some pixels, beside the float32 graph of the same bundle.

    A pixel counts as lost where float32 is right and the changed graph is not. Those that it happens to mend do not
    pay for them: so the loss is at least the loss in overall accuracy. Without labels, every pixel whose label changes
    counts as lost.

    Attributes:
        points: lost pixels in per cent of the judged ones.
        worst_class: the same for the class that loses most, in per cent of its pixels.
        accuracy: change of the overall accuracy in points, what it mends included, 0 or less without labels.
        agreement: fraction of the valid pixels whose label is the same.
        logits: mean magnitude of the change of the logits.
    """

    points: float
    worst_class: float
    accuracy: float
    agreement: float
    logits: float

    @classmethod
    def between(
        cls,
        reference: tuple[NDArray[np.uint8], NDArray[np.float32]],
        changed: tuple[NDArray[np.uint8], NDArray[np.float32]],
        truth: NDArray[np.uint8],
        where: NDArray[np.bool_],
    ) -> Loss:
        """Compare labels and logits.

        Args:
            reference: labels (line, sample) and logits (line, sample, class) of the float32 graph.
            changed: those of the changed one.
            truth: (line, sample) class ids, 0 where there is none.
            where: (line, sample), the valid pixels to look at; at least one.
        """
        labels, other, known = reference[0][where], changed[0][where], truth[where]
        judged = known > 0
        if not judged.any():  # nobody knows better than the float32 graph
            known, judged = labels, labels > 0
        right, still = (labels == known) & judged, (other == known) & judged
        lost = right & ~still
        of_class = np.maximum(np.bincount(known[judged], minlength=256), 1)
        return cls(
            points=100 * float(lost.sum() / judged.sum()),
            worst_class=100 * float((np.bincount(known[lost], minlength=256) / of_class).max()),
            accuracy=100 * float((int(still.sum()) - int(right.sum())) / judged.sum()),
            agreement=float(np.mean(labels == other)),
            logits=float(np.abs(changed[1][where] - reference[1][where]).mean()),
        )


@dataclass(frozen=True)
class Budget:
    """What a variant may lose.

    Attributes:
        points: of overall accuracy.
        class_points: of the accuracy of any class.
        agreement: the least fraction of labels that stay as they were.
    """

    points: float
    class_points: float
    agreement: float

    def holds(self, loss: Loss) -> bool:
        """Return whether a loss is inside."""
        return loss.points <= self.points and loss.worst_class <= self.class_points and loss.agreement >= self.agreement

    def scaled(self, factor: float) -> Budget:
        """Return a stricter budget: all that may be lost, times ``factor``."""
        return Budget(self.points * factor, self.class_points * factor, 1 - (1 - self.agreement) * factor)


class Trials:
    """Losses of assignments, each measured once and kept on disk, so that an interrupted search goes on.

    Attributes:
        measured: how many were measured in this run.
        found: how many were there already.
    """

    def __init__(self, measure: Callable[[Assignment], Loss], cache: Path | None) -> None:
        """Open the trials.

        Args:
            measure: streams the calibration lines through the graph of an assignment.
            cache: a JSON file that belongs to this model, these lines and these ranges; made if missing. None keeps
                nothing. One that cannot be read counts as empty, one that cannot be written is done without.
        """
        self._measure, self._cache = measure, cache
        self.measured = self.found = 0
        self._known: dict[str, Any] = {}
        if cache is not None and cache.is_file():
            try:
                held = json.loads(cache.read_bytes())
                self._known = {str(key): asdict(Loss(**value)) for key, value in held.items()}
            except (ValueError, TypeError, AttributeError):
                self._known = {}

    def __call__(self, assignment: Assignment) -> Loss:
        """Return the loss of an assignment."""
        key = " ".join(f"{name}={mode.value}" for name, mode in sorted(assignment.items()) if mode is not Mode.FLOAT)
        if key in self._known:
            self.found += 1
        else:
            self._known[key] = asdict(self._measure(assignment))
            self.measured += 1
            self._keep()
        return Loss(**self._known[key])

    def _keep(self) -> None:
        if self._cache is None:
            return
        try:
            with disk_errors(self._cache.parent):
                self._cache.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._cache, json.dumps(self._known).encode())
        except HyperlineError as error:
            _LOG.warning("the search cannot be resumed if it is interrupted: %s", error)
            self._cache = None


@dataclass(frozen=True)
class Found:
    """What the search came to.

    Attributes:
        assignment: of every layer.
        loss: on the calibration lines.
        alone: loss of each layer when it alone is in INT8.
        smoothed: the same when it is smoothed, of those that were tried so.
        inside: whether it keeps the budget.
    """

    assignment: dict[str, Mode]
    loss: Loss
    alone: dict[str, Loss]
    smoothed: dict[str, Loss]
    inside: bool


def search(
    saved: Mapping[str, float],
    can_smooth: set[str],
    trials: Trials,
    budget: Budget,
    on_trial: Callable[[], None] = lambda: None,
) -> Found:
    """Find the assignment that saves most time and keeps the budget.

    Args:
        saved: milliseconds that each layer saves in INT8; one that saves none is still smaller in INT8, and is
            the first to go.
        can_smooth: layers that have a smoothed form.
        trials: measures assignments.
        budget: what may be lost.
        on_trial: called after every measurement.
    """

    def tried(assignment: Assignment) -> Loss:
        loss = trials(assignment)
        on_trial()
        return loss

    nothing = dict.fromkeys(saved, Mode.FLOAT)
    alone = {name: tried({**nothing, name: Mode.INT8}) for name in saved}
    smoothed: dict[str, Loss] = {}
    current = dict.fromkeys(saved, Mode.INT8)
    loss = tried(current)

    def worth(name: str) -> float:
        """Return the time that a layer buys with a unit of disturbance."""
        return max(saved[name], 1e-4) / max(alone[name].logits, 1e-9)

    for name in sorted(saved, key=worth):
        if budget.holds(loss):
            break
        if name in can_smooth:
            smoothed[name] = tried({**nothing, name: Mode.SMOOTHED})
            if smoothed[name].logits < 0.5 * alone[name].logits:
                current[name] = Mode.SMOOTHED
                loss = tried(current)
                continue
        current[name] = Mode.FLOAT
        loss = tried(current)
    # Smoothing was not enough: what it kept goes too.
    for name in sorted(smoothed, key=worth):
        if budget.holds(loss):
            break
        current[name] = Mode.FLOAT
        loss = tried(current)
    if budget.holds(loss):
        for name in sorted((name for name in saved if current[name] is Mode.FLOAT), key=worth, reverse=True):
            again = {**current, name: Mode.INT8}
            if budget.holds(attempt := tried(again)):
                current, loss = again, attempt
    return Found(current, loss, alone, smoothed, budget.holds(loss))
