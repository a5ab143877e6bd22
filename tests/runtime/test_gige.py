"""A camera's frames become lines, each id with one fate: on scripted cameras, and on Aravis' own over the loopback."""

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.bundle import Bundle
from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.sources import Line, camera, gige, open_source
from hyperline.runtime.sources.camera import Camera, CameraOptions, FoundCamera
from hyperline.runtime.sources.gige import GigeOptions, GigeSource, parse_gige
from hyperline.runtime.sources.pixels import FORMATS
from hyperline.runtime.strip import run_strip

# ------------------------------------------------------------------------------------------------- what --source says


def test_a_specification_says_it_all() -> None:
    assert parse_gige("gige") == GigeOptions()
    spec = (
        "gige:My%20camera?format=Mono12p&exposure=2500&gain=1.5&rate=330&packet=9000&buffers=64&resend=no"
        "&transposed=yes&lines=1000&Width=1024&Height=224&TriggerMode=Off"
    )
    features = (("Width", "1024"), ("Height", "224"), ("TriggerMode", "Off"))
    asked = CameraOptions("My camera", "Mono12p", 2500.0, 1.5, 330.0, 9000, 64, False, features)
    assert parse_gige(spec) == GigeOptions(asked, transposed=True, lines=1000)


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("gige:a?colour=red", "no option 'colour'"),
        ("gige?rate=fast", "rate must be a number of at least 0.001"),
        ("gige?rate=nan", "rate must be a number"),
        ("gige?gain=high", "gain must be a number, not 'high'"),
        ("gige?buffers=1", "buffers must be a number of at least 2"),
        ("gige?lines=1.5", "lines must be a whole number"),
        ("gige?resend=maybe", "resend must be yes or no"),
        ("gige?rate=1&rate=2", "given twice"),
        ("gige?rate", "expected gige"),
    ],
)
def test_a_specification_with_a_fault_is_refused_in_words(spec: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        parse_gige(spec)


def test_options_of_scenes_are_refused_with_the_cameras_own() -> None:
    with pytest.raises(InputError, match=r"gige:CAMERA\?rate=HZ"):
        open_source("gige", rate=10)


@pytest.mark.parametrize("missing", ["gi", "gi.repository.Aravis"])
def test_without_aravis_the_error_says_how_to_get_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    if missing != "gi":
        pytest.importorskip("gi")
    with pytest.raises(InputError, match=r"apt-get install gir1.2-aravis-0.8 .*pip install 'hyperline\[gige\]'"):
        open_source("gige", patience=0)


def test_a_camera_is_found_by_id_serial_or_as_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [FoundCamera("Maker-Model-7", "7", "10.0.0.7"), FoundCamera("Maker-Model-8", "8", "10.0.0.8")]
    monkeypatch.setattr(camera, "find_cameras", lambda: found)
    monkeypatch.setattr(camera, "_answers", lambda address: address == "10.1.2.3")
    assert camera._camera_id("10.1.2.3") == "10.1.2.3"
    with pytest.raises(HyperlineError, match=r"no camera answers at 10\.1\.2\.4"):
        camera._camera_id("10.1.2.4")
    assert camera._camera_id("8") == camera._camera_id("Maker-Model-8") == "Maker-Model-8"
    assert camera._camera_id("name of the user's") == "name of the user's"
    with pytest.raises(InputError, match=r"which camera\? There are Maker-Model-7 at 10.0.0.7, Maker-Model-8"):
        camera._camera_id(None)
    del found[0]
    assert camera._camera_id(None) == "Maker-Model-8"
    found.clear()
    with pytest.raises(HyperlineError, match="no camera answers on any network"):
        camera._camera_id(None)


# ------------------------------------------------------------------------------------------------- scripted cameras


@dataclass
class Frame:
    """What a buffer says. ``id`` 0: the packet that names the frame was lost."""

    id: int
    status: str = "success"
    width: int = 6

    def get_frame_id(self) -> int:
        return self.id

    def get_status(self) -> SimpleNamespace:
        return SimpleNamespace(value_nick=self.status)

    def get_image_width(self) -> int:
        return self.width

    def get_image_height(self) -> int:
        return 4

    def get_image_pixel_format(self) -> int:
        return 0x01080001

    def get_timestamp(self) -> int:
        return 1000 * self.id


class ScriptedCamera:
    """Gives the frames of a script; at its end, or at None in it, it is lost."""

    name, width, height, frame_bytes, packet_bytes, rate, buffers = "scripted", 6, 4, 24, 1500, 100.0, 2
    pixel_format, wide_ids, triggered = FORMATS[0x01080001], False, False

    def __init__(self, script: list[Frame | None]) -> None:
        self.script, self.lost, self.given, self.stopped = script, threading.Event(), 0, False

    def start(self, memory: np.ndarray) -> None:
        memory[:] = np.arange(24)

    def take(self, seconds: float) -> tuple[Frame, int] | None:
        frame = self.script.pop(0) if self.script else None
        if frame is None:
            self.lost.set()
            time.sleep(0.005)  # it was waited for
            return None
        self.given += 1
        return frame, 0

    def give_back(self, buffer: Frame) -> None:
        self.given -= 1

    def statistics(self) -> dict[str, int]:
        return {} if self.stopped else {"n_underruns": 1}

    def stop(self) -> None:
        self.stopped = True


def scripted(
    *scripts: list[Frame | None], options: GigeOptions | None = None, first: int = 0, **facts: object
) -> GigeSource:
    """A source of cameras that follow one upon the other, each lost at the end of its script; then there is none."""
    left = list(scripts)

    def next_camera(_: CameraOptions) -> ScriptedCamera:
        if not left:
            raise HyperlineError("no camera")
        one = ScriptedCamera(left.pop(0))
        vars(one).update(facts if len(left) < len(scripts) - 1 else {})  # of those that come back
        return one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gige, "Camera", next_camera)
        source = GigeSource(options or GigeOptions(), 0.0 if len(scripts) == 1 else 0.3)
        source = source.starting_at(first) if first else source
        lines = [Line(line.index, line.values.copy(), 0.0, None, line.timestamp_ns) for line in source]
    source.seen = lines  # type: ignore[attr-defined]
    return source


