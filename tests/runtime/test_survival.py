"""Power cuts, killed processes and disks that fail: what is readable, what goes on, and what is counted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hyperline.bundle import Bundle
from hyperline.errors import HyperlineError, InputError
from hyperline.runtime import writer as writer_module
from hyperline.runtime.checkpoint import SLOTS, Checkpoint, Checkpoints, read_checkpoints
from hyperline.runtime.flight import LoopOptions
from hyperline.runtime.records import IMAGES, RECORDS, SIZE, Part, Record, RecordLog, read_records
from hyperline.runtime.sinks.envi import repair_maps
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip
from hyperline.scenes import Scene
from hyperline.sensor import SensorCorrection

# All that has to come out the same, whatever happens on the way.
MAPS = (*(f"{name}.img" for name in IMAGES), *(f"{name}.hdr" for name in IMAGES))
PARTS = tuple(Part(size, size + 1) for size in (10, 40, 10, 30, 48))
# A run that is killed again and again: HYPERLINE_KILLS=1000 pytest -rP tests/runtime/test_survival.py -k killed
KILLS = int(os.environ.get("HYPERLINE_KILLS", "12"))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in MAPS}


@pytest.fixture
def long_scene(tiny) -> Scene:
    cube = tiny.cube(402, 13, 3)
    return Scene("field", cube, labels=np.random.default_rng(1).integers(0, 5, (402, 13)).astype(np.uint8), nodata=-1.0)


@pytest.fixture
def whole(bundle: Bundle, long_scene: Scene, tmp_path: Path) -> tuple[dict[str, bytes], object]:
    summary = run_strip(bundle, SceneSource(long_scene), tmp_path / "whole", threads=1)
    return contents(tmp_path / "whole"), summary


FLIER = """
import sys
from pathlib import Path
import numpy as np
from hyperline.bundle import Bundle
from hyperline.runtime.flight import LoopOptions
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip
from hyperline.scenes import Scene
from hyperline.sensor import SensorCorrection
bundle, scene, out, resume = sys.argv[1:]
held = np.load(scene)
source = SceneSource(Scene("field", held["cube"], labels=held["labels"], nodata=-1.0), rate=2000.0)
print("ready", flush=True)
options = LoopOptions(policy="block")  # paced, so that there is time to be killed in, and no line is dropped
run_strip(Bundle.open(bundle), source, Path(out), threads=1, resume=resume == "resume", options=options)
"""


def test_a_strip_killed_at_any_moment_resumes_to_the_same_bytes(bundle, long_scene, whole, tmp_path) -> None:
    scene_file, out = tmp_path / "scene.npz", tmp_path / "run"
    np.savez(scene_file, cube=long_scene.cube, labels=long_scene.labels)
    moments, kills, resume = random.Random(0), 0, False
    counts = dict.fromkeys(("kills", "before a first checkpoint", "of a resumed run", "after the strip had ended"), 0)
    recomputed = 0  # most lines that a resumed run had to compute again
    while kills < KILLS:
        arguments = [bundle.path, scene_file, out, "resume" if resume else "new"]
        child = subprocess.Popen([sys.executable, "-c", FLIER, *map(str, arguments)], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        time.sleep(moments.uniform(0.0, 0.3))
        finished = child.poll() is not None
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        kills += 1
        held = read_checkpoints(out) if out.exists() else []
        if held:
            lines = held[0][1].facts["lines"]
            header = (out / "classes.hdr").read_text()
            promised = int(header.splitlines()[1].partition("=")[2])
            assert (out / "classes.img").stat().st_size >= promised * 13  # readable as it lies there
            believed = repair_maps(out)
            assert (out / "experts.img").stat().st_size == 48 * believed.records == 48 * -(-believed.lines // 4)
            recomputed = max(recomputed, believed.lines - lines)
            assert lines <= believed.lines <= lines + 4  # at most the block in flight is computed again
            assert (out / "classes.img").read_bytes() == whole[0]["classes.img"][: believed.lines * 13]
        counts["kills"] += 1
        counts["of a resumed run"] += resume
        counts["before a first checkpoint"] += not held
        counts["after the strip had ended"] += finished
        resume = bool(held)
        if finished:
            assert contents(out) == whole[0]
            for path in out.iterdir():
                path.unlink()
            resume = False
        elif not resume and out.exists():
            for path in out.iterdir():
                path.unlink()
    summary = run_strip(bundle, SceneSource(long_scene), out, threads=1, resume=resume, overwrite=not resume)
    print(", ".join(f"{count} {what}" for what, count in counts.items()), f"; at most {recomputed} lines written twice")
    assert contents(out) == whole[0]
    assert summary.accuracy == whole[1].accuracy
    assert (summary.received, summary.classified, summary.lines) == (402, 402, 402)


@pytest.mark.parametrize("seed", range(20))
def test_after_a_power_cut_what_was_not_synced_may_be_gone_or_torn(
    bundle, long_scene, whole, tmp_path, monkeypatch, seed
) -> None:
    """Files as a disk may leave them: every byte written since its file's last fsync is there, missing or torn."""
    moments = random.Random(seed)
    synced: dict[str, bytes] = {}
    real = os.fsync

    def fsync(file: int) -> None:
        path = Path(f"/proc/self/fd/{file}").readlink()
        if path.parent == tmp_path / "run" and path.is_file():
            synced[path.name] = path.read_bytes()
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(writer_module, "_SYNC_SECONDS", 0.01)
    out, at = tmp_path / "run", moments.randint(30, 90)

    class PowerCut(BaseException):
        pass

    def cut(taken: int) -> None:
        if taken >= 4 * at:
            raise PowerCut

    monkeypatch.setattr(writer_module.Writer, "close", lambda self: None)  # nothing is put in order
    with pytest.raises(PowerCut):
        run_strip(
            bundle,
            SceneSource(long_scene, rate=3000.0),
            out,
            threads=1,
            on_progress=cut,
            options=LoopOptions(policy="block"),
        )
    for name in (*MAPS, RECORDS, *SLOTS):
        now, then = (out / name).read_bytes(), synced.get(name, b"")
        page = 512
        data = bytearray(now)
        for first in range(0, len(now), page):
            choice = moments.choice(("kept", "old", "torn"))
            old = then[first : first + page].ljust(min(page, len(now) - first), b"\0")
            if choice == "old":
                data[first : first + page] = old
            elif choice == "torn":
                half = len(old) // 2
                data[first : first + half] = old[:half]
        shorter = moments.choice((len(now), max(len(then), 1), moments.randint(len(then), max(len(now), len(then)))))
        (out / name).write_bytes(bytes(data[:shorter]))
    monkeypatch.undo()
    summary = run_strip(bundle, SceneSource(long_scene), out, threads=1, resume=True)
    assert contents(out) == whole[0]
    assert summary.resumed and summary.lines == 402


