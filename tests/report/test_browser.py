"""The report in a real browser: from a file, without a network, with its script and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperline.report import read_inputs, write_report


class Opened:
    """A report in a page, and all that the page asked for or complained of."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())
        self.page.wait_for_load_state("networkidle")


@pytest.fixture
def report(strips, tmp_path, bench) -> Path:
    np.save(tmp_path / "truth.npy", np.ones((40, 24), np.uint8))
    folder = strips.make()
    labels = np.tile(np.repeat(np.arange(4, dtype=np.uint8), 6), (40, 1))
    strips.write_classes(folder, labels)
    write_report(read_inputs(folder, truth=str(tmp_path / "truth.npy")), tmp_path / "report.html")
    return tmp_path / "report.html"


@pytest.mark.parametrize("options", [{}, {"java_script_enabled": False}, {"color_scheme": "dark"}])
def test_the_report_asks_the_network_for_nothing_and_complains_of_nothing(browser, report, options) -> None:
    opened = Opened(browser, report, **options)
    assert [url for url in opened.requests if not url.startswith("data:")] == [report.as_uri()]
    assert opened.complaints == []
    shown = opened.page.locator("main img")
    assert shown.count() == 5 + 3
    if options.get("java_script_enabled", True):
        assert all(shown.evaluate_all("images => images.map(image => image.naturalWidth > 0)"))


def test_the_policy_stops_what_a_hostile_name_would_do(browser, report) -> None:
    hostile = report.with_name("hostile.html")
    text = report.read_text()
    hostile.write_text(
        text.replace("<main", "<script>document.title = 'taken'</script><img src=https://x.invalid/y><main", 1)
    )
    opened = Opened(browser, hostile)
    assert opened.page.title() != "taken"
    assert len(opened.complaints) >= 2 and all("Content Security Policy" in one for one in opened.complaints)


@pytest.mark.parametrize("width", [1280, 1024, 768])
def test_the_page_is_as_wide_as_the_window(browser, report, width) -> None:
    opened = Opened(browser, report, viewport={"width": width, "height": 900})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_pointing_at_a_map_reads_all_maps_there(browser, report) -> None:
    page = Opened(browser, report).page
    image = page.locator("img[data-key=classes]")
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 13.5 / 24, box["y"] + box["height"] * 20.5 / 40)
    words = page.locator("#readout").text_content()
    assert words.startswith("line 20, sample 13 · class woods · truth corn · confidence 0.")
    assert page.locator(".legend tr.here").text_content().strip().startswith("2 woods")


def test_arrow_keys_read_the_maps_too(browser, report) -> None:
    page = Opened(browser, report).page
    page.locator(".frame").nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#readout").text_content().startswith("line 20, sample 13 · class woods")
    for _ in range(30):
        page.keyboard.press("ArrowUp")
    assert page.locator("#readout").text_content().startswith("line 0, sample 13")


def test_zoom_enlarges_every_map_and_keeps_them_at_one_place(browser, report) -> None:
    page = Opened(browser, report).page
    page.locator("#zoom-in").click()
    page.locator("#zoom-in").click()
    assert page.locator("#zoom").text_content() == "4×"
    page.wait_for_timeout(300)  # zooming scrolls every map to its middle, and each tells the others
    page.locator(".frame").first.evaluate("frame => { frame.scrollLeft = 77; frame.scrollTop = 55; }")
    page.wait_for_timeout(300)
    places = page.locator(".frame").evaluate_all("frames => frames.map(frame => [frame.scrollLeft, frame.scrollTop])")
    assert places == [[77, 55]] * 5
