"""One reader of the strip, any number of viewers: each message is made once and nobody waits for anybody."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.view.census import Census
from hyperline.runtime.view.messages import (
    Want,
    WantLines,
    json_message,
    lines_message,
    read_want,
)
from hyperline.runtime.view.strip import Strip

_LOG = logging.getLogger(__name__)

_FRAME_SECONDS = 1 / 30
_STATUS_SECONDS = 0.2
# Looks for a new strip once the one that is shown is over.
_LOOK_SECONDS = 1.0
_LINES_A_MESSAGE = 64
# Of new lines: eight tenths of a second. A viewer that is further behind is told what it missed.
_MOST_WAITING = 24
_MOST_WANTS = 8
# A viewer that takes nothing for so long is gone.
_SEND_SECONDS = 10.0
# Between two questions of a viewer: two hundred a second are more than any pointer asks.
_ASK_SECONDS = 0.005

Message = bytes | str


class Viewer:
    """What waits for one viewer; bounded, whatever the viewer does."""

    def __init__(self, head: int) -> None:
        """Begin at a line."""
        self.changed = asyncio.Event()
        self.wants: deque[Want] = deque(maxlen=_MOST_WANTS)
        self._waiting: deque[Message] = deque()
        self._next = head  # the line that it is to get next
        self._missed_from: int | None = None

    def show(self, first: int, end: int, message: bytes) -> None:
        """Queue new lines, or note that they are missed."""
        if self._missed_from is None and first > self._next:
            self._missed_from = self._next
        if len(self._waiting) >= _MOST_WAITING:
            self._missed_from = first if self._missed_from is None else self._missed_from
        else:
            self.own_up(first)
            self._waiting.append(message)
        self._next = end
        self.changed.set()

    def own_up(self, end: int | None = None) -> None:
        """Say what was missed, as soon as there is room for a word: no line may come behind it."""
        if self._missed_from is not None and len(self._waiting) < _MOST_WAITING:
            count = (self._next if end is None else end) - self._missed_from
            self._waiting.append(json_message("missed", {"first": self._missed_from, "count": count}))
            self._missed_from = None
            self.changed.set()

    def tell(self, message: str) -> None:
        """Queue a word, unless too many wait."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(message)
            self.changed.set()

    def begin_anew(self, head: int) -> None:
        """Forget the strip that was shown."""
        self._waiting.clear()
        self.wants.clear()
        self._next, self._missed_from = head, None

    def pop(self) -> Message | None:
        """Take the next message."""
        return self._waiting.popleft() if self._waiting else None