def balance(source: GigeSource) -> int:
    """What is left of the span when every fate is taken from it."""
    counters = source.counters
    kinds = [count for name, count in counters.items() if name.startswith("incomplete_")]
    assert sum(kinds) == counters["incomplete"]
    return counters["span"] - sum(counters[fate] for fate in ("lines", "incomplete", "missing", "unseen"))


@settings(deadline=None)
@given(
    st.integers(1, 65535),
    st.lists(st.sampled_from(["success", "missing-packets", "nameless", "timeout", "gone", "twice"]), max_size=60),
)
def test_every_frame_has_one_fate_and_every_line_its_place(first: int, fates: list[str]) -> None:
    fates = ["success", *fates, "success"]
    script: list[Frame | None] = []
    for number, fate in enumerate(fates):
        frame_id = (first - 1 + number) % 65535 + 1
        if fate == "nameless":
            script.append(Frame(0, "missing-packets"))
        elif fate == "twice":
            script += [Frame(frame_id), Frame(frame_id)]
        elif fate != "gone":
            script.append(Frame(frame_id, fate))
    source = scripted(script)
    assert [line.index for line in source.seen] == [
        number for number, fate in enumerate(fates) if fate in ("success", "twice")
    ]
    counters = source.counters
    assert counters["span"] == len(fates)
    assert counters["missing"] == fates.count("gone")
    assert counters["incomplete_timeout"] == fates.count("timeout")
    assert counters["incomplete_missing_packets"] == fates.count("missing-packets") + fates.count("nameless")
    assert counters["late"] == fates.count("twice")
    assert counters["stream_underruns"] == 1
    assert balance(source) == 0
    assert source.camera.given == 0, "a buffer was kept"
    assert not source.complete  # it was lost


