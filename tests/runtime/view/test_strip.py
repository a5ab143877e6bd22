"""What the page is given: from a flight, from its maps, and from a folder that is replayed."""

import json
from pathlib import Path

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.runtime.feed import FeedReader
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip
from hyperline.runtime.view.census import Census
from hyperline.runtime.view.strip import LiveStrip, ReplayedStrip, find_live, open_strip
from hyperline.scenes import Scene


@pytest.fixture
def flown(bundle, scene, tmp_path: Path) -> Path:
    run_strip(bundle, SceneSource(scene, rate=1000.0), tmp_path / "out", threads=1)
    return tmp_path / "out"


def test_a_folder_is_replayed_at_its_rate_and_no_line_comes_early(flown: Path) -> None:
    now = [100.0]
    strip = ReplayedStrip(flown, 10.0, clock=lambda: now[0])
    assert strip.head == 0
    assert strip.status()["state"] == "replaying"
    now[0] += 0.55
    assert strip.head == 5
    assert strip.read(0, 100).count == 5
    now[0] += 60
    assert strip.head == 22
    assert strip.status()["state"] == "ended"
    lines = strip.read(3, 100)
    classes = np.fromfile(flown / "classes.img", np.uint8).reshape(22, 13)
    np.testing.assert_array_equal(lines.labels, classes[3:])
    assert strip.description["class_names"] == ["no class", "Corn", "Woods", "Soybean; clean", "Stone (steel)"]
    assert strip.spectrum(3, 3) is None
    strip.close()


def test_a_replay_goes_at_the_rate_of_the_flight(flown: Path) -> None:
    strip = ReplayedStrip(flown)
    assert strip.description["rate"] == 1000
    strip.close()


def test_what_was_recorded_beside_the_maps_is_shown_when_its_line_is(flown: Path) -> None:
    now = [0.0]
    (flown / "events.jsonl").write_text(
        '{"name":"Corn","lines":[2,4]}\n{"name":"Woods","lines":[8,12]}\n{"torn\n{"name":"NaN","lines":[1,1],"value":NaN}\n'
    )
    (flown / "spectra.json").write_text(
        json.dumps(
            {
                "wavelengths_nm": [1.0, 2.0],
                "classes": [{"id": 1, "pixels": 9, "mean": [3, 4]}, {"id": 2, "pixels": 0, "mean": [0, 0]}],
            }
        )
    )
    summary = json.loads((flown / "summary.json").read_text())
    point = {"lines_per_second": 10, "dropped": 0}
    summary["time_line"] = [
        {"second": 0.0, "latency_ms_max": 5.0, "waiting": 1, **point},
        {"second": 0.01, "latency_ms_max": 7.0, "waiting": 2, **point},
    ]
    (flown / "summary.json").write_text(json.dumps(summary))
    strip = ReplayedStrip(flown, 10.0, clock=lambda: now[0])
    assert strip.status()["events"] == []
    now[0] = 0.6
    assert [event["name"] for event in strip.status()["events"]] == ["Corn"]
    assert strip.status()["latency_ms"] == 5.0
    now[0] = 1.3
    assert [event["name"] for event in strip.status()["events"]] == ["Corn", "Woods"]
    assert (strip.status()["latency_ms"], strip.status()["waiting"]) == (7.0, 2)
    assert strip.description["class_spectra"] == {"1": [3.0, 4.0]}
    strip.close()


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("summary.json", "{", "summary.json cannot be read"),
        ("summary.json", "[]", "no JSON object"),
        ("spectra.json", '{"classes": [3]}', "no spectra"),
        ("classes.hdr", "hello", "not an ENVI header"),
    ],
)
def test_a_damaged_folder_is_refused_with_what_is_wrong_in_it(flown: Path, name: str, text: str, match: str) -> None:
    (flown / name).write_text(text)
    with pytest.raises(InputError, match=match):
        open_strip(flown)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to view"):
        open_strip(tmp_path)


def test_lines_that_the_feed_let_go_of_come_from_the_maps(bundle, tmp_path: Path, tiny) -> None:
    scene = Scene("field", tiny.cube(200, 13), wavelengths_nm=np.array(bundle.card.wavelengths_nm))
    found: list[LiveStrip] = []

    def look(taken: int) -> None:
        if taken == 2000:
            strip = find_live(tmp_path / "out")
            assert strip is not None
            found.append(strip)

    run_strip(bundle, SceneSource(scene, repeat=12), tmp_path / "out", threads=1, on_progress=look)
    strip = found[0]
    classes = np.fromfile(tmp_path / "out/classes.img", np.uint8).reshape(2400, 13)
    oldest = strip._reader.span[0]
    assert oldest == 2400 - 1024
    for first in (0, 700, oldest - 30, oldest, 2300):
        lines = strip.read(first, 100)
        assert lines.first == first and lines.count > 0
        np.testing.assert_array_equal(lines.labels, classes[first : first + lines.count])
    assert strip.over and strip.status()["state"] == "ended"
    strip.close()


def test_the_census_counts_every_line_once_whenever_it_begins(bundle, tmp_path: Path, tiny) -> None:
    scene = Scene("field", tiny.cube(200, 13), wavelengths_nm=np.array(bundle.card.wavelengths_nm))
    found: list[LiveStrip] = []

    def look(taken: int) -> None:
        if taken == 1600:
            strip = find_live(tmp_path / "out")
            assert strip is not None
            found.append(strip)

    run_strip(bundle, SceneSource(scene, repeat=12), tmp_path / "out", threads=1, on_progress=look)
    census = Census(found[0])
    while census.counted < 2400:
        census.advance(2400)
    classes = np.fromfile(tmp_path / "out/classes.img", np.uint8).reshape(2400, 13)
    report = census.report(5)
    assert report["whole"] == np.bincount(classes.ravel(), minlength=5).tolist()
    assert 1024 * 13 <= sum(report["recent"]) <= 2048 * 13
    assert FeedReader.find(tmp_path / "out") is None
