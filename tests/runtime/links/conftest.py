"""A camera that sees events, and far ends that are the real thing."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hyperline.bundle import Card
from hyperline.runtime.links import Event, Links

SAMPLES = 13
BLOCK = 4
EVENTS = ("Corn:0.5:2", "Woods:0.5:2:3")


def event(sequence: int = 0, **changes: object) -> Event:
    values: dict = {
        "sequence": sequence,
        "class_id": 1,
        "class_name": "Corn",
        "pixels": 40,
        "mean_confidence": 0.75,
        "max_confidence": 1.0,
        "first_line": 100,
        "last_line": 109,
        "first_sample": 3,
        "last_sample": 8,
        "centre_line": 104.5,
        "centre_sample": 5.25,
        "first_time": 1_795_000_000.25,
        "last_time": 1_795_000_000.75,
        "complete": True,
        "weight": 1.0,
    }
    return Event(**values | changes)


def fly(links: Links, blocks: int, first: int = 0) -> np.ndarray:
    """Offer blocks that each hold one whole event of class 1 or 2; return the seconds that each offer took.

    No faster than the links' own thread takes them, which a camera would be on a machine as busy as that of a test.
    """
    took = []
    for block in range(first, first + blocks):
        labels = np.zeros((BLOCK, SAMPLES + 3), np.uint8)
        labels[1, 2 : 4 + block % 7] = 1 + block % 2
        confidence = np.full(labels.shape, 0.75, np.float32)
        start = time.perf_counter()
        links.offer(block * BLOCK, labels, confidence, BLOCK, 1.795e9 + np.arange(BLOCK))
        took.append(time.perf_counter() - start)
        assert eventually(lambda: links.report()["blocks"]["queued"] < 8)
    return np.array(took)


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A real mosquitto, which keeps sessions and messages over a restart."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._settings = (
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
            f"persistence true\npersistence_location {folder}/\nmax_queued_messages 0\n"
        )
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, settings: str = "") -> None:
        self._config.write_text(self._settings + settings)
        self._process = subprocess.Popen([self._program, "-c", self._config], stderr=subprocess.DEVNULL)
        assert eventually(self._listens), "mosquitto does not listen"

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self.resume()
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def stall(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("no mosquitto: apt-get install mosquitto")
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(program, folder)
    yield broker
    broker.stop()


class Aircraft:
    """What the tests need of all this."""

    samples = SAMPLES
    block_lines = BLOCK
    rules = EVENTS
    event = staticmethod(event)
    fly = staticmethod(fly)
    eventually = staticmethod(eventually)
    free_port = staticmethod(free_port)

    def __init__(self, card: Card) -> None:
        self.card = card
        self._flights: list[Links] = []

    def links(self, *specs: object, **options: object) -> Links:
        links = Links([str(spec) for spec in specs], self.card, SAMPLES, events=EVENTS, **options)  # type: ignore[arg-type]
        self._flights.append(links)
        return links

    def land(self) -> None:
        for links in self._flights:
            links.close(0.1)


@pytest.fixture
def aircraft(tiny) -> Iterator[Aircraft]:
    aircraft = Aircraft(tiny.card(BLOCK))
    yield aircraft
    aircraft.land()


@pytest.fixture(scope="session")
def make_event() -> Callable[..., Event]:
    return event