@pytest.mark.parametrize("transposed", [False, True])
def test_columns_are_samples_and_rows_bands_or_the_other_way_round(transposed: bool) -> None:
    source = scripted([Frame(1)], options=GigeOptions(transposed=transposed))
    frame = np.arange(24).reshape(4, 6)
    assert (source.samples, source.bands) == ((4, 6) if transposed else (6, 4))
    np.testing.assert_array_equal(source.seen[0].values, frame if transposed else frame.T)
    assert source.seen[0].timestamp_ns == 1000


def test_a_frame_of_another_size_keeps_its_place_without_values() -> None:
    source = scripted([Frame(1), Frame(2, width=8), Frame(3)])
    assert [line.values.shape for line in source.seen] == [(6, 4), (0, 0), (6, 4)]
    assert source.counters["resized"] == 1


def test_the_strip_ends_where_its_lines_do() -> None:
    whole = scripted([Frame(number) for number in range(1, 9)], options=GigeOptions(lines=5))
    assert ([line.index for line in whole.seen], whole.complete) == ([0, 1, 2, 3, 4], True)
    torn = scripted([Frame(1), Frame(9), Frame(10)], options=GigeOptions(lines=5))
    assert ([line.index for line in torn.seen], torn.complete, torn.end) == ([0], True, 5)
    assert scripted([Frame(1)], options=GigeOptions(lines=5)).end is None
    assert (torn.counters["missing"], torn.counters["span"], balance(torn)) == (4, 5, 0)


def test_a_strip_that_is_resumed_goes_on_with_what_the_camera_sees_now() -> None:
    source = scripted([Frame(7), Frame(9), Frame(10)], options=GigeOptions(lines=104), first=100)
    assert [line.index for line in source.seen] == [100, 102, 103]
    assert (source.complete, source.counters["span"], balance(source)) == (True, 4, 0)


def test_a_camera_that_came_back_goes_on_behind_a_gap_as_long_as_the_time_was() -> None:
    source = scripted([Frame(40), Frame(41)], [Frame(1), Frame(2)])
    indices = [line.index for line in source.seen]
    assert indices[:2] == [0, 1]
    assert indices[3] == indices[2] + 1
    assert 0 <= source.counters["unseen"] == indices[2] - 2 < 40  # 100 frames/s
    assert source.counters["stream_underruns"] == 2
    assert (source.reconnections, balance(source)) == (1, 0)


def test_ids_that_begin_anew_without_a_word_are_no_late_frames() -> None:
    source = scripted([Frame(30_000), Frame(30_001), Frame(1), Frame(2)])
    assert [line.index for line in source.seen] == [0, 1, 2, 3]
    assert source.counters["late"] == 0


def test_a_camera_that_comes_back_with_other_frames_is_not_taken() -> None:
    source = scripted([Frame(1)], [Frame(2)], height=8)
    assert (len(source.seen), source.complete, source.reconnections) == (1, False, 0)


def test_a_camera_that_comes_back_and_stays_silent_is_given_up_when_patience_ends() -> None:
    source = scripted([Frame(1)], *[[] for _ in range(200)])
    assert (len(source.seen), source.complete, source.end) == (1, False, None)
    assert 0 < source.reconnections < 199


def test_a_triggered_camera_may_be_silent_and_must_say_its_rate(fake_camera: FakeCamera) -> None:
    fake_camera.start()
    source = open_source("gige:127.0.0.1?TriggerMode=On&rate=123", patience=0.1)
    assert isinstance(source, GigeSource)
    assert (source.camera.triggered, source.rate) == (True, 123)
    source._started = time.monotonic() - 60
    assert not source._is_lost()
    source.camera.stop()


