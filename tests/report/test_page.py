"""The page: whole, closed to the world, and deaf to what strangers wrote into names."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.report import page as module
from hyperline.report import read_inputs, write_report

_VOID = {"meta", "img", "br", "hr", "input", "link"}
_HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></script>{{ 7 * 7 }}")


class Page(HTMLParser):
    """Reads a page strictly: every element is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:], self.getpos())
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def full_inputs(strips, tmp_path: Path, make_bundle, calibration, accuracy, bench, names=None):
    named = {"names": names} if names else {}
    strip = strips.make(**named, model=names[0] if names else "field", source=names[1] if names else "meadow",
                        failures=list(names or ()), source_counters=dict.fromkeys(names or (), 3))  # fmt: skip
    np.save(tmp_path / "truth.npy", np.ones((40, 24), np.uint8))
    (tmp_path / "run").mkdir()
    record = {
        "scene": {"name": (names or ["meadow"])[0]},
        "split": {"kind": "random", "labels_per_class": 15, "seed": 0, "warnings": list(names or ["few pixels"])},
        "streamed": {name: accuracy[name] for name in ("oa", "aa", "kappa", "per_class", "pixels")},
        "history": {(names or ["loss"])[0]: [3.0, 2.0, 1.0], "oa": [0.5]},
    }
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    if names:
        accuracy |= {"class_names": list(names), "scene": names[0], "model": names[1], "engine": names[2]}
        bench |= {"engine": names[0], "environment": {names[1]: {names[2]: names[0]}}}
        calibration["lines"]["scene"] = names[0]
    (tmp_path / "evaluation.json").write_text(json.dumps(accuracy))
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    bundle = make_bundle(**named, **{"calibration/int8.json": json.dumps(calibration).encode()})
    return read_inputs(
        strip,
        bundle=bundle,
        benches=[tmp_path / "bench.json"],
        evaluations=[tmp_path / "evaluation.json"],
        truth=str(tmp_path / "truth.npy"),
        training=tmp_path / "run",
    )


@pytest.fixture
def inputs(strips, tmp_path, make_bundle, calibration, accuracy, bench):
    return full_inputs(strips, tmp_path, make_bundle, calibration, accuracy, bench)


def test_a_report_of_everything_has_every_section_and_is_whole(inputs, tmp_path) -> None:
    written = write_report(inputs, tmp_path / "report.html", ["hyperline", "report", "a b"])
    assert not written.missing and len(written.sections) == 10
    text = (tmp_path / "report.html").read_text()
    assert len(text.encode()) == written.bytes
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for name in written.sections:
        assert name in ids
    assert {attributes["href"] for attributes in page.all("a")} <= {f"#{name}" for name in ids}
    assert "hyperline report 'a b'" in "".join(page.words)


def test_nothing_in_the_page_is_loaded_from_anywhere(inputs, tmp_path) -> None:
    write_report(inputs, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "audio", "video", "source")
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag  # the policy would refuse it
            if name in ("src", "srcset", "xlink:href", "data", "poster", "action"):
                assert tag == "img" and value is not None and value.startswith("data:image/png;base64,")
    assert "url(" not in text and "@import" not in text and "fetch(" not in text


