"""A strip to look at: in flight, or replayed at its rate."""

from __future__ import annotations

import json
import math
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hyperline.errors import InputError
from hyperline.pictures import map_colours
from hyperline.runtime.feed import FeedReader, Lines
from hyperline.runtime.view.maps import StripMaps

_DEFAULT_RATE = 100.0
_MOST_FILE_BYTES = 16 << 20
_MOST_EVENTS = 50


class Strip(ABC):
    """What the page is shown.

    Attributes:
        description: what does not change: keys of docs/view.md.
        session: another for every strip.
    """

    description: dict[str, Any]
    session: str

    @property
    @abstractmethod
    def head(self) -> int:
        """The line behind the newest that can be shown."""

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether another strip may take its place: nothing is in flight."""

    @abstractmethod
    def read(self, first: int, count: int) -> Lines:
        """Give lines before `head`; those of them that are still there, consecutive."""

    @abstractmethod
    def spectrum(self, line: int, sample: int) -> dict[str, Any] | None:
        """Give the spectrum nearest to a pixel: ``line``, ``sample``, ``values``; None where none was kept."""

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """Give what changes: ``state`` (flying, replaying, ended, stopped) and the counters."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and memory."""


class LiveStrip(Strip):
    """A strip in flight: new lines from the feed, older ones from the maps."""

    def __init__(self, folder: Path, reader: FeedReader) -> None:
        """Take over an open feed."""
        self._folder, self._reader = folder, reader
        self._maps: StripMaps | None = None
        self.session = reader.session
        self.description = {**reader.description, "live": True, "coloured": True, "class_spectra": None}

    @property
    def head(self) -> int:
        """The line behind the newest."""
        return self._reader.span[1]

    def read(self, first: int, count: int) -> Lines:
        """Read from the feed what it holds, else from the maps."""
        oldest, _ = self._reader.span
        if first >= oldest:
            return self._reader.read(first, count)
        maps = self._open_maps()
        if maps is None:  # no block of the strip is on the disk yet
            return self._reader.read(first, count)
        return maps.read(first, min(count, oldest - first))

    def _open_maps(self) -> StripMaps | None:
        if self._maps is None:
            with suppress(InputError, OSError):
                maps = StripMaps(self._folder)
                if maps.samples == self._reader.layout.samples:
                    self._maps = maps
                else:
                    maps.close()
        return self._maps

    def spectrum(self, line: int, sample: int) -> dict[str, Any] | None:
        """Read from the feed."""
        found = self._reader.spectrum(line, sample)
        if found is None:
            return None
        at_line, at_sample, values = found
        return {"line": at_line, "sample": at_sample, "values": values.tolist()}

    def status(self) -> dict[str, Any]:
        """Return the flight's own status."""
        status = self._reader.status() or {}
        alive = self._reader.alive
        ended = "ended" if self._reader.ended else "stopped"  # without a word: killed, or its power went
        return {**status, "state": "flying" if alive else ended}

    @property
    def over(self) -> bool:
        """Whether its process said so, or is gone."""
        return not self._reader.alive

    def close(self) -> None:
        """Let go of feed and maps."""
        self._reader.close()
        if self._maps is not None:
            self._maps.close()