def test_a_camera_none_of_whose_frames_is_whole_is_an_error() -> None:
    with pytest.raises(HyperlineError, match="none was whole; its packets of 1500 bytes are lost"):
        scripted([Frame(number, "missing-packets") for number in range(1, 10_000_000 // 100)] * 100)


# ------------------------------------------------------------------------------------------- Aravis' camera, for real

SMALL = "gige:127.0.0.1?Width=16&Height=5&rate=500"  # the tiny model has 5 bands


class FakeCamera:
    """``arv-fake-gv-camera-0.8``, a GigE Vision camera in a process. Its ids begin shortly before their wrap."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [self._program, "-i", "127.0.0.1", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not camera._answers("127.0.0.1"):
            assert self.process.poll() is None, "the camera did not start"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@pytest.fixture
def fake_camera() -> Iterator[FakeCamera]:
    program = shutil.which("arv-fake-gv-camera-0.8")
    if program is None:
        pytest.skip("no camera to fake: apt-get install aravis-tools")
    try:
        camera.aravis()
    except InputError as error:
        pytest.skip(str(error))
    with (Path(tempfile.gettempdir()) / "hyperline-gige.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # there is one port for cameras, and tests run side by side
        fake = FakeCamera(program)
        try:
            yield fake
        finally:
            fake.stop()


def test_frames_of_a_camera_become_lines_over_the_wrap_of_its_ids(fake_camera: FakeCamera) -> None:
    fake_camera.start()
    for pixels, step in (("Mono8", 1), ("Mono16", 256)):
        source = open_source(f"{SMALL}&lines=400&format={pixels}")
        assert isinstance(source, GigeSource)
        assert (source.samples, source.bands, source.rate) == (16, 5, 500.0)
        stamps, ramps = [], set()
        for number, line in enumerate(source):
            assert line.index == number
            stamps.append(line.timestamp_ns)
            ramps.add(int(np.diff(line.values.astype(int), axis=0)[0, 0]))
        assert len(stamps) == 400 and source.complete
        assert step in ramps, "the camera's ramp along its rows"
        assert np.all(np.diff(stamps) > 0) and 1e6 < np.mean(np.diff(stamps)) < 4e6  # ns, on a busy machine
        assert source.counters["lines"] == source.counters["span"] == 400
        assert source._last_id is not None and source._last_id < 65000, "the ids were to wrap"


def test_lost_packets_cost_their_frames_and_no_other(fake_camera: FakeCamera) -> None:
    fake_camera.start("-r", "20")  # of a thousand packets
    source = open_source(f"{SMALL}&lines=600&packet=576")
    assert isinstance(source, GigeSource)
    indices = [line.index for line in source]
    counters = source.counters
    assert indices == sorted(set(indices)) and len(indices) == counters["lines"] < 600
    assert counters["incomplete"] + counters["missing"] == 600 - len(indices)
    assert counters["incomplete_missing_packets"] > 0
    assert (counters["span"], balance(source)) == (600, 0)


def test_a_camera_that_dies_and_returns_goes_on_with_the_strip(fake_camera: FakeCamera) -> None:
    fake_camera.start()
    source = open_source(f"{SMALL}&lines=4000", patience=20)
    assert isinstance(source, GigeSource)
    last = 0
    for line in source:
        if source.reconnections:
            break
        last, heard = line.index, time.monotonic()
        if last == 100:
            fake_camera.stop()
            fake_camera.start()
    assert source.reconnections == 1
    assert abs(line.index - last - 500 * (time.monotonic() - heard)) < 50
    assert source.counters["unseen"] == line.index - last - 1 > 0
    assert balance(source) == 0


def test_a_camera_that_stays_away_ends_the_strip_when_patience_does(fake_camera: FakeCamera) -> None:
    fake_camera.start()
    source = open_source(SMALL, patience=1)
    for line in source:
        if line.index == 50:
            fake_camera.stop()
    assert isinstance(source, GigeSource)
    assert not source.complete and source.counters["lines"] >= 51


@pytest.mark.parametrize("lost", [False, True])
def test_closing_ends_a_wait_at_once(lost: bool, fake_camera: FakeCamera) -> None:
    fake_camera.start()
    source = open_source("gige:127.0.0.1?rate=0.2", patience=60)
    closed = []
    timer = threading.Timer(1.0, lambda: (closed.append(time.monotonic()), source.close()))
    for _ in source:
        if timer.ident is None:
            timer.start()
        if lost:
            fake_camera.stop()
            source.camera.lost.set()  # type: ignore[union-attr]
    assert time.monotonic() - closed[0] < 0.5 + 0.5 * lost


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ("Wdith=3", "no feature Wdith"),
        ("Width=5000", "does not take Width=5000: .*greater than allowed maximum '2048'"),
        ("TriggerMode=Perhaps", "it takes Off, On"),
        ("format=RGB8", "sends RGB8, not one of Mono8, .*of what it has: .*Mono16"),
        ("format=Mono77", "it has .*Mono8"),
        ("exposure=1", "does not take exposure=1; it takes 10 to"),
        ("rate=5000", "does not take rate=5000; it takes 0.1 to 1000"),
        ("TriggerMode=On", "cannot say how many frames a second come"),
    ],
)
def test_what_a_camera_cannot_do_is_said_before_the_flight(options: str, fault: str, fake_camera: FakeCamera) -> None:
    fake_camera.start()
    with pytest.raises(InputError, match=fault):
        open_source(f"gige:127.0.0.1?{options}", patience=5)


def test_a_camera_under_other_control_is_not_taken(fake_camera: FakeCamera) -> None:
    fake_camera.start()
    held = open_source("gige:127.0.0.1", patience=5)
    with pytest.raises(HyperlineError, match="controlled by another program"):
        open_source("gige:127.0.0.1", patience=0)
    held.camera.stop()  # type: ignore[union-attr]
    Camera(CameraOptions("127.0.0.1")).stop()


def test_the_map_of_a_camera_is_that_of_its_lines(
    fake_camera: FakeCamera, tiny, bundle: Bundle, tmp_path: Path
) -> None:
    class Kept(GigeSource):
        cube: list[np.ndarray]

        def __iter__(self) -> Iterator[Line]:
            self.cube = []
            for line in super().__iter__():
                self.cube.append(line.values.copy())
                yield line

    fake_camera.start()
    source = Kept(parse_gige("gige:127.0.0.1?Width=16&Height=5&rate=200&lines=50"), 5.0)
    summary = run_strip(bundle, source, tmp_path / "strip")
    assert (summary.received, summary.classified, summary.lines) == (50, 50, 50)
    assert summary.source_counters["span"] == 50
    labels, _ = tiny.expected_map(np.stack(source.cube), 4)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "strip/classes.img", np.uint8).reshape(50, 16), labels)


def run_command(bundle: Bundle, out: Path, spec: str) -> list[str]:
    main = "from hyperline.cli import main; main()"
    return [sys.executable, "-c", main, "run", str(bundle.path), "--source", spec, "--out", str(out), "--json"]


def wait_for_a_map(strip: Path, run: subprocess.Popen[str], lines: int = 1) -> None:
    image = strip / "classes.img"
    while run.poll() is None and not (image.exists() and image.stat().st_size >= 16 * lines):
        time.sleep(0.05)


def test_a_run_flies_a_camera_until_it_is_told_to_stop(fake_camera: FakeCamera, bundle: Bundle, tmp_path: Path) -> None:
    fake_camera.start("-r", "5")
    spec = "gige:127.0.0.1?Width=16&Height=5&rate=200"
    with subprocess.Popen(
        run_command(bundle, tmp_path / "strip", spec), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        wait_for_a_map(tmp_path / "strip", run, lines=80)  # a frame that was lost has a line there, too
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=30)
    assert run.returncode == 0, err
    summary = json.loads(out)
    counters = summary["source_counters"]
    assert summary["received"] == summary["classified"] + summary["dropped"] + summary["rejected"] == counters["lines"]
    assert summary["received"] >= 60
    assert summary["counters"]["lost"] <= counters["incomplete"] + counters["missing"]


def test_a_run_whose_camera_goes_away_keeps_what_came_and_fails(
    fake_camera: FakeCamera, bundle: Bundle, tmp_path: Path
) -> None:
    fake_camera.start()
    command = run_command(bundle, tmp_path / "strip", "gige:127.0.0.1?Width=16&Height=5&rate=200")
    with subprocess.Popen([*command, "--patience", "1"], stderr=subprocess.PIPE, text=True) as run:
        wait_for_a_map(tmp_path / "strip", run)
        fake_camera.stop()
        _, err = run.communicate(timeout=30)
    assert run.returncode == 1
    assert "the camera went away after" in err
    assert (tmp_path / "strip/classes.img").stat().st_size > 0
