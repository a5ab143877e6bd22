"""The lines of a GigE Vision camera; ``docs/gige.md`` has the set-up.

A push-broom camera spreads a slit: a frame is one line, its columns the samples and its rows the bands.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.sources.camera import Camera, CameraOptions
from hyperline.runtime.sources.frame_ids import frames_ahead
from hyperline.runtime.sources.pixels import FrameDecoder
from hyperline.runtime.sources.source import Line

SCHEME = "gige"
FORM = "gige[:CAMERA][?OPTION=VALUE&...]"
_OPTIONS = (
    "format, exposure, gain, rate, packet, buffers, resend, transposed, lines, and GenICam features such as Width"
)
_LOOK_UP_S = 0.2  # how often a wait looks whether it was closed
_BACKOFF_S = 0.1, 2.0
# A camera that runs by itself and sends nothing for so long, or for so many frames, is lost though it may answer.
_SILENCE_S, _SILENT_FRAMES = 2.0, 20
# No frame comes later than what Aravis may hold back: an id so far behind is a camera that began to count anew.
_LATEST_FRAME = 1024
_INCOMPLETE = ("missing_packets", "timeout", "size_mismatch", "wrong_packet_id", "aborted")

logger = logging.getLogger(__name__)


def is_gige(spec: str) -> bool:
    """Say whether this names a camera and not a scene."""
    return spec == SCHEME or spec.startswith((f"{SCHEME}:", f"{SCHEME}?"))


@dataclass(frozen=True)
class GigeOptions:
    """What ``--source gige`` says.

    Attributes:
        camera: see there.
        transposed: whether a frame's rows are the samples and its columns the bands.
        lines: where the strip ends; None for nowhere.
    """

    camera: CameraOptions = field(default_factory=CameraOptions)
    transposed: bool = False
    lines: int | None = None


def parse_gige(spec: str) -> GigeOptions:
    """Read a specification, ``FORM``; write a space, ``?``, ``&`` or ``%`` as %20, %3F, %26, %25.

    Raises:
        InputError: no such option, or a value that it cannot have.
    """
    name, _, query = spec.removeprefix(SCHEME).removeprefix(":").partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise InputError(f"{spec}: {error}; expected {FORM}") from None
    features = tuple((key, value) for key, value in pairs if key[:1].isupper())  # as GenICam's names are
    options = {key: value for key, value in pairs if not key[:1].isupper()}
    if len(options) + len(features) < len(pairs):
        raise InputError(f"{spec}: an option is given twice; leave one out")

    def number(key: str, least: float) -> float | None:
        text = options.pop(key, None)
        try:
            if text is None or least <= float(text) < float("inf"):
                return None if text is None else float(text)
        except ValueError:
            pass
        limit = "" if least == float("-inf") else f" of at least {least:g}"
        raise InputError(f"{spec}: {key} must be a number{limit}, not {text!r}")

    def whole(key: str, least: int) -> int | None:
        value = number(key, least)
        if value is not None and value != int(value):
            raise InputError(f"{spec}: {key} must be a whole number, not {value:g}")
        return None if value is None else int(value)

    def switch(key: str, default: bool) -> bool:
        text = options.pop(key, "yes" if default else "no")
        if text not in ("yes", "no"):
            raise InputError(f"{spec}: {key} must be yes or no, not {text!r}")
        return text == "yes"

    parsed = GigeOptions(
        CameraOptions(
            camera=unquote(name) or None,
            pixel_format=options.pop("format", None),
            exposure_us=number("exposure", 0),
            gain=number("gain", float("-inf")),
            rate=number("rate", 1e-3),
            packet_bytes=whole("packet", 576),
            buffers=whole("buffers", 2),
            resend=switch("resend", True),
            features=features,
        ),
        transposed=switch("transposed", False),
        lines=whole("lines", 1),
    )
    if options:
        raise InputError(f"{spec}: there is no option {next(iter(options))!r}; there are {_OPTIONS}")
    return parsed


class GigeSource:
    """The strip that a camera sees from the first frame on, until it has its lines or is closed.

    A camera that is lost is looked for again. What it sends then is the same strip, behind a gap that is as long as
    the time was: its ids tell nothing of it, for they may begin anew. Iterate once.

    A line arrives when Aravis hands over its frame. How long it took to come, only its ``timestamp_ns`` tells, to those
    who know how the two clocks differ.

    Attributes:
        camera: the camera; another object after each time that it was lost.
        reconnections: times that the camera came back.
        next_index: of the line that would come next.
    """

    wavelengths_nm: NDArray[np.float64] | None = None  # cameras do not know theirs
    scale = 1.0
    nodata: float | None = None
    truth_classes = 0

    def __init__(self, options: GigeOptions, patience: float, first: int = 0) -> None:
        """Find the camera, set it up and make the memory; it does not run yet.

        Args:
            options: what to ask of it.
            patience: seconds to wait for a camera that is not there, that went away, or whose frames do not come.
            first: index of the first line.

        Raises:
            InputError: the camera cannot do what is asked, or Aravis is missing.
            HyperlineError: no camera answered.
        """
        if not 0 <= patience < float("inf"):
            raise InputError(f"patience must be a number of seconds, not {patience}")
        self._options = options
        self._patience = patience
        self._closed = threading.Event()
        self.camera = camera = self._find(time.monotonic() + patience)
        self._facts = _facts(camera)
        self.name = camera.name
        self.rate = camera.rate
        self.dtype = camera.pixel_format.dtype
        self.samples, self.bands = camera.width, camera.height
        if options.transposed:
            self.samples, self.bands = self.bands, self.samples
        self.lines = options.lines
        try:
            self._decoder = FrameDecoder(camera.pixel_format, camera.width, camera.height)
            if camera.frame_bytes < self._decoder.bytes:
                raise InputError(
                    f"{self.name} sends {camera.frame_bytes} bytes a frame, too few for {camera.width} × "
                    f"{camera.height} pixels in {camera.pixel_format.name}; leave out compression and multi-part"
                )
        except InputError:
            camera.stop()
            raise
        self._memory = np.full((camera.buffers, camera.frame_bytes), 0, np.uint8)  # touched, so that it is there
        self._nothing = np.empty((0, 0), self.dtype)
        self.reconnections = 0
        self.next_index = self._first = first
        self._received = self._missing = self._unseen = self._late = self._resized = 0
        self._incomplete = Counter(dict.fromkeys((*_INCOMPLETE, "other"), 0))
        self._streams: Counter[str] = Counter()  # of the cameras before
        self._last_id: int | None = None  # of this time that the camera runs
        self._nameless: list[str] = []  # what befell the frames since then whose ids are lost
        self._started = self._heard = 0.0  # time.monotonic() of the last start, of the last frame
        self._deadline: float | None = None  # of a camera that is lost
        self._given_up = False

    @property
    def complete(self) -> bool:
        """Whether the strip has all its lines; where nobody said how many, whether the camera was there to the end."""
        return not self._given_up if self.lines is None else self.next_index >= self.lines

    @property
    def end(self) -> int | None:
        """Index behind the last line; None where the camera was lost before it."""
        return self.next_index if self.complete else None

    @property
    def counters(self) -> dict[str, int]:
        """What became of every frame id, lines + incomplete + missing + unseen = span; see ``docs/gige.md``."""
        incomplete = sum(self._incomplete.values())
        streams = self._streams.copy()
        streams.update(self.camera.statistics())
        return {
            "lines": self._received,
            "incomplete": incomplete,
            **{f"incomplete_{kind}": count for kind, count in self._incomplete.items()},
            "missing": self._missing,
            "unseen": self._unseen,
            "span": self.next_index - self._first,
            "late": self._late,
            "resized": self._resized,
            "reconnections": self.reconnections,
            **{f"stream_{name.removeprefix('n_')}": streams[name] for name in sorted(streams)},
        }

    def starting_at(self, index: int) -> GigeSource:
        """Return the same camera with ``index`` as its next line: a resumed strip goes on with what it sees now."""
        self.next_index = self._first = index
        return self

    def __iter__(self) -> Iterator[Line]:
        """Yield whole frames as they come, and frames of another size as lines of shape (0, 0).

        Raises:
            HyperlineError: no whole frame came within patience, from a camera that runs by itself.
        """
        try:
            self.camera.start(self._memory)
            self._started = time.monotonic()
            while not self._closed.is_set() and (self.lines is None or self.next_index < self.lines):
                taken = self.camera.take(_LOOK_UP_S)
                if taken is None:
                    if self._is_lost() and not self._resume():
                        return
                    continue
                buffer, row = taken
                line = self._line(buffer, row)
                if line is not None:
                    yield line
                self.camera.give_back(buffer)
        finally:
            self._leave()

    def close(self) -> None:
        """End the iteration within half a second, from whatever thread."""
        self._closed.set()

    def _line(self, buffer: Any, row: int) -> Line | None:
        """Account for a frame; return its line where it has one."""
        arrived, now = time.perf_counter(), time.monotonic()
        frame_id = buffer.get_frame_id()
        status = buffer.get_status().value_nick.replace("-", "_")
        kind = "" if status == "success" else status if status in _INCOMPLETE else "other"
        if kind and not frame_id:
            self._nameless.append(kind)
            self._require_frames(now)
            return None
        index = self._place(frame_id, now)
        self._heard = now
        if index is None:
            return None
        if kind:
            self._incomplete[kind] += 1
            self._require_frames(now)
            return None
        self._received += 1
        self._deadline = None
        camera = self.camera
        shape = buffer.get_image_height(), buffer.get_image_width()
        values = self._nothing
        if shape == (camera.height, camera.width) and buffer.get_image_pixel_format() == camera.pixel_format.code:
            frame = self._decoder.decode(self._memory[row])  # (band, sample)
            values = frame if self._options.transposed else frame.T
        else:
            self._resized += 1
        return Line(index, values, arrived, None, buffer.get_timestamp() or None)

    def _place(self, frame_id: int, now: float) -> int | None:
        """Return a frame's index, and account for those before it; None for one that is late or behind the end."""
        began = self._last_id is None
        ahead = 1 if self._last_id is None else frames_ahead(frame_id, self._last_id, self.camera.wide_ids)
        if -_LATEST_FRAME < ahead <= 0:
            self._late += 1
            return None
        self._last_id = frame_id
        broken = ahead <= 0 or (began and self._heard > 0)
        gap = max(round((now - self._heard) * self.rate) - 1, 0) if broken else ahead - 1
        if self.lines is not None:
            gap = min(gap, self.lines - self.next_index)
        if broken:
            self._unseen += gap
        else:
            known = self._nameless[:gap]
            self._incomplete.update(known)
            self._missing += gap - len(known)
        self._nameless.clear()
        self.next_index += gap
        if self.next_index == self.lines:
            return None
        self.next_index += 1
        return self.next_index - 1

    def _is_lost(self) -> bool:
        if self.camera.lost.is_set():
            return True
        now = time.monotonic()
        if self.camera.triggered:
            return False
        self._require_frames(now)
        silence = now - max(self._heard, self._started)
        return self._received > 0 and silence > max(_SILENCE_S, _SILENT_FRAMES / self.rate)

    def _require_frames(self, now: float) -> None:
        """Give up on a camera of which no whole frame has ever come."""
        if self._received or now - self._started <= max(self._patience, _SILENT_FRAMES / self.rate):
            return
        came = sum(self._incomplete.values()) + len(self._nameless)
        raise HyperlineError(
            f"{self.name} runs, but in {now - self._started:.0f} s {came or 'no'} frames came and none was whole; its "
            f"packets of {self.camera.packet_bytes} bytes are lost on the way: try ?packet=1400; look for a firewall"
        )

    def _resume(self) -> bool:
        """Wait for the camera to come back; False if it does not."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._patience
        elif now > self._deadline:  # it answers, and its frames do not come
            self._given_up = True
            return False
        logger.warning("%s is lost; looking for it, for %g s", self.name, self._patience)
        self._streams.update(self.camera.statistics())
        try:
            self.camera = camera = self._find(self._deadline, self.camera)
            if _facts(camera) != self._facts:
                raise HyperlineError(f"{self.name} came back with other frames; say in the source what it is to send")
            camera.start(self._memory)
        except HyperlineError as error:
            self._given_up = not self._closed.is_set()
            logger.warning("%s", error)
            return False
        self._last_id, self._started = None, time.monotonic()
        self.reconnections += 1
        return True

    def _find(self, deadline: float, before: Camera | None = None) -> Camera:
        """Open the camera, with pauses that double from 0.1 to 2 s between the attempts.

        In a thread of its own, for Aravis cannot be told to stop.

        Raises:
            HyperlineError: it is not there, or this was closed. The first time an InputError is final.
        """
        outcome: list[Camera | Exception] = []

        def seek() -> None:
            if before is not None:
                before.stop()
            backoff, longest = _BACKOFF_S
            while True:
                try:
                    camera = Camera(self._options.camera)
                except Exception as error:
                    final = not isinstance(error, HyperlineError) or (before is None and isinstance(error, InputError))
                    if final or self._closed.is_set() or time.monotonic() + backoff > deadline:
                        outcome.append(error)
                        return
                else:
                    outcome.append(camera)
                    return
                self._closed.wait(backoff)
                backoff = min(2 * backoff, longest)

        seeker = threading.Thread(target=seek, name="hyperline-camera", daemon=True)
        seeker.start()
        while seeker.is_alive() and not self._closed.is_set():
            seeker.join(_LOOK_UP_S)
        if not outcome:
            raise HyperlineError("closed while the camera was looked for")
        found = outcome.pop()
        try:
            if isinstance(found, Exception):
                raise found
            return found
        finally:
            del found  # an error that refers to itself would hold the camera until Python looks for such circles

    def _leave(self) -> None:
        statistics = self.camera.statistics()
        self.camera.stop()
        self._streams.update(statistics)


def _facts(camera: Camera) -> tuple[Any, ...]:
    """What must be the same when the camera comes back: the memory is made for it."""
    return camera.width, camera.height, camera.pixel_format, camera.frame_bytes, camera.buffers
