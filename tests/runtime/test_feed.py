"""The feed: what a reader gets is whole, or it gets nothing; and the flight never notices."""

import fcntl
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import Outputs
from hyperline.runtime.feed import FeedReader, FeedWriter, Layout, open_feed
from hyperline.runtime.feed import writer as writer_module
from hyperline.runtime.feed.layout import BEGUN, DONE, POINTER, STATUS_SEQUENCE
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip

SAMPLES, BANDS, BLOCK = 21, 5, 8


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /dev/shm, so that what is left behind can be seen."""
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setattr(writer_module, "SHARED", folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def make(folder: Path, **options: object) -> FeedWriter:
    sizes = {"samples": SAMPLES, "bands": BANDS, "block_lines": BLOCK}
    feed = open_feed(folder, {"source": "made-up"}, **{**sizes, **options})  # type: ignore[arg-type]
    assert feed is not None
    return feed


def values(line: int, shape: tuple[int, ...], most: int) -> np.ndarray:
    return np.random.default_rng(line).integers(0, most, shape)


def offer(feed: FeedWriter, first: int, count: int = BLOCK) -> None:
    """Offer lines that say, to who knows the seed, which they are; in padded blocks."""
    padded = SAMPLES + 3
    lines = np.zeros((BLOCK, padded, BANDS), np.float32)
    colours = np.zeros((BLOCK, SAMPLES, 3), np.uint8)
    labels, confidence = np.zeros((BLOCK, padded), np.uint8), np.zeros((BLOCK, padded), np.float32)
    for row in range(BLOCK):
        colours[row] = values(first + row, (SAMPLES, 3), 256)
        labels[row, :SAMPLES] = values(first + row, (SAMPLES,), 5)
        confidence[row] = ((first + row) % 100) / 100
        lines[row] = first + row + np.arange(padded)[:, None] / 64
    feed.offer(
        first,
        Block(lines, np.ones((BLOCK, padded), bool), count),
        colours,
        Outputs(labels, confidence, np.zeros((BLOCK, padded, 4), np.float32)),
    )


def check(reader: FeedReader, first: int, count: int) -> None:
    lines = reader.read(first, count)
    assert (lines.first, lines.count) == (first, count)
    for row in range(count):
        assert (lines.colours[row] == values(first + row, (SAMPLES, 3), 256)).all()
        assert (lines.labels[row] == values(first + row, (SAMPLES,), 5)).all()
        assert (lines.confidence[row] == int(np.float32(((first + row) % 100) / 100) * np.float32(255))).all()


def test_a_reader_gets_what_was_offered_however_the_ring_turns(folder: Path) -> None:
    feed, line = make(folder), 0
    reader = FeedReader.find(folder)
    assert reader is not None and reader.description["source"] == "made-up"
    ring = reader.layout.lines
    while line < 2 * ring + 100:
        count = BLOCK if line % 3 else BLOCK - 3  # blocks that end early put the ring's end within a block
        offer(feed, line, count)
        line += count
        check(reader, max(0, line - 20), min(line, 20))
    assert reader.span == (line - ring, line)
    check(reader, line - ring, ring)
    assert reader.read(0, 50).count == 0
    assert reader.read(line, 50).count == 0
    feed.close()


def test_a_reader_that_comes_late_finds_the_latest_lines_and_nothing_before(folder: Path) -> None:
    feed = make(folder, first_line=5000)
    for line in range(5000, 5400, BLOCK):
        offer(feed, line)
    reader = FeedReader.find(folder)
    assert reader is not None
    assert reader.span == (5000, 5400)
    check(reader, 5000, 400)
    assert reader.read(4000, 1100).first == 5000
    feed.close()


def test_lines_that_are_overwritten_while_they_are_read_are_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = make(folder)
    for line in range(0, 1024, BLOCK):
        offer(feed, line)
    reader = FeedReader.find(folder)
    assert reader is not None
    fences = 0
    fence = reader._fence

    def between() -> None:
        """The second fence stands behind the copies: until then the flight goes on by two blocks."""
        nonlocal fences
        fences += 1
        if fences == 2:
            offer(feed, 1024)
            offer(feed, 1032)
        fence()

    monkeypatch.setattr(reader, "_fence", between)
    lines = reader.read(0, 30)
    assert (lines.first, lines.count) == (16, 14)
    feed.close()


def test_a_block_that_is_half_written_is_not_shown(folder: Path) -> None:
    feed = make(folder)
    offer(feed, 0)
    reader = FeedReader.find(folder)
    assert reader is not None
    feed._areas.words[BEGUN] = 16  # as it is while the second block is copied
    assert reader.span == (0, 8)
    check(reader, 0, 8)
    assert reader.read(8, 8).count == 0
    feed._areas.words[BEGUN] = feed.layout.lines + 4  # and as it is while the first block is overwritten
    assert reader.read(0, 8).first == 4
    feed.close()


def test_readers_in_other_threads_never_see_a_torn_line(folder: Path) -> None:
    feed = make(folder)
    offer(feed, 0)
    ended, seen, faults = threading.Event(), [0], []

    def read() -> None:
        reader = FeedReader.find(folder)
        assert reader is not None
        while not ended.is_set():
            oldest, _ = reader.span
            lines = reader.read(oldest, 40)  # the oldest: those are the ones that are overwritten
            faults.extend(
                lines.first + row
                for row in range(lines.count)
                if (lines.labels[row] != values(lines.first + row, (SAMPLES,), 5)).any()
            )
            seen[0] += lines.count

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for line in range(BLOCK, 1024 * 4, BLOCK):
        offer(feed, line)
    ended.set()
    for reader in readers:
        reader.join()
    assert seen[0] > 0 and not faults
    feed.close()


def test_the_spectrum_of_a_pixel_is_the_nearest_that_is_kept(folder: Path) -> None:
    feed = make(folder, spectra_bytes=4 * 256 * 6 * BANDS)
    assert feed.layout.step == 4
    for line in range(0, 40, BLOCK):
        offer(feed, line)
    reader = FeedReader.find(folder)
    assert reader is not None
    for line, sample, kept in ((17, 9, (16, 8)), (20, 10, (20, 12)), (39, 20, (36, 20))):
        found = reader.spectrum(line, sample)
        assert found is not None and found[:2] == kept
        np.testing.assert_array_equal(found[2], np.full(BANDS, kept[0] + kept[1] / 64, np.float32))
    assert reader.spectrum(40, 0) is None
    assert reader.spectrum(0, SAMPLES) is None
    feed.close()


def test_spectra_take_no_more_memory_than_they_may() -> None:
    full = Layout.choose(1024, 224, 8, 64 << 20)
    assert (full.lines, full.step) == (1024, 4)
    assert full.spectra_bytes <= 64 << 20
    assert Layout.choose(145, 200, 8, 64 << 20).step == 2
    assert Layout.choose(100, 10, 8, 0).step == 0
    assert Layout.choose(100, 10, 2048, 64 << 20).lines == 8192


def test_the_status_is_read_whole(folder: Path) -> None:
    feed, calls = make(folder), [0]

    def status() -> dict[str, object]:
        calls[0] += 1
        return {"number": calls[0], "again": [calls[0]] * 500}

    reader = FeedReader.find(folder)
    assert reader is not None and reader.status() is None
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            feed._write_status(status())
            time.sleep(0.0005)  # or a reader in the same interpreter hardly gets its turn

    thread = threading.Thread(target=write)
    thread.start()
    read = [reader.status() for _ in range(300)]
    ended.set()
    thread.join()
    whole = [one for one in read if one is not None]
    assert len(whole) > 200
    assert all(one["again"] == [one["number"]] * 500 for one in whole)
    feed._areas.words[STATUS_SEQUENCE] += np.uint64(1)  # as a flight leaves it that is killed right then
    assert reader.status() is None
    feed.close()


def test_a_status_that_fails_or_is_too_long_ends_nothing(folder: Path) -> None:
    feed = make(folder)
    feed.report(lambda: {"events": ["x" * 100_000], "links": {}, "waiting": 1 / 0})
    feed.close()
    feed = make(folder)
    feed._write_status({"events": ["x" * 100_000], "links": {}, "waiting": 3})
    reader = FeedReader.find(folder)
    assert reader is not None and reader.status() == {"events": [], "links": {}, "waiting": 3}
    feed.close()


def test_a_feed_that_ends_leaves_nothing_and_its_readers_see_it(folder: Path, shared: Path) -> None:
    feed = make(folder)
    offer(feed, 0)
    reader = FeedReader.find(folder)
    assert reader is not None and reader.alive
    feed.close()
    assert reader.ended and not reader.alive
    check(reader, 0, 8)  # the memory is there as long as somebody looks
    assert list(folder.iterdir()) == list(shared.iterdir()) == []
    assert FeedReader.find(folder) is None


def test_a_killed_flight_is_seen_to_be_dead_and_the_next_one_clears_up(folder: Path, shared: Path) -> None:
    first = make(folder)
    reader = FeedReader.find(folder)
    assert reader is not None and reader.alive
    fcntl.flock(first._file, fcntl.LOCK_UN)  # as the kernel does when the process is gone
    assert not reader.alive and not reader.ended
    assert FeedReader.find(folder) is None
    second = make(folder, first_line=64)
    found = FeedReader.find(folder)
    assert found is not None and found.session != reader.session
    assert found.span == (64, 64)
    assert len(list(shared.iterdir())) == 1
    second.close()


def test_where_shared_memory_has_no_room_the_feed_lies_in_the_folder_or_nowhere(
    folder: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reserved beforehand: a full file system would end the process at a store."""
    reserve = os.posix_fallocate

    def full(file: int, offset: int, size: int) -> None:
        if Path(f"/proc/self/fd/{file}").readlink().parent in refusing:
            raise OSError(28, "No space left on device")
        reserve(file, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    refusing = [shared]
    feed = make(folder)
    offer(feed, 0)
    reader = FeedReader.find(folder)
    assert reader is not None and feed.path.parent == folder
    check(reader, 0, 8)
    feed.close()
    refusing.append(folder)
    assert open_feed(folder, {}, samples=SAMPLES, bands=BANDS, block_lines=BLOCK) is None
    assert list(folder.iterdir()) == list(shared.iterdir()) == []


def test_whatever_goes_wrong_in_the_feed_the_flight_does_not_see_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feed = make(folder)
    offer(feed, 0)
    broken = replace(feed._areas, colours=np.zeros((0, 0, 0), np.uint8))
    feed._areas = broken
    offer(feed, 8)
    offer(feed, 16)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert int(feed._areas.words[DONE]) == 8
    feed.close()


@pytest.mark.parametrize("damage", ["magic", "short", "sizes", "text", "folder", "link", "name"])
def test_a_file_that_is_no_feed_is_refused_or_passed_over(folder: Path, shared: Path, damage: str) -> None:
    feed = make(folder)
    data = bytearray(feed.path.read_bytes())
    fake = shared / "hyperline-0123456789abcdef.feed"
    if damage == "magic":
        data[0] ^= 1
    elif damage == "short":
        data = data[:-1]
    elif damage == "sizes":
        data = data.replace(b'"ring_lines": 1024', b'"ring_lines": 9024')
    elif damage == "text":
        data[64] = 255
    if damage == "folder":
        fake.mkdir()
    elif damage == "link":
        fake.symlink_to(feed.path)
    elif damage == "name":
        fake = shared / "passwd"
        fake.write_bytes(data)
    else:
        fake.write_bytes(data)
    (folder / POINTER).write_text(str(fake))
    if damage in ("link", "name"):
        assert FeedReader.find(folder) is None
    else:
        with pytest.raises(InputError, match="no feed"):
            FeedReader.find(folder)
    feed.close()


def test_a_run_shows_what_it_writes(bundle, scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[FeedReader] = []

    def look(taken: int) -> None:
        if not readers:
            found = FeedReader.find(tmp_path / "out")
            assert found is not None
            readers.append(found)

    monkeypatch.setattr(writer_module, "_STATUS_SECONDS", 0.01)
    run_strip(bundle, SceneSource(scene, rate=200.0), tmp_path / "out", threads=1, on_progress=look)
    reader = readers[0]
    lines = reader.read(0, 100)
    classes = np.fromfile(tmp_path / "out/classes.img", np.uint8).reshape(22, 13)
    confidence = np.fromfile(tmp_path / "out/confidence.img", np.float32).reshape(22, 13)
    np.testing.assert_array_equal(lines.labels, classes)
    np.testing.assert_array_equal(lines.confidence, (confidence * np.float32(255)).astype(np.uint8))
    golden, bands = bundle.golden(), [2, 1, 0]
    low, high = np.percentile(golden["lines"][golden["valid"]][:, bands], (2, 98), axis=0)
    shown = (52 + (204 - 52) * (scene.cube[..., bands] - low) / (high - low)).clip(1, 255)
    shown[(scene.cube < 0).all(axis=-1)] = 0
    assert np.abs(lines.colours - shown).max() <= 1
    assert reader.ended
    status = reader.status()
    assert status is not None
    assert (status["received"], status["classified"], status["dropped"]) == (22, 22, 0)
    found = reader.spectrum(3, 4)
    assert found is not None
    valid = np.where((scene.cube < 0).all(axis=-1, keepdims=True), 0, scene.cube)
    np.testing.assert_array_equal(found[2], valid[found[0], found[1]].astype(np.float32))


def test_a_resumed_run_shows_the_lines_behind_the_checkpoint(bundle, scene, tmp_path: Path) -> None:
    from hyperline.errors import HyperlineError

    class Broken(SceneSource):
        def __iter__(self):
            for line in super().__iter__():
                if line.index == 10:
                    raise HyperlineError("the cable fell off")
                yield line

    with pytest.raises(HyperlineError, match="cable"):
        run_strip(bundle, Broken(scene), tmp_path / "out", threads=1)
    assert not (tmp_path / "out" / POINTER).exists()
    readers: list[FeedReader | None] = []
    run_strip(
        bundle,
        SceneSource(scene),
        tmp_path / "out",
        threads=1,
        resume=True,
        on_progress=lambda taken: readers.append(FeedReader.find(tmp_path / "out")) if not readers else None,
    )
    reader = readers[0]
    assert reader is not None
    lines = reader.read(0, 100)
    assert lines.first == reader.description["first_line"] == 8
    classes = np.fromfile(tmp_path / "out/classes.img", np.uint8).reshape(22, 13)
    np.testing.assert_array_equal(lines.labels, classes[8:])
