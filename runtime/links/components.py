"""Events from blocks: connected pixels, followed from block to block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.runtime.links.event import Event, Rule

_Integers = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Table:
    """Components, or the runs of pixels that they are made of: one entry each."""

    class_id: _Integers
    pixels: _Integers
    confidence: _Floats  # sum
    highest: _Floats
    first_line: _Integers
    last_line: _Integers
    first_sample: _Integers
    last_sample: _Integers
    lines: _Integers  # sum over the pixels
    samples: _Integers  # sum over the pixels
    first_time: _Floats
    last_time: _Floats

    @property
    def size(self) -> int:
        return len(self.class_id)

    def rows(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> _Table:
        return _Table(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def joined(self, other: _Table) -> _Table:
        return _Table(
            *(np.concatenate((getattr(self, field.name), getattr(other, field.name))) for field in fields(self))
        )

    def merged(self, group: _Integers, groups: int) -> _Table:
        """Merge the entries of each group; group ids go from 0 to groups - 1 and none is empty."""
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(groups))

        def reduced(operation: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
            result: NDArray[Any] = operation.reduceat(values[order], starts)
            return result

        return _Table(
            class_id=reduced(np.minimum, self.class_id),  # all are the same
            pixels=reduced(np.add, self.pixels),
            confidence=reduced(np.add, self.confidence),
            highest=reduced(np.maximum, self.highest),
            first_line=reduced(np.minimum, self.first_line),
            last_line=reduced(np.maximum, self.last_line),
            first_sample=reduced(np.minimum, self.first_sample),
            last_sample=reduced(np.maximum, self.last_sample),
            lines=reduced(np.add, self.lines),
            samples=reduced(np.add, self.samples),
            first_time=reduced(np.minimum, self.first_time),
            last_time=reduced(np.maximum, self.last_time),
        )


def _empty() -> _Table:
    none, nowhere = np.zeros(0, np.int64), np.zeros(0)
    return _Table(none, none, nowhere, nowhere, none, none, none, none, none, none, nowhere, nowhere)


class EventFinder:
    """Follows connected pixels (8 neighbours) of the classes asked for through the blocks of a strip.

    Works on runs, the unbroken stretches of one class within a line, all of a block at a time in NumPy. What is
    carried between blocks is the runs of the last line, and for each component that reaches it, sums alone: the
    memory is bounded by the samples and by ``most_open``, however long a component grows.

    Attributes:
        found: events so far.
        small: components that had too few pixels.
        cut: components, among both, that were closed before their end.
    """

    def __init__(self, rules: Sequence[Rule], class_names: Sequence[str], samples: int, most_open: int = 1024) -> None:
        """Prepare for a strip.

        Args:
            rules: what makes an event; one rule a class.
            class_names: name of class 1, 2, ….
            samples: cross-track samples of a line.
            most_open: components that may be open at a time; the oldest is cut short for another.

        Raises:
            InputError: two rules for one class.
        """
        self._rules = {rule.class_id: rule for rule in rules}
        if len(self._rules) < len(rules):
            raise InputError("two rules make events of the same class; give one a class")
        self._names = class_names
        self._samples = samples
        self._most_open = most_open
        self._least = np.full(256, np.inf)  # confidence by class; no event of a class without a rule
        for rule in rules:
            self._least[rule.class_id] = rule.confidence
        self._open = _empty()
        # Runs of the last line: columns first sample, last sample, class, index of the open component.
        self._edge = np.zeros((0, 4), np.int64)
        self._next_line = 0
        self.found = self.small = self.cut = 0

    def block(
        self,
        first_line: int,
        labels: NDArray[np.uint8],
        confidence: NDArray[np.float32],
        times: NDArray[np.float64],
    ) -> list[Event]:
        """Take the next lines and return the events that ended before their last one.

        Args:
            first_line: number of the first line in the strip; where it does not follow the block before, all that is
                open ends there.
            labels: (line, sample) uint8 class ids.
            confidence: (line, sample) float32.
            times: (line,) UNIX seconds.
        """
        events = self.end(complete=False) if first_line != self._next_line else []
        self._next_line = first_line + len(labels)
        runs = self._runs(first_line, labels, confidence, times)
        opened, carried, edges = self._open.size, len(self._edge), runs.size
        # Nodes of the graph: open components, then runs of this block. The edge's runs stand for their components.
        keys = runs.first_line - first_line + 1  # line 0 is the edge
        first = np.concatenate((self._edge[:, 0], runs.first_sample))
        last = np.concatenate((self._edge[:, 1], runs.last_sample))
        line = np.concatenate((np.zeros(carried, np.int64), keys))
        kind = np.concatenate((self._edge[:, 2], runs.class_id))
        node = np.concatenate((self._edge[:, 3], opened + np.arange(edges)))
        above, below = self._touching(line, first, last)
        same = kind[above] == kind[below]
        root = _roots(opened + edges, node[above[same]], node[below[same]])
        names, group = np.unique(root, return_inverse=True)
        table = self._open.joined(runs)
        merged = table.merged(group, len(names)) if table.size else table
        # What reaches the last line stays open.
        on_edge = line == len(labels)
        held = np.unique(group[node[on_edge]])
        ended = np.ones(merged.size, bool)
        ended[held] = False
        events += self._events(merged.rows(ended), complete=True)
        self._open = merged.rows(held)
        self._edge = np.column_stack(
            (first[on_edge], last[on_edge], kind[on_edge], np.searchsorted(held, group[node[on_edge]]))
        )
        if self._open.size > self._most_open:
            events += self._cut_oldest()
        return events

    def end(self, complete: bool = True) -> list[Event]:
        """Close what is open, at the end of the strip or, not ``complete``, at a gap; return its events."""
        events = self._events(self._open, complete)
        self._open, self._edge = _empty(), self._edge[:0]
        return events

    def _cut_oldest(self) -> list[Event]:
        age = np.argsort(self._open.first_line, kind="stable")
        keep = np.sort(age[-self._most_open :])
        gone = np.setdiff1d(age, keep)
        events = self._events(self._open.rows(gone), complete=False)
        self._open = self._open.rows(keep)
        edge = self._edge[np.isin(self._edge[:, 3], keep)]
        edge[:, 3] = np.searchsorted(keep, edge[:, 3])
        self._edge = edge
        return events

    def _runs(
        self,
        first_line: int,
        labels: NDArray[np.uint8],
        confidence: NDArray[np.float32],
        times: NDArray[np.float64],
    ) -> _Table:
        # A column of no class behind each line keeps runs within it.
        wanted = np.zeros((len(labels), self._samples + 1), np.int16)
        sure = (confidence >= self._least[labels]) & np.isfinite(confidence)
        np.multiply(labels, sure, out=wanted[:, :-1], casting="unsafe")
        flat = wanted.ravel()
        edges = np.flatnonzero(np.diff(flat, prepend=0))
        starts = edges[flat[edges] != 0]
        if starts.size == 0:
            return _empty()
        # A run ends where the next change is, which is another run's start or a pixel of no class.
        ends = edges[np.searchsorted(edges, starts) + 1]
        line, first = np.divmod(starts, self._samples + 1)
        pixels = ends - starts
        padded = np.zeros(wanted.shape)
        padded[:, :-1] = confidence
        bounds = np.column_stack((starts, ends)).ravel()  # reduceat takes every second stretch
        return _Table(
            class_id=flat[starts].astype(np.int64),
            pixels=pixels,
            confidence=np.add.reduceat(padded.ravel(), bounds)[::2],
            highest=np.maximum.reduceat(padded.ravel(), bounds)[::2],
            first_line=first_line + line,
            last_line=first_line + line,
            first_sample=first,
            last_sample=first + pixels - 1,
            lines=(first_line + line) * pixels,
            samples=pixels * first + pixels * (pixels - 1) // 2,
            first_time=times[line],
            last_time=times[line],
        )

    def _touching(self, line: _Integers, first: _Integers, last: _Integers) -> tuple[_Integers, _Integers]:
        """Return all pairs of runs that touch between one line and the next, as indices (above, below)."""
        width = self._samples + 2  # so that a neighbour to the side is never one of another line
        above_line = (line - 1) * width
        low = np.searchsorted(line * width + last, above_line + first - 1, "left")
        high = np.searchsorted(line * width + first, above_line + last + 1, "right")
        count = np.maximum(high - low, 0)
        below = np.repeat(np.arange(len(line)), count)
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.repeat(low, count) + within, below

    def _events(self, table: _Table, complete: bool) -> list[Event]:
        events = []
        self.cut += 0 if complete else table.size
        least = np.array([self._rules[class_id].pixels for class_id in table.class_id.tolist()], np.int64)
        large = table.rows(table.pixels >= least)
        self.small += table.size - large.size
        for row in range(large.size):
            class_id, pixels = int(large.class_id[row]), int(large.pixels[row])
            events.append(
                Event(
                    sequence=self.found,
                    class_id=class_id,
                    class_name=self._names[class_id - 1],
                    pixels=pixels,
                    mean_confidence=float(large.confidence[row]) / pixels,
                    max_confidence=float(large.highest[row]),
                    first_line=int(large.first_line[row]),
                    last_line=int(large.last_line[row]),
                    first_sample=int(large.first_sample[row]),
                    last_sample=int(large.last_sample[row]),
                    centre_line=int(large.lines[row]) / pixels,
                    centre_sample=int(large.samples[row]) / pixels,
                    first_time=float(large.first_time[row]),
                    last_time=float(large.last_time[row]),
                    complete=complete,
                    weight=self._rules[class_id].weight,
                )
            )
            self.found += 1
        return events


def _roots(nodes: int, one: _Integers, other: _Integers) -> _Integers:
    """Return for each node the lowest node of its component in the graph of these pairs.

    Every round hooks the higher of two roots to the lower and shortens all paths to one step, so it takes about as
    many rounds as the logarithm of the longest chain.
    """
    root = np.arange(nodes)
    while True:
        first, second = root[one], root[other]
        apart = first != second
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(first, second)[apart], np.minimum(first, second)[apart])
        while True:
            shorter = root[root]
            if np.array_equal(shorter, root):
                break
            root = shorter