class ReplayedStrip(Strip):
    """The folder of a strip that is over, its lines given out as they came."""

    def __init__(self, folder: Path, rate: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the folder; the first line is due when `head` is asked for first.

        Args:
            folder: of the run.
            rate: lines a second; None for the flight's own.
            clock: gives seconds.

        Raises:
            InputError: it holds no run.
        """
        self._maps = StripMaps(folder)
        self._summary = _read_json(folder / "summary.json")
        self._events = _read_events(folder / "events.jsonl")
        flown = self._summary.get("rate") or self._summary.get("lines_per_second") or _DEFAULT_RATE
        self._rate = rate or float(flown)
        self._recorded_rate = float(flown)
        self._clock, self._start = clock, float("nan")
        self.session = secrets.token_hex(8)
        spectra = _read_json(folder / "spectra.json")
        names = list(self._maps.class_names)
        self.description = {
            "model": self._summary.get("model", folder.name),
            "source": self._summary.get("source", folder.name),
            "precision": self._summary.get("precision"),
            "rate": self._rate,
            "block_lines": self._summary.get("block_lines", 1),
            "samples": self._maps.samples,
            "wavelengths_nm": spectra.get("wavelengths_nm"),
            "class_names": names,
            "colours": [[0, 0, 0], *map_colours(names[1:]).tolist()],
            "first_line": 0,
            "ring_lines": 0,
            "spectra_step": 0,
            "live": False,
            "coloured": self._maps.coloured,
            "class_spectra": _class_spectra(spectra, folder / "spectra.json"),
        }

    @property
    def head(self) -> int:
        """The line that is due."""
        if math.isnan(self._start):
            self._start = self._clock()
        return min(int((self._clock() - self._start) * self._rate), self._maps.lines)

    @property
    def over(self) -> bool:
        """A flight that begins goes before."""
        return True

    def read(self, first: int, count: int) -> Lines:
        """Read from the maps."""
        return self._maps.read(first, min(count, max(self.head - first, 0)))

    def spectrum(self, line: int, sample: int) -> None:
        """No pixel's spectrum outlives its flight."""
        return None

    def status(self) -> dict[str, Any]:
        """Return what the folder says of the moment that is shown, and of the whole flight where it says no more."""
        head, summary = self.head, self._summary
        counters = summary.get("counters") or {}
        return {
            "state": "replaying" if head < self._maps.lines else "ended",
            "seconds": head / self._recorded_rate,
            "engine": summary.get("engine"),
            **{name: summary.get(name) for name in ("received", "classified", "dropped", "rejected", "unwritten")},
            **{name: counters.get(name) for name in ("lost", "missed", "failed", "invalid_pixels")},
            "lines_per_second": self._rate if head < self._maps.lines else 0.0,
            "latency_ms": None,
            "waiting": None,
            **self._moment(head),
            "links": (summary.get("links") or {}).get("links", {}),
            "events": [event for event in self._events if event["lines"][1] < head][-_MOST_EVENTS:],
        }

    def _moment(self, head: int) -> dict[str, Any]:
        """Return what was measured when this line was flown."""
        line_of_time = self._summary.get("time_line") or []
        second = head / self._recorded_rate
        past = [point for point in line_of_time if point["second"] <= second]
        if not past:
            return {}
        return {"latency_ms": past[-1].get("latency_ms_max"), "waiting": past[-1].get("waiting")}

    def close(self) -> None:
        """Close the maps."""
        self._maps.close()


def open_strip(folder: Path, rate: float | None = None) -> Strip:
    """Open the strip that is flown in a folder, or else the one that was.

    Args:
        folder: of a run.
        rate: lines a second of a replay; None for the flight's own.

    Raises:
        InputError: no run is there.
    """
    return find_live(folder) or ReplayedStrip(folder, rate)


def find_live(folder: Path) -> LiveStrip | None:
    """Open the strip that is flown in a folder; None where none is.

    Raises:
        InputError: another version of hyperline flies there.
    """
    reader = FeedReader.find(folder)
    return None if reader is None else LiveStrip(folder, reader)


def _read_json(path: Path) -> dict[str, Any]:
    """Read a file of the run; nothing where it is missing, which a strip that was cut short leaves so.

    Raises:
        InputError: it is there, and is no JSON object.
    """
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(_MOST_FILE_BYTES), parse_constant=_no_number)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it to view the maps without it") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is no JSON object; remove it to view the maps without it")
    return value


def _no_number(text: str) -> None:
    """Refuse NaN and infinities, which Python reads and browsers do not."""
    raise ValueError(f"{text} is no number")


def _class_spectra(spectra: dict[str, Any], path: Path) -> dict[str, list[float]] | None:
    """Return the mean spectrum of each class that was seen, by its number; None where none were recorded."""
    try:
        seen = [one for one in spectra.get("classes", []) if one["pixels"]]
        return {str(int(one["id"])): [float(value) for value in one["mean"]] for one in seen} or None
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no spectra of classes ({error!r}); remove it to view without it") from error


def _read_events(path: Path) -> list[dict[str, Any]]:
    events = []
    with suppress(OSError), path.open("rb") as file:
        for line in file.read(_MOST_FILE_BYTES).splitlines():
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                event = json.loads(line, parse_constant=_no_number)
                if int(event["lines"][1]) >= 0 and str(event["name"]):
                    events.append(event)
    return events
