"""Flights and views in processes of their own, as people start them, and a strip whose lines say their numbers."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from hyperline.bundle import Bundle
from hyperline.runtime.feed.layout import POINTER
from hyperline.runtime.feed.writer import discard_feed
from hyperline.runtime.quicklook import _BYTES

NUMBERS = 512  # lines that differ: three colours of eight levels


def pattern(lines: int, samples: int, bands: int = 5) -> np.ndarray:
    """(line, sample, band) whose red, green and blue are the line's number to the base of eight.

    The other bands outweigh what the tiny model sums up along track: classes change from pixel to pixel.
    """
    number = np.arange(lines) % NUMBERS
    cube = np.random.default_rng(3).integers(-300, 301, (lines, samples, bands)).astype(np.int16)
    for band, digit in ((2, number // 64), (1, number // 8 % 8), (0, number % 8)):
        cube[:, :, band] = digit[:, None]
    return cube


def number_of(colours: np.ndarray) -> np.ndarray:
    """Read the numbers back from (…, 3) uint8."""
    dark, bright = _BYTES
    digits = np.rint((colours.astype(int) - dark) / (bright - dark) * 7).astype(int)
    return digits[..., 0] * 64 + digits[..., 1] * 8 + digits[..., 2]


@pytest.fixture(scope="session")
def bundle(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny model with a golden block whose bands run from 0 to 7."""
    lines, valid = np.zeros((4, 8, 5), np.float32), np.ones((4, 8), bool)
    lines[:] = np.arange(8)[:, None]
    labels, _, logits = tiny.reference(lines, valid, 4)
    golden = {"lines": lines, "valid": valid, "labels": labels, "logits": logits.astype(np.float32)}
    written: Bundle = tiny.write_bundle(tmp_path_factory.mktemp("view") / "tiny.hlb", 4, golden=golden)
    return written


def hyperline(*arguments: object) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", "from hyperline.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@dataclass(frozen=True)
class Flown:
    """A flight in a process of its own."""

    process: subprocess.Popen[str]
    folder: Path

    def land(self, seconds: float = 60) -> dict[str, Any]:
        """Wait for its end, which must be a good one; return its summary."""
        out, err = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, err
        summary: dict[str, Any] = json.loads(out)
        return summary


@dataclass(frozen=True)
class Viewed:
    """A view in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    @property
    def address(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port


@pytest.fixture
def fly(bundle: Bundle, tmp_path: Path) -> Iterator[Callable[..., Flown]]:
    """Fly the pattern; return as soon as it can be viewed."""
    flights: list[Flown] = []

    def start(
        samples: int = 64, seconds: float = 10.0, rate: float = 330.0, out: str = "run", *options: object
    ) -> Flown:
        scene, folder = tmp_path / "pattern.npz", tmp_path / out
        if not scene.exists():
            np.savez(scene, cube=pattern(NUMBERS, samples), wavelengths_nm=[450.0, 550.0, 650.0, 750.0, 850.0])
        repeat = max(1, round(seconds * rate / NUMBERS))
        flight = Flown(
            hyperline(
                *("run", bundle.path, "--source", scene, "--out", folder, "--rate", rate, "--repeat", repeat),
                # A ring for three seconds: the machine of a test may be busier than any board.
                *("--threads", 1, "--ring", 1024, "--no-picture", "--json", *options),
            ),
            folder,
        )
        flights.append(flight)
        deadline = time.monotonic() + 20
        while not (folder / POINTER).exists():
            assert flight.process.poll() is None, flight.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return flight

    yield start
    for flight in flights:
        if flight.process.poll() is None:
            flight.process.kill()
        flight.process.communicate()
        discard_feed(flight.folder)  # of one that was killed


@pytest.fixture
def view() -> Iterator[Callable[..., Viewed]]:
    """View a folder; return as soon as the page is served."""
    views: list[Viewed] = []

    def start(folder: Path, *options: object) -> Viewed:
        process = hyperline("view", folder, "--port", 0, *options)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), process.communicate(timeout=30)
        views.append(Viewed(process, url))
        return views[-1]

    yield start
    for one in views:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGINT)
        try:
            _, err = one.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            one.process.kill()
            raise
        assert one.process.returncode == 0, err
        assert "Traceback" not in err, err


@dataclass(frozen=True)
class Pattern:
    """What the tests need of all this."""

    numbers: int = NUMBERS
    make = staticmethod(pattern)
    number_of = staticmethod(number_of)


@pytest.fixture(scope="session")
def numbered() -> Pattern:
    return Pattern()