def test_an_interrupted_strip_goes_on(bundle, long_scene, whole, tmp_path) -> None:
    class Interrupted(SceneSource):
        def __iter__(self):
            for line in super().__iter__():
                if line.index == 101:
                    raise HyperlineError("the cable fell off")
                yield line

    with pytest.raises(HyperlineError, match="cable"):
        run_strip(bundle, Interrupted(long_scene), tmp_path, threads=1)
    assert json.loads((tmp_path / "summary.json").read_text())["lines"] == 100
    summary = run_strip(bundle, SceneSource(long_scene), tmp_path, threads=1, resume=True)
    assert contents(tmp_path) == whole[0] and summary.accuracy == whole[1].accuracy


def test_only_the_same_strip_goes_on(tiny, bundle, long_scene, tmp_path) -> None:
    with pytest.raises(InputError, match="holds no run that can be resumed"):
        run_strip(bundle, SceneSource(long_scene), tmp_path / "new", threads=1, resume=True)
    run_strip(bundle, SceneSource(replace(long_scene, cube=long_scene.cube[:20], labels=None)), tmp_path, threads=1)
    narrow = replace(long_scene, cube=long_scene.cube[:, :9], labels=None)
    with pytest.raises(InputError, match="samples 13, not 9"):
        run_strip(bundle, SceneSource(narrow), tmp_path, threads=1, resume=True)


@pytest.mark.parametrize(("name", "line_bytes"), [("confidence", 52), ("uncertainty", 13), ("quicklook", 39)])
def test_repair_keeps_what_is_whole(bundle, long_scene, whole, tmp_path, name, line_bytes) -> None:
    run_strip(bundle, SceneSource(long_scene), tmp_path, threads=1)
    assert (repair_maps(tmp_path).lines, repair_maps(tmp_path).removed) == (402, 0)
    image = bytearray((tmp_path / f"{name}.img").read_bytes())
    image[line_bytes * 201] ^= 1  # in the block of lines 200 to 203
    (tmp_path / f"{name}.img").write_bytes(image)
    repaired = repair_maps(tmp_path)
    assert (repaired.lines, repaired.removed, repaired.next_index) == (200, 202, 200)
    for map_name, width in {"classes": 13, "confidence": 52, "uncertainty": 13, "quicklook": 39}.items():
        assert (tmp_path / f"{map_name}.img").read_bytes() == whole[0][f"{map_name}.img"][: 200 * width]
        assert "lines =         200" in (tmp_path / f"{map_name}.hdr").read_text()
    assert (tmp_path / "experts.img").read_bytes() == whole[0]["experts.img"][: 50 * 48]
    assert "lines =          50" in (tmp_path / "experts.hdr").read_text()
    assert len(list(read_records(tmp_path / RECORDS))) == 50
    with pytest.raises(InputError, match=r"no blocks\.log"):
        repair_maps(tmp_path.parent)