def test_the_policy_knows_the_style_and_the_script_by_their_hashes(inputs, tmp_path) -> None:
    write_report(inputs, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    for tag in ("style", "script"):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy[1]
    assert policy[1].startswith("default-src &#39;none&#39;; img-src data:;") and "unsafe" not in policy[1]


def test_hostile_names_are_words_and_nothing_else(strips, tmp_path, make_bundle, calibration, accuracy, bench) -> None:
    inputs = full_inputs(strips, tmp_path, make_bundle, calibration, accuracy, bench, names=_HOSTILE)
    write_report(inputs, tmp_path / "report.html", ["hyperline", *_HOSTILE])
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert len(page.all("script")) == 1 and len(page.all("style")) == 1
    assert all(attributes["src"].startswith("data:") for attributes in page.all("img") if attributes["src"])
    words = "".join(page.words)
    for name in _HOSTILE:
        assert words.count(name) >= 5


def test_every_picture_and_chart_says_in_words_what_it_shows(inputs, tmp_path) -> None:
    write_report(inputs, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    assert page.all("img") and all(attributes.get("alt") for attributes in page.all("img"))
    for tag, attributes in page.elements:
        if tag == "svg" or "plot" in (attributes.get("class") or "").split():
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true", attributes
        if attributes.get("role") == "img":
            assert attributes.get("aria-label")
    for attributes in page.all("th"):
        assert attributes.get("scope") in ("row", "col")


def test_what_is_not_there_is_said_with_the_command_that_adds_it(strips, tmp_path) -> None:
    written = write_report(read_inputs(strips.make(only_maps_of_old=True)), tmp_path / "report.html")
    assert set(written.sections) == {"maps", "accounting", "latency"}
    words = "".join(Page((tmp_path / "report.html").read_text()).words)
    for command in ("hyperline bench FILE.hlb --json", "hyperline evaluate", "hyperline calibrate", "--training RUN"):
        assert command in words


def test_a_strip_in_flight_gives_a_report_of_its_maps(strips, tmp_path) -> None:
    folder = strips.make()
    for name in ("summary.json", "spectra.json"):
        (folder / name).unlink()
    with (folder / "classes.img").open("ab") as file:  # its maps grow one after the other
        file.write(bytes(8 * 24))
    header = (folder / "classes.hdr").read_text()
    (folder / "classes.hdr").write_text(header.replace("lines = 40", "lines = 48"))
    inputs = read_inputs(folder)
    assert inputs.strip is not None and inputs.strip.lines == 40
    written = write_report(inputs, tmp_path / "report.html")
    assert written.sections == ("maps", "experts")


@pytest.mark.parametrize("kind", ["bench", "evaluation", "training", "bundle"])
def test_each_input_alone_gives_a_report(kind, tmp_path, inputs, make_bundle) -> None:
    given = {
        "bench": {"benches": [tmp_path / "bench.json"]},
        "evaluation": {"evaluations": [tmp_path / "evaluation.json"]},
        "training": {"training": tmp_path / "run"},
        "bundle": {"bundle": make_bundle("alone.hlb")},
    }
    written = write_report(read_inputs(**given[kind]), tmp_path / "alone.html")
    assert written.sections
    Page((tmp_path / "alone.html").read_text())


def test_nothing_to_report_of_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="give a strip's folder, --bundle"):
        read_inputs()
    with pytest.raises(InputError, match="--truth is the truth of a strip"):
        read_inputs(bundle=tmp_path / "x.hlb", truth="indian-pines")


def test_a_folder_that_holds_no_strip_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"it has no classes\.hdr"):
        read_inputs(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        read_inputs(tmp_path / "gone")


def test_maps_that_contradict_each_other_are_refused(strips, make_bundle) -> None:
    folder = strips.make()
    strips.write_map(folder, "confidence", np.zeros((40, 23, 1), "<f4"))
    with pytest.raises(InputError, match=r"23 samples, where classes\.hdr has 24"):
        read_inputs(folder)
    strips.write_map(folder, "confidence", np.zeros((40, 24, 1), np.uint8))
    with pytest.raises(InputError, match="the confidence map of a strip has 1 of f4"):
        read_inputs(folder)
    (folder / "confidence.img").write_bytes(b"torn")
    strips.write_map(folder, "confidence", np.zeros((40, 24, 1), "<f4"))
    (folder / "confidence.img").write_bytes(b"torn")
    with pytest.raises(InputError, match="truncated"):
        read_inputs(folder)
    (folder / "confidence.hdr").unlink()
    strips.write_map(folder, "experts", np.zeros((41, 4, 3), "<f4"))
    with pytest.raises(InputError, match="for 41 blocks cannot be of a strip of 40 lines"):
        read_inputs(folder)
    header = (folder / "classes.hdr").read_text()
    (folder / "classes.hdr").write_text(re.sub(r"classes = 4\nclass names = .*", "classes = 1000000000000", header))
    with pytest.raises(InputError, match="999999999999 classes; a strip has 1 to 255"):
        read_inputs(folder)
    with pytest.raises(InputError, match="a report is of one model"):
        read_inputs(strips.make("other"), bundle=make_bundle(names=("corn", "woods")))


def test_a_failed_report_leaves_an_earlier_one_alone(strips, tmp_path, inputs, monkeypatch) -> None:
    out = tmp_path / "report.html"
    out.write_text("earlier")
    folder = strips.make("bad")
    labels = np.full((40, 24), 200, np.uint8)
    strips.write_classes(folder, labels)
    with pytest.raises(InputError, match="class 200"):
        write_report(read_inputs(folder), out)
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(Exception, match="more than 1000"):
        write_report(inputs, out)
    assert out.read_text() == "earlier"
    with pytest.raises(InputError, match=r"a report is an \.html file"):
        write_report(inputs, tmp_path / "strip" / "classes.img")
    with pytest.raises(InputError, match="its folder does not exist"):
        write_report(inputs, tmp_path / "no" / "report.html")
