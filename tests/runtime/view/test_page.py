"""The page in Chromium, beside a flight at a sensor's rate."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperline.pictures import class_colours
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip

# Functions for the page: reads one column of both pictures; does so as they scroll; finds text that is too faint.
READ, FAINT = (Path(__file__).with_name(name).read_text().rstrip().rstrip(";") for name in ("read.js", "faint.js"))
RECORD = f"""column => {{
    const read = {READ};
    window.recorded = [];
    let last = -Infinity;
    requestAnimationFrame(function look() {{ // behind the page's own frame, so that numbers and picture agree
        const {{bottom, rows}} = document.getElementById("waterfall").dataset;
        if (bottom - last >= rows / 3) {{ recorded.push(read(column)); last = Number(bottom); }}
        requestAnimationFrame(look);
    }});
}}"""
BACKGROUND = [0x23, 0x29, 0x2F]  # of lines that the page does not have


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page on which nothing may go wrong, and which may ask nobody but its server."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: faults.append(request.url) if "127.0.0.1" not in request.url else None)
    yield page
    context.close()
    # A server that went away is the browser's to say.
    assert not [fault for fault in faults if not fault.startswith("WebSocket connection to")]


def until(page: Any, condition: str, seconds: float = 30) -> None:
    """Wait; Playwright's own way evaluates a string in the page, which the page forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def keep(page: Any, name: str) -> None:
    """Keep a screenshot where CI looks for artefacts."""
    folder = os.environ.get("HYPERLINE_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.fixture
def flown(bundle, tmp_path: Path, numbered: Any) -> Path:
    from hyperline.scenes import Scene

    scene = Scene("field", numbered.make(512, 64), wavelengths_nm=np.array(bundle.card.wavelengths_nm))
    out = tmp_path / "flown"
    run_strip(bundle, SceneSource(scene, repeat=6), out, threads=1)
    name = "a class of a very long name indeed, as people give them to classes of theirs"
    (out / "events.jsonl").write_text(json.dumps({"name": name, "pixels": 12345, "lines": [2, 40], "samples": [3, 9]}))
    summary = json.loads((out / "summary.json").read_text())
    link = {"state": "down", "sent": 12, "queued": 1024, "dropped": 3, "error": "refused"}
    summary["links"] = {"links": {"mqtts://broker.of.the.ground.station.example:8883/aircraft/one/strips": link}}
    (out / "summary.json").write_text(json.dumps(summary))
    return out


def settled(page: Any, lines: int) -> None:
    """Wait until the page shows the end of its strip."""
    until(page, f"Number(document.getElementById('waterfall').dataset.bottom) === {lines}")
    until(page, "document.getElementById('state').dataset.state === 'ended'")
    page.wait_for_timeout(300)


@pytest.mark.alone
def test_at_330_lines_a_second_no_line_is_missed_in_the_picture(
    fly: Callable[..., Any], view: Callable[..., Any], page: Any, numbered: Any
) -> None:
    flight = fly(samples=1024, seconds=14.0)
    page.goto(view(flight.folder).url)
    until(page, "Number(document.getElementById('waterfall').dataset.bottom) > 0")
    page.evaluate(RECORD, 5)
    rates = []
    while page.evaluate("document.getElementById('state').dataset.state") != "ended":
        rates.append(float(page.evaluate("document.documentElement.dataset.framesPerSecond || 0")))
        if len(rates) == 5:
            keep(page, "flight")
        page.wait_for_timeout(700)
    summary = flight.land()
    settled(page, summary["lines"])
    assert summary["received"] == summary["classified"] == 4608
    assert summary["dropped"] == 0
    final = page.evaluate(READ, 5)
    assert final["bottom"] == summary["received"], "the last line is in the picture"
    seen: dict[int, int] = {}  # line -> the number that its row says
    rows: dict[int, list[int]] = {}  # line -> colour of its row on the right
    for read in [*page.evaluate("recorded"), final]:
        top = read["bottom"] - read["rows"]
        for row, number in enumerate(numbered.number_of(np.array(read["left"])).tolist()):
            if top + row >= 0 and read["left"][row] != BACKGROUND:
                seen[top + row], rows[top + row] = number, read["right"][row]
    first = min(seen)
    assert first < 2500
    missed = [line for line in range(first, max(seen)) if line not in seen]
    assert not missed, missed[:10]
    wrong = {line: number for line, number in seen.items() if number != line % numbered.numbers}
    assert not wrong, f"{len(wrong)} of {len(seen)} lines say other numbers: {list(wrong.items())[:10]}"
    classes = np.memmap(flight.folder / "classes.img", np.uint8, "r").reshape(-1, 1024)
    colours = np.concatenate([np.zeros((1, 3), np.uint8), class_colours(4)])
    start, end = 5 * 1024 // final["columns"], 6 * 1024 // final["columns"]
    sample = (start + max(end, start + 1)) // 2
    wrong = [line for line, colour in rows.items() if colours[classes[line, sample]].tolist() != colour]
    assert not wrong, wrong[:10]
    steady = sorted(rates[3:-2])
    print("frames/s:", rates)
    assert steady[len(steady) // 2] >= 20, rates


def test_a_picture_of_a_new_size_is_drawn_before_it_is_shown(flown: Path, view: Callable[..., Any], page: Any) -> None:
    """Events, links and legends come during a flight and take their room from the picture, which is empty then."""
    page.goto(view(flown, "--rate", 20000).url)
    settled(page, 3072)
    page.evaluate(
        f"""() => {{
        const read = {READ};
        window.sizes = [read(2)];
        const stage = document.getElementById("stage");
        new ResizeObserver(() => sizes.push(read(2))).observe(stage); // the page's observer is asked before
        stage.style.height = `${{stage.clientHeight - 100}}px`;
        stage.style.flex = "none";
    }}"""
    )
    until(page, "window.sizes.length >= 2")
    before, after = page.evaluate("sizes")
    assert after["rows"] < before["rows"] and after["bottom"] == before["bottom"] == 3072
    assert after["left"] == before["left"][-after["rows"] :]


def test_keys_scroll_pause_and_move_the_cursor(flown: Path, view: Callable[..., Any], page: Any) -> None:
    page.goto(view(flown, "--rate", 20000).url)
    settled(page, 3072)
    shown = page.evaluate(READ, 2)
    assert shown["bottom"] == 3072
    page.keyboard.press("Home")
    page.wait_for_timeout(700)
    top = page.evaluate(READ, 2)
    assert top["bottom"] == top["rows"]
    classes = np.fromfile(flown / "classes.img", np.uint8).reshape(-1, 64)[: top["rows"]]
    colours = np.concatenate([np.zeros((1, 3), np.uint8), class_colours(4)])
    np.testing.assert_array_equal(top["right"], colours[classes[:, 2 * 64 // top["columns"]]])
    page.keyboard.press("PageDown")
    page.wait_for_timeout(400)
    assert page.evaluate(READ, 2)["bottom"] == 2 * top["rows"]
    page.keyboard.press("ArrowUp")
    page.wait_for_timeout(400)
    assert page.evaluate(READ, 2)["bottom"] == 2 * top["rows"] - 16
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    page.keyboard.press("End")
    page.wait_for_timeout(400)
    assert page.evaluate(READ, 2)["bottom"] == 3072
    assert page.get_attribute("#pause", "aria-pressed") == "false"
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    first = page.inner_text("#readout")
    page.keyboard.press("Shift+ArrowRight")
    second = page.inner_text("#readout")
    assert "sample 31" in first and "sample 32" in second and "confidence" in second
    page.keyboard.press("Escape")
    assert "Point at a pixel" in page.inner_text("#readout")
    assert page.get_attribute("#pause", "aria-pressed") == "true", "a pixel that is looked at stays"
    page.keyboard.press("Space")
    assert page.get_attribute("#pause", "aria-pressed") == "false"


def test_confidence_darkens_the_classes_and_nothing_else(flown: Path, view: Callable[..., Any], page: Any) -> None:
    page.goto(view(flown, "--rate", 20000).url)
    settled(page, 3072)
    before = page.evaluate(READ, 9)
    page.keyboard.press("c")
    page.wait_for_timeout(300)
    after = page.evaluate(READ, 9)
    assert after["left"] == before["left"]
    darker, bright = np.array(after["right"]), np.array(before["right"])
    assert (darker <= bright).all()
    confidence = np.fromfile(flown / "confidence.img", np.float32).reshape(-1, 64)[-before["rows"] :]
    classes = np.fromfile(flown / "classes.img", np.uint8).reshape(-1, 64)[-before["rows"] :]
    column = 9 * 64 // before["columns"]
    shade = 0.12 + 0.88 * np.floor(confidence[:, column] * 255) / 255
    expected = np.floor(np.concatenate([np.zeros((1, 3)), class_colours(4)])[classes[:, column]] * shade[:, None])
    assert np.abs(expected - darker).max() <= 1
    assert page.get_attribute("#confidence", "aria-pressed") == "true"


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1024, 768), (768, 1024)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_can_be_read_in_both_themes(
    flown: Path, view: Callable[..., Any], page: Any, width: int, height: int, scheme: str
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)
    page.goto(view(flown, "--rate", 20000).url)
    settled(page, 3072)
    keep(page, f"{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    faint = page.evaluate(FAINT)
    assert not faint, faint
    for name in ("#waterfall", "#legend", "#spectrum", "#strips", "#links", "#events", "#pause"):
        box = page.locator(name).bounding_box()
        assert box and box["width"] > 20 and box["x"] >= 0 and box["x"] + box["width"] <= width, name
    assert page.locator("#waterfall").bounding_box()["height"] >= 240


def test_a_connection_that_is_lost_comes_back(fly: Callable[..., Any], view: Callable[..., Any], page: Any) -> None:
    flight = fly(samples=64, seconds=14.0)
    first = view(flight.folder)
    page.goto(first.url)
    until(page, "document.getElementById('state').dataset.state === 'flying'")
    first.process.send_signal(signal.SIGINT)
    first.process.wait(30)
    until(page, "document.getElementById('state-text').textContent.includes('trying again')")
    view(flight.folder, "--port", first.port)
    until(page, "document.getElementById('state').dataset.state === 'flying'")
    flight.process.terminate()


def test_names_from_the_strip_are_text_and_nothing_else(
    bundle, tmp_path: Path, view: Callable[..., Any], page: Any, numbered: Any
) -> None:
    from hyperline.scenes import Scene

    hostile = "<img src=x onerror=alert(1)>"
    scene = Scene(hostile, numbered.make(64, 16), wavelengths_nm=np.array(bundle.card.wavelengths_nm))
    run_strip(bundle, SceneSource(scene), tmp_path / "flown", threads=1)
    (tmp_path / "flown/events.jsonl").write_text(f'{{"name":"{hostile}","lines":[1,2],"pixels":3}}\n')
    page.goto(view(tmp_path / "flown", "--rate", 20000).url)
    settled(page, 64)
    assert page.inner_text("#strip") == hostile
    assert hostile in page.inner_text("#events")
    assert page.locator("img").count() == 0