def test_a_damaged_weight_of_an_expert_cuts_back_to_its_block(bundle, long_scene, whole, tmp_path) -> None:
    run_strip(bundle, SceneSource(long_scene), tmp_path, threads=1)
    image = bytearray((tmp_path / "experts.img").read_bytes())
    image[48 * 30 + 5] ^= 1
    (tmp_path / "experts.img").write_bytes(image)
    assert (repair_maps(tmp_path).lines, repair_maps(tmp_path).records) == (120, 30)
    summary = run_strip(bundle, SceneSource(long_scene), tmp_path, threads=1, overwrite=True)
    assert contents(tmp_path) == whole[0] and summary.lines == 402


def test_where_an_image_is_gone_the_others_are_left_alone(bundle, long_scene, whole, tmp_path) -> None:
    run_strip(bundle, SceneSource(long_scene), tmp_path, threads=1)
    (tmp_path / "uncertainty.img").unlink()
    with pytest.raises(HyperlineError, match=r"uncertainty\.img cannot be written: No such file"):
        repair_maps(tmp_path)
    assert (tmp_path / "classes.img").read_bytes() == whole[0]["classes.img"]


def test_a_run_of_an_earlier_version_is_refused_and_left_alone(bundle, long_scene, whole, tmp_path) -> None:
    run_strip(bundle, SceneSource(long_scene), tmp_path, threads=1)
    (tmp_path / RECORDS).write_bytes(b"HLB1" + bytes(48))
    for attempt in (
        lambda: repair_maps(tmp_path),
        lambda: run_strip(bundle, SceneSource(long_scene), tmp_path, threads=1, resume=True),
    ):
        with pytest.raises(InputError, match=r"blocks\.log was written by an earlier version .* --overwrite"):
            attempt()
    assert contents(tmp_path) == whole[0]


def test_a_run_of_a_model_without_uncertainty_and_experts_leaves_no_images_of_them_and_resumes(
    tiny, long_scene, whole, tmp_path
) -> None:
    bundle = tiny.write_bundle(tmp_path / "early.hlb", 4, tiny.model(4, early=True))
    out = tmp_path / "run"

    def stop(taken: int) -> None:
        if taken >= 200:
            raise HyperlineError("the power went away")

    with pytest.raises(HyperlineError, match="power"):
        run_strip(bundle, SceneSource(long_scene), out, threads=1, on_progress=stop)
    run_strip(bundle, SceneSource(long_scene), out, threads=1, resume=True)
    assert {path.stem for path in out.glob("*.img")} == {"classes", "confidence", "quicklook"}
    for name in ("classes.img", "confidence.img", "quicklook.img"):
        assert (out / name).read_bytes() == whole[0][name]
    assert (repair_maps(out).lines, repair_maps(out).removed) == (402, 0)


@pytest.mark.parametrize("position", [0, 3, 20, 60, SIZE - 1])
def test_a_damaged_record_is_none(position) -> None:
    record = Record(8, 8, 16, PARTS, 3, -4, Record.RESET)
    data = bytearray(record.pack())
    assert Record.unpack(bytes(data)) == record
    data[position] ^= 0x10
    assert Record.unpack(bytes(data)) is None


def test_the_synced_slot_is_left_alone(tmp_path) -> None:
    slots = Checkpoints(tmp_path)
    for serial in range(1, 30):
        slots.write(Checkpoint(serial, {"lines": serial}, np.full(100, serial, np.float32)))
        if serial == 7:
            slots.sync()
        serials = [one.serial for _, one in read_checkpoints(tmp_path)]
        assert serials[0] == serial and len(serials) == min(serial, 3)
        if serial >= 7:
            assert 7 in serials
    (tmp_path / SLOTS[read_checkpoints(tmp_path)[0][0]]).write_bytes(b"torn")
    assert [one.serial for _, one in read_checkpoints(tmp_path)] == [28, 7]
    slots.close()


class FailingDisk:
    """Stands in for ``os.pwrite``: a disk that takes nothing while ``full``."""

    def __init__(self) -> None:
        self.full = False
        self.real = os.pwrite

    def __call__(self, file: int, data: bytes, offset: int) -> int:
        if self.full:
            raise OSError(28, os.strerror(28))
        return self.real(file, data, offset)


