"""The view as a viewer meets it: a page, and lines over a websocket."""

import json
import socket
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperline.errors import HyperlineError
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip

client = pytest.importorskip("websockets.sync.client", reason="needs websockets, of hyperline[view]")


@pytest.fixture
def flown(bundle, scene, tmp_path: Path) -> Path:
    run_strip(bundle, SceneSource(scene, rate=1000.0), tmp_path / "out", threads=1)
    return tmp_path / "out"


def read_lines(message: bytes) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    magic, first, samples, count = struct.unpack("<4sIII", message[:16])
    assert magic == b"HLV1" and len(message) == 16 + 5 * samples * count
    colours, labels, confidence = np.split(
        np.frombuffer(message, np.uint8, offset=16), np.array([3, 4]) * samples * count
    )
    return first, colours.reshape(count, samples, 3), labels.reshape(count, samples), confidence.reshape(count, samples)


def look(viewed: Any) -> Any:
    return client.connect(f"ws://{viewed.address}/lines", proxy=None, max_size=None)


def test_the_page_comes_whole_from_memory_and_from_nowhere_else(flown: Path, view: Callable[..., Any]) -> None:
    viewed = view(flown)
    for path in (
        "/",
        "/view.css",
        "/view.js",
        "/connection.js",
        "/history.js",
        "/waterfall.js",
        "/plots.js",
        "/icon.svg",
    ):
        with urllib.request.urlopen(f"http://{viewed.address}{path}") as answer:
            text = answer.read().decode()
            assert len(text) > 200
            assert "https://" not in text, "nothing is fetched from elsewhere"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_viewer_of_a_flight_gets_every_line_as_it_comes(
    fly: Callable[..., Any], view: Callable[..., Any], numbered: Any
) -> None:
    flight = fly(samples=40, seconds=6.0)
    with look(view(flight.folder)) as viewer:
        strip = json.loads(viewer.recv(timeout=10))
        assert (strip["kind"], strip["samples"], strip["live"]) == ("strip", 40, True)
        assert strip["class_names"][:2] == ["no class", "Corn"]
        expected, shown, statuses = strip["head"], [], []
        while not statuses or statuses[-1]["state"] == "flying":
            message = viewer.recv(timeout=10)
            if isinstance(message, str):
                assert json.loads(message)["kind"] == "status"
                statuses.append(json.loads(message))
                continue
            first, colours, labels, _ = read_lines(message)
            assert first == expected, "no line is missed, none comes twice"
            expected = first + len(labels)
            shown.append(labels)
            numbers = numbered.number_of(colours[:, 0])
            np.testing.assert_array_equal(numbers, np.arange(first, expected) % numbered.numbers)
        viewer.send('{"want":"lines","first":0,"count":60}')
        earliest = viewer.recv(timeout=10)
        while isinstance(earliest, str):
            earliest = viewer.recv(timeout=10)
    summary = flight.land()
    classes = np.fromfile(flight.folder / "classes.img", np.uint8).reshape(-1, 40)
    assert expected == summary["received"] == summary["classified"] == len(classes)
    np.testing.assert_array_equal(np.concatenate(shown), classes[strip["head"] :])
    np.testing.assert_array_equal(read_lines(earliest)[2], classes[:60])
    assert statuses[-1]["state"] == "ended"
    assert statuses[-1]["pixels"]["whole"] == np.bincount(classes.ravel(), minlength=5).tolist()
    rates = [status["lines_per_second"] for status in statuses[8:-8]]
    assert all(250 < rate < 420 for rate in rates), rates


def test_the_spectrum_of_a_pixel_is_sent_on_request(
    fly: Callable[..., Any], view: Callable[..., Any], numbered: Any
) -> None:
    flight = fly(samples=40, seconds=3.0)
    with look(view(flight.folder)) as viewer:
        head = json.loads(viewer.recv(timeout=10))["head"]
        viewer.send(json.dumps({"want": "spectrum", "line": head - 1, "sample": 7}))
        while True:
            message = viewer.recv(timeout=10)
            if isinstance(message, str) and json.loads(message)["kind"] == "spectrum":
                break
    found = json.loads(message)["found"]
    cube = numbered.make(numbered.numbers, 40)
    assert found["values"] == cube[found["line"] % numbered.numbers, found["sample"]].tolist()
    flight.process.terminate()


def test_a_flight_that_begins_while_a_replay_is_shown_takes_its_place(
    bundle, flown: Path, fly: Callable[..., Any], view: Callable[..., Any]
) -> None:
    with look(view(flown)) as viewer:
        first = json.loads(viewer.recv(timeout=10))
        assert (first["live"], first["samples"]) == (False, 13)
        fly(16, 4.0, 330.0, "out", "--overwrite")
        while True:
            message = viewer.recv(timeout=10)
            if isinstance(message, str) and json.loads(message)["kind"] == "strip":
                break
        second = json.loads(message)
        assert (second["live"], second["samples"]) == (True, 16)
        assert second["session"] != first["session"]


def test_a_killed_flight_is_said_to_have_stopped(fly: Callable[..., Any], view: Callable[..., Any]) -> None:
    flight = fly(seconds=20.0)
    with look(view(flight.folder)) as viewer:
        viewer.recv(timeout=10)
        flight.process.kill()
        while True:
            message = viewer.recv(timeout=10)
            if isinstance(message, str) and json.loads(message).get("state") == "stopped":
                break
        viewer.send('{"want":"lines","first":0,"count":8}')
        message = viewer.recv(timeout=10)
        while isinstance(message, str):
            message = viewer.recv(timeout=10)
        assert read_lines(message)[0] >= 0


def test_at_another_address_a_token_is_made_and_asked_for(flown: Path, view: Callable[..., Any]) -> None:
    viewed = view(flown, "--host", "0.0.0.0")
    assert "?token=" in viewed.url
    address = f"http://127.0.0.1:{viewed.port}/"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(address)
    token = viewed.url.partition("?")[2]
    with urllib.request.urlopen(f"{address}?{token}") as answer:
        assert b"<canvas" in answer.read()


def test_an_address_that_is_taken_is_said_so(flown: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = "from hyperline.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, "view", str(flown), "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == 1
    assert f"cannot listen at 127.0.0.1:{port}" in done.stderr and done.stdout == ""


def test_without_the_extra_the_error_names_it(flown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hyperline.runtime.view.server import make_server

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(HyperlineError, match=r"pip install 'hyperline\[view\]'"):
        make_server(flown)
