"""Viewers that are fast, slow, and greedy."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.runtime.feed import Lines
from hyperline.runtime.view.hub import _MOST_WAITING, Hub, Viewer
from hyperline.runtime.view.messages import WantLines, WantSpectrum, lines_message, read_want


def drained(viewer: Viewer) -> list[str | bytes]:
    messages = []
    while (message := viewer.pop()) is not None:
        messages.append(message)
    return messages


def test_a_viewer_that_keeps_up_gets_every_line() -> None:
    viewer = Viewer(0)
    for first in range(0, 1000, 10):
        viewer.show(first, first + 10, b"%d" % first)
        assert drained(viewer) == [b"%d" % first]


def test_a_slow_viewer_takes_no_memory_and_is_told_what_it_missed() -> None:
    viewer = Viewer(0)
    for first in range(0, 1000, 10):
        viewer.show(first, first + 10, b"%d" % first)
    waiting = drained(viewer)
    assert len(waiting) == _MOST_WAITING
    viewer.show(1000, 1010, b"1000")
    told, message = drained(viewer)
    assert json.loads(told) == {"kind": "missed", "first": 10 * _MOST_WAITING, "count": 1000 - 10 * _MOST_WAITING}
    assert message == b"1000"


def test_a_viewer_that_was_slow_at_the_end_is_told_too() -> None:
    viewer = Viewer(0)
    for first in range(0, 1000, 10):
        viewer.show(first, first + 10, b"%d" % first)
    viewer.own_up()
    assert len(drained(viewer)) == _MOST_WAITING, "no room yet"
    viewer.own_up()
    (told,) = drained(viewer)
    assert json.loads(told) == {"kind": "missed", "first": 10 * _MOST_WAITING, "count": 1000 - 10 * _MOST_WAITING}
    viewer.own_up()
    assert not drained(viewer)


def test_lines_that_the_reader_passed_over_are_told_too() -> None:
    viewer = Viewer(100)
    viewer.show(150, 160, b"lines")
    told, _ = drained(viewer)
    assert json.loads(told) == {"kind": "missed", "first": 100, "count": 50}


def test_a_strip_that_begins_anew_leaves_nothing_of_the_last() -> None:
    viewer = Viewer(100)
    viewer.show(100, 110, b"old")
    viewer.wants.append(WantLines(want="lines", first=3, count=4))
    viewer.begin_anew(0)
    viewer.show(0, 10, b"new")
    assert drained(viewer) == [b"new"] and not viewer.wants


def test_lines_are_as_their_document_says() -> None:
    colours = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    labels, confidence = np.full((2, 3), 7, np.uint8), np.full((2, 3), 200, np.uint8)
    message = lines_message(Lines(70000, colours, labels, confidence))
    assert message == b"HLV1" + bytes.fromhex("70110100 03000000 02000000") + bytes(range(18)) + b"\7" * 6 + b"\xc8" * 6


def test_what_a_page_asks_for_is_read() -> None:
    assert read_want('{"want":"lines","first":3,"count":4}') == WantLines(want="lines", first=3, count=4)
    assert read_want('{"want":"spectrum","line":3,"sample":4}') == WantSpectrum(want="spectrum", line=3, sample=4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"want":"files"}',
        '{"want":"lines","first":-1,"count":4}',
        '{"want":"lines","first":3,"count":0}',
        '{"want":"lines","first":3,"count":999999999}',
        '{"want":"lines","first":"3","count":4}',
        '{"want":"lines","first":3.5,"count":4}',
        '{"want":"lines","first":3,"count":4,"path":"/etc/passwd"}',
        '{"want":"lines","first":1e400,"count":4}',
        '{"want":"spectrum","line":3,"sample":' + "9" * 300 + "}",
        "[" * 200,
    ],
)
def test_all_else_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_want(text)


class ShortStrip:
    """Eight lines, of which five are due when a viewer comes and all a moment later, before the reader wakes."""

    session = "short"
    description: dict[str, Any] = {"class_names": []}  # noqa: RUF012
    over = False

    def __init__(self) -> None:
        self.looked = 0

    @property
    def head(self) -> int:
        self.looked += 1
        return 5 if self.looked == 1 else 8

    def read(self, first: int, count: int) -> Lines:
        count = min(count, 8 - first)
        pixels = np.zeros((count, 1), np.uint8)
        return Lines(first, np.zeros((count, 1, 3), np.uint8), pixels, pixels)

    def status(self) -> dict[str, Any]:
        return {"state": "ended"}


class Socket:
    """Keeps what it is sent; says nothing."""

    def __init__(self) -> None:
        self.words: list[dict[str, Any]] = []
        self.lines: list[bytes] = []

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(60)
        return {"type": "websocket.disconnect"}

    async def send_text(self, message: str) -> None:
        self.words.append(json.loads(message))

    async def send_bytes(self, message: bytes) -> None:
        self.lines.append(message)


def test_lines_due_before_the_reader_wakes_are_sent() -> None:
    strip: Any = ShortStrip()
    hub, socket = Hub(strip, lambda: None, most_viewers=1), Socket()

    async def look() -> None:
        reading = asyncio.create_task(hub.run())
        await asyncio.sleep(0)  # nobody looks: it waits
        serving = asyncio.create_task(hub.serve(socket))
        for _ in range(100):
            await asyncio.sleep(0.02)
            if socket.lines:
                break
        for task in (serving, reading):
            task.cancel()
        await asyncio.gather(serving, reading, return_exceptions=True)

    asyncio.run(look())
    assert socket.words[0]["head"] == 5
    assert socket.lines == [lines_message(strip.read(5, 3))]