def test_a_full_disk_does_not_hold_up_the_loop_and_is_made_good(tiny, bundle, long_scene, whole, tmp_path, monkeypatch):
    disk = FailingDisk()
    monkeypatch.setattr(os, "pwrite", disk)

    class Watched(SceneSource):
        def __iter__(self):
            for line in super().__iter__():
                disk.full = 100 <= line.index < 200
                yield line

    options = LoopOptions(ring_lines=402)
    summary = run_strip(bundle, Watched(long_scene, rate=400.0), tmp_path, threads=1, options=options)
    assert contents(tmp_path) == whole[0]
    assert (summary.outages, summary.unwritten, summary.dropped) == (1, 0, 0)


def test_a_block_whose_record_the_disk_did_not_take_stands_in_the_maps_once(
    bundle, long_scene, whole, tmp_path, monkeypatch
) -> None:
    append, failures = RecordLog.append, iter([False, True, True, False, True])  # two outages, the first one longer

    def fail(self, record):
        if next(failures, False):
            raise HyperlineError("the disk is full")
        append(self, record)

    monkeypatch.setattr(RecordLog, "append", fail)
    options = LoopOptions(ring_lines=402)
    summary = run_strip(bundle, SceneSource(long_scene, rate=400.0), tmp_path, threads=1, options=options)
    assert contents(tmp_path) == whole[0]
    assert len(list(read_records(tmp_path / RECORDS))) == 101
    assert (summary.outages, summary.unwritten) == (2, 0)


def test_a_disk_that_stays_full_leaves_a_hole_that_is_counted(tiny, bundle, long_scene, whole, tmp_path, monkeypatch):
    disk = FailingDisk()
    monkeypatch.setattr(os, "pwrite", disk)

    class Watched(SceneSource):
        def __iter__(self):
            for line in super().__iter__():
                disk.full = 100 <= line.index < 300
                yield line

    options = LoopOptions(result_blocks=4, ring_lines=402)
    summary = run_strip(bundle, Watched(long_scene, rate=400.0), tmp_path, threads=1, options=options)
    assert summary.received == summary.classified == summary.lines == 402
    assert summary.unwritten > 100 and summary.outages == 1
    labels = np.fromfile(tmp_path / "classes.img", np.uint8).reshape(402, 13)
    expected = np.frombuffer(whole[0]["classes.img"], np.uint8).reshape(402, 13)
    hole = ~labels.any(axis=1) & expected.any(axis=1)
    assert hole.sum() == summary.unwritten
    np.testing.assert_array_equal(labels[~hole], expected[~hole])
    flags = [record.flags for record in read_records(tmp_path / RECORDS)]
    assert flags.count(Record.UNWRITTEN) == summary.unwritten / 4


@pytest.mark.parametrize(
    "change",
    [
        {"counters": []},
        {"counters": {"received": "many"}},
        {"counters": {"received": 1e400}},
        {"counters": {"received": -1}},
        {"confusion": [[1]]},
        {"confusion": [[1, 2], [3]]},
        {"confusion": [[-1] * 5] * 4},
        {"confusion": "none"},
        {"lines": None},
        {"lines": [40]},
        {"next_index": -1},
        {"next_index": 2**63},
        {"lines": ...},
        {"confusion": ...},
        {"state": 3},
    ],
)
def test_checkpoints_of_which_no_flight_can_go_on_are_refused(bundle, long_scene, tmp_path, change) -> None:
    run_strip(bundle, SceneSource(long_scene), tmp_path, threads=1)
    before = contents(tmp_path)
    held = [checkpoint for _, checkpoint in read_checkpoints(tmp_path)]
    slots = Checkpoints(tmp_path)
    for checkpoint in held:
        facts = {name: value for name, value in (checkpoint.facts | change).items() if value is not ...}
        state = checkpoint.state[: facts.pop("state", None)]
        slots.write(replace(checkpoint, facts=facts, state=state))
    slots.close()
    with pytest.raises(InputError, match="no checkpoint of it holds what a flight goes on from"):
        run_strip(bundle, SceneSource(long_scene), tmp_path, threads=1, resume=True)
    assert contents(tmp_path) == before


def test_a_strip_of_binned_samples_resumes(bundle, tiny, tmp_path) -> None:
    scene = Scene("field", tiny.cube(22, 26), wavelengths_nm=np.array(tiny.card().wavelengths_nm))
    correction = SensorCorrection(26, tiny.bands, bin_samples=2)
    run_strip(bundle, SceneSource(scene), tmp_path, threads=1, correction=correction)
    before = contents(tmp_path)
    summary = run_strip(bundle, SceneSource(scene), tmp_path, threads=1, correction=correction, resume=True)
    assert summary.resumed
    assert contents(tmp_path) == before