class Hub:
    """Reads the strip while anybody looks."""

    def __init__(self, strip: Strip, find_live: Callable[[], Strip | None], most_viewers: int) -> None:
        """Take over a strip.

        Args:
            strip: to show.
            find_live: opens the strip that is flown now; None where none is.
            most_viewers: at a time.
        """
        self._find_live = find_live
        self._strip = strip
        self._census = Census(self._strip)
        self._viewers: set[Viewer] = set()
        self._most = most_viewers
        self._sent = 0
        self._somebody = asyncio.Event()
        self._status = ""

    @property
    def full(self) -> bool:
        """Whether no more viewers are taken."""
        return len(self._viewers) >= self._most

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    async def run(self) -> None:
        """Read and spread until cancelled."""
        loop = asyncio.get_running_loop()
        status_at = look_at = 0.0
        while True:
            if not self._viewers:
                self._somebody.clear()
                await self._somebody.wait()
            started = loop.time()
            try:
                if started >= look_at:
                    self._look_for_another()
                    look_at = started + _LOOK_SECONDS
                self._show_new_lines()
                if started >= status_at:
                    self._spread_status()
                    status_at = started + _STATUS_SECONDS
            except (HyperlineError, OSError) as error:
                _LOG.warning("the strip cannot be read: %s", error)
            await asyncio.sleep(max(_FRAME_SECONDS - (loop.time() - started), 0.001))

    def _show_new_lines(self) -> None:
        head = self._strip.head
        # Of a strip that ran away, the newest: what lies between is told as missed, and can be asked for.
        self._sent = max(self._sent, head - _MOST_WAITING * _LINES_A_MESSAGE)
        while self._sent < head:
            lines = self._strip.read(self._sent, min(_LINES_A_MESSAGE, head - self._sent))
            if not lines.count:
                self._sent = head
                return
            message = lines_message(lines)
            self._sent = lines.first + lines.count
            for viewer in self._viewers:
                viewer.show(lines.first, self._sent, message)

    def _spread_status(self) -> None:
        self._census.advance(self._strip.head)
        self._status = self._make_status()
        for viewer in self._viewers:
            viewer.own_up()
            viewer.tell(self._status)

    def _make_status(self) -> str:
        classes = len(self._strip.description["class_names"])
        content: dict[str, Any] = {
            **self._strip.status(),
            "head": self._strip.head,
            "counted": self._census.counted,
            "pixels": self._census.report(classes),
            "viewers": len(self._viewers),
        }
        return json_message("status", content)

    def _look_for_another(self) -> None:
        """Take up a strip that began after the one that is shown was over."""
        if not self._strip.over:
            return
        strip = self._find_live()
        if strip is None:
            return
        self._strip.close()
        self._strip, self._census = strip, Census(strip)
        self._sent = strip.head
        hello = self._hello(self._sent)
        for viewer in self._viewers:
            viewer.begin_anew(self._sent)
            viewer.tell(hello)

    def _hello(self, head: int) -> str:
        content = {**self._strip.description, "session": self._strip.session, "head": head}
        return json_message("strip", content)

    async def serve(self, websocket: Any) -> None:
        """Serve one viewer, whose connection was accepted, until it goes."""
        head = self._strip.head
        if not self._viewers:
            # From here, not from where the reader wakes: a strip may end between the two, and no line would follow.
            self._sent = head
        viewer = Viewer(head)
        viewer.tell(self._hello(head))
        self._viewers.add(viewer)
        self._somebody.set()
        hearing = asyncio.create_task(self._hear(websocket, viewer))
        telling = asyncio.create_task(self._tell(websocket, viewer))
        try:
            await asyncio.wait((hearing, telling), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._viewers.discard(viewer)
            for task in (hearing, telling):
                task.cancel()
            await asyncio.gather(hearing, telling, return_exceptions=True)

    async def _hear(self, websocket: Any, viewer: Viewer) -> None:
        """Take questions until the viewer goes, or asks for what nobody asks for."""
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                want = read_want(message.get("text") or "")
            except InputError as error:
                _LOG.warning("a viewer was sent away: %s", error)
                await websocket.close(1008)
                return
            if not isinstance(want, WantLines):  # of spectra the latest counts
                for old in [old for old in viewer.wants if not isinstance(old, WantLines)]:
                    viewer.wants.remove(old)
            viewer.wants.append(want)
            viewer.changed.set()
            await asyncio.sleep(_ASK_SECONDS)

    async def _tell(self, websocket: Any, viewer: Viewer) -> None:
        """Send what waits: new lines first, then answers."""
        while True:
            await viewer.changed.wait()
            viewer.changed.clear()
            while True:
                while (message := viewer.pop()) is not None:
                    await _send(websocket, message)
                if not viewer.wants:
                    break
                await self._answer(websocket, viewer.wants.popleft(), viewer)

    async def _answer(self, websocket: Any, want: Want, viewer: Viewer) -> None:
        strip = self._strip
        if not isinstance(want, WantLines):
            asked = {"for_line": want.line, "for_sample": want.sample}
            await _send(websocket, json_message("spectrum", {**asked, "found": strip.spectrum(want.line, want.sample)}))
            return
        # In another thread: the lines may lie on a slow disk.
        lines = await asyncio.to_thread(strip.read, want.first, min(want.count, _LINES_A_MESSAGE))
        if strip is not self._strip:
            return
        if lines.count:
            await _send(websocket, lines_message(lines))
        left = want.first + want.count - (lines.first + lines.count)
        if lines.count and left > 0:
            viewer.wants.appendleft(WantLines(want="lines", first=lines.first + lines.count, count=left))
        elif left > 0:
            await _send(websocket, json_message("gone", {"first": want.first, "count": want.count}))


async def _send(websocket: Any, message: Message) -> None:
    """Send one message.

    Raises:
        TimeoutError: the viewer takes nothing.
    """
    sending = websocket.send_bytes(message) if isinstance(message, bytes) else websocket.send_text(message)
    await asyncio.wait_for(sending, _SEND_SECONDS)
