"""What looking on costs the loop: strips at a sensor's full frame with no viewer, one and three, in turns.

    python bench/view.py --seconds 8 --turns 6 --screenshots build/view
    python bench/view.py --offer

Lines of 1024 samples × 224 bands come as uint16 from memory, at 330 lines/s or as fast as they are taken, through ring,
engine, maps, log and checkpoints. One `hyperline view` shows every strip. Viewers are windows of a headless Chromium,
or plain websocket clients that check that no line is missed; each is reckoned against the strip of the same turn that
nobody could have viewed (no feed). The order changes from turn to turn. Server, browser and clients run at the lowest
priority, since on an aircraft the browser is on another machine; here they share the processor with the loop.

--offer times what the feed takes of the loop alone: the copies of a block, without any reader.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from strips import fly_strip, made_up_bundle, made_up_scene
from timing import processor

from hyperline.runtime.feed.layout import POINTER
from hyperline.runtime.view.priority import lowest_priority

_SAMPLES, _BANDS, _CLASSES = 1024, 224, 16
_QUIET = 3

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Case:
    """One way to be looked at."""

    name: str
    feed: bool = True
    pages: int = 0
    clients: int = 0
    summaries: list[dict[str, Any]] = field(default_factory=list)
    frames: list[float] = field(default_factory=list)
    missed: int = 0


def cases() -> list[Case]:
    """Return all, the one to compare with first."""
    return [
        Case("no feed", feed=False),
        Case("feed, no viewer"),
        Case("1 client", clients=1),
        Case("3 clients", clients=3),
        Case("1 page", pages=1),
        Case("3 pages", pages=3),
    ]


def main() -> None:
    """Fly in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="of a strip")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--rate", type=float, default=330)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--flat-out", type=float, default=1300, help="lines a second that fill the seconds, unpaced")
    parser.add_argument("--screenshots", type=Path)
    parser.add_argument(
        "--cases", nargs="+", choices=[case.name for case in cases()], help="some alone  [default: all]"
    )
    parser.add_argument("--pace", choices=["sensor", "flat-out"], help="one of the two alone")
    parser.add_argument("--offer", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        if options.offer:
            _offer(folder)
            return
        # The flights' process begins before this one steps back.
        spawn = multiprocessing.get_context("spawn")
        flights = stack.enter_context(ProcessPoolExecutor(1, spawn, os.setsid))
        warm = flights.submit(_fly, folder, 1024, None, options.threads, True).result()
        lowest_priority()
        view = stack.enter_context(_Viewers(folder / "strip"))
        print(
            f"{_SAMPLES} samples × {_BANDS} bands, INT8 on {warm['engine']}, {options.threads} threads, "
            f"{options.turns} turns of strips of {options.seconds:g} s; {processor()}, {os.cpu_count()} cores, "
            f"load {os.getloadavg()[0]:.1f} before. The first row of a table is a strip without a feed; throughput is "
            "the median over the turns of lines/s against that row's in the same turn, with the least and the most.\n"
        )
        paces = {"sensor": (options.rate, options.rate), "flat-out": (None, options.flat_out)}
        for rate, lines in [paces[options.pace]] if options.pace else paces.values():
            measured = [case for case in cases() if not options.cases or case.name in options.cases]
            for turn in range(options.turns):
                for case in measured[turn % len(measured) :] + measured[: turn % len(measured)]:
                    _measure(case, flights, view, folder, round(options.seconds * lines), rate, options)
            print("\n".join(_table(measured, rate)), flush=True)


def _measure(
    case: Case,
    flights: ProcessPoolExecutor,
    view: _Viewers,
    folder: Path,
    lines: int,
    rate: float | None,
    options: argparse.Namespace,
) -> None:
    view.show(case.pages)
    time.sleep(1.0)
    flown = flights.submit(_fly, folder, lines, rate, options.threads, case.feed)
    clients = view.clients(case.clients, flown)
    time.sleep(0.6 * options.seconds)
    case.frames += view.frames()
    if options.screenshots and case.name == "1 page" and rate is not None:
        view.keep(options.screenshots)
    case.summaries.append(flown.result())
    for client in clients:
        client.join()
        case.missed += client.missed
    case.missed += view.missed()


def _fly(folder: Path, lines: int, rate: float | None, threads: int, feed: bool) -> dict[str, Any]:
    """Fly one strip; in the flights' process, whose bundle and scene stay."""
    from hyperline.runtime.sources.files import SceneSource

    held = globals().setdefault("_held", {})
    if not held:
        held["bundle"] = made_up_bundle(folder, _BANDS, _CLASSES)
        held["scene"] = made_up_scene(held["bundle"], _SAMPLES)
    summary, seconds = fly_strip(
        held["bundle"],
        SceneSource(held["scene"], rate, repeat=max(1, round(lines / held["scene"].lines))),
        folder / "strip",
        precision="int8",
        threads=threads,
        feed=feed,
    )
    return summary.as_dict() | {"processor_ms_a_line": 1e3 * seconds}


class _Client(threading.Thread):
    """A websocket client that takes all lines of one strip and counts those that it does not get."""

    def __init__(self, url: str, flown: Future[Any]) -> None:
        super().__init__(daemon=True)
        self._url, self._flown = url, flown
        self.missed = 0
        self.start()

    def run(self) -> None:
        from websockets.sync.client import connect

        expected: int | None = None
        quiet = 0  # messages without lines since the strip has ended
        with connect(self._url, proxy=None, max_size=None) as socket:
            while quiet < _QUIET:
                message: str | bytes = ""
                with suppress(TimeoutError):
                    message = socket.recv(timeout=0.5)
                if isinstance(message, bytes):
                    first, _, count = np.frombuffer(message, "<u4", 3, 4).tolist()
                    if expected is not None:
                        self.missed += max(first - expected, 0)
                    expected = first + count
                    continue
                if message and json.loads(message)["kind"] == "strip":
                    expected = json.loads(message)["head"]
                quiet += self._flown.done()


class _Viewers:
    """The view's server, and a browser of three windows."""

    def __init__(self, strip: Path) -> None:
        self._strip = strip

    def __enter__(self) -> _Viewers:
        from playwright.sync_api import sync_playwright

        program = [
            sys.executable,
            "-c",
            "from hyperline.cli import main; main()",
            "view",
            str(self._strip),
            "--port",
            "0",
        ]
        self._server = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._server.stdout is not None
        self.url = self._server.stdout.readline().strip()
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        self._pages = [self._browser.new_context(viewport={"width": 1280, "height": 800}).new_page() for _ in range(3)]
        self._shown = 0
        _step_back()
        return self

    def __exit__(self, *unused: object) -> None:
        self._browser.close()
        self._playwright.stop()
        self._server.terminate()
        self._server.wait(10)

    def show(self, pages: int) -> None:
        """Let so many windows look, and the others at nothing."""
        for number, page in enumerate(self._pages):
            page.goto(self.url if number < pages else "about:blank", timeout=120_000)
        self._shown = pages
        _step_back()

    def clients(self, count: int, flown: Future[Any]) -> list[_Client]:
        while count and not (self._strip / POINTER).exists() and not flown.done():
            time.sleep(0.02)
        return [_Client(self.url.replace("http", "ws") + "lines", flown) for _ in range(count)]

    def frames(self) -> list[float]:
        """Return the frames a second that each page counts."""
        return [float(self._asked(page, "framesPerSecond")) for page in self._pages[: self._shown]]

    def missed(self) -> int:
        """Return the lines that came late to a page."""
        return sum(int(self._asked(page, "missed")) for page in self._pages[: self._shown])

    def _asked(self, page: Any, name: str) -> Any:
        return page.evaluate(f"document.documentElement.dataset.{name} ?? 0")

    def keep(self, folder: Path) -> None:
        """Keep pictures of a desktop and of a tablet."""
        folder.mkdir(parents=True, exist_ok=True)
        page = self._pages[0]
        for name, width, height in (("desktop", 1280, 800), ("tablet", 768, 1024)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(400)
            page.screenshot(path=str(folder / f"view-{name}.png"))
        page.set_viewport_size({"width": 1280, "height": 800})


def _step_back() -> None:
    """Give every session of the browser the lowest share; needs root where the kernel groups by sessions."""
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and b"chromium" in (process / "cmdline").read_bytes():
                (process / "autogroup").write_text("19")


def _table(measured: list[Case], rate: float | None) -> list[str]:
    base = measured[0]
    rows = [
        f"**{'As fast as lines are taken' if rate is None else f'At {rate:g} lines/s'}**",
        "",
        "| | lines/s | throughput | processor ms a line | p50 ms | p99.9 ms | dropped | frames/s | lines missed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in measured:
        ratios = [
            100 * (one["lines_per_second"] / other["lines_per_second"] - 1)
            for one, other in zip(case.summaries, base.summaries, strict=True)
        ]
        spread = (
            f"{statistics.median(ratios):+.1f} % ({min(ratios):+.1f} … {max(ratios):+.1f})" if case is not base else "0"
        )
        late = [one["latency_ms"] for one in case.summaries]
        frames = f"{min(case.frames):.0f} … {max(case.frames):.0f}" if case.frames else "–"
        looked = str(case.missed) if case.pages or case.clients else "–"
        rows.append(
            f"| {case.name} | {_median(case, 'lines_per_second'):.0f} | {spread} "
            f"| {_median(case, 'processor_ms_a_line'):.3f} | {statistics.median(one['p50'] for one in late):.1f} "
            f"| {statistics.median(one['p999'] for one in late):.1f} | {sum(one['dropped'] for one in case.summaries)} "
            f"| {frames} | {looked} |"
        )
    return [*rows, ""]


def _median(case: Case, key: str) -> float:
    return statistics.median(one[key] for one in case.summaries)


def _offer(folder: Path) -> None:
    """Time the loop's part of the feed, with a product of matrices before each block as an engine's memory traffic."""
    from hyperline.runtime.blocks import Block
    from hyperline.runtime.engines import Outputs
    from hyperline.runtime.feed import open_feed
    from hyperline.runtime.quicklook import Quicklook

    bundle = made_up_bundle(folder, _BANDS, _CLASSES)
    card, golden = bundle.card, bundle.golden()
    shape = (card.block_lines, _SAMPLES)
    block = Block(np.random.default_rng(0).random((*shape, _BANDS), np.float32), np.ones(shape, bool), shape[0])
    outputs = Outputs(np.ones(shape, np.uint8), np.ones(shape, np.float32), np.zeros((*shape, 1), np.float32))
    quicklook = Quicklook(card, golden, _SAMPLES)
    traffic = np.zeros(24 << 20, np.uint8)
    print(f"{_SAMPLES} samples × {_BANDS} bands, blocks of {shape[0]} lines; {processor()}")
    for what, spectra in (("with spectra", 64 << 20), ("without spectra", 0)):
        feed = open_feed(folder, {}, samples=_SAMPLES, bands=_BANDS, block_lines=shape[0], spectra_bytes=spectra)
        assert feed is not None
        took = np.zeros((2, 1000))
        for number in range(took.shape[1]):
            traffic += 1
            block.lines[:] = block.lines  # the assembler has just written it
            start = time.perf_counter()
            colours = quicklook.of(block)
            between = time.perf_counter()
            feed.offer(number * shape[0], block, colours, outputs)
            took[:, number] = between - start, time.perf_counter() - between
        feed.close()
        for name, seconds in zip(("colours", f"feed {what}"), took, strict=True):
            p50, p99 = np.percentile(seconds, (50, 99)) * 1e6
            print(f"{name:<24} us a block: p50 {p50:.0f}, p99 {p99:.0f}")


if __name__ == "__main__":
    main()
