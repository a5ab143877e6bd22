"""ENVI maps, read by an independent reader while they are written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import spectral

from hyperline.errors import HyperlineError
from hyperline.pictures import class_colours
from hyperline.runtime.engines import Outputs
from hyperline.runtime.sinks import FILES, EnviSink, map_forms, run_forms
from hyperline.scenes import read_scene

NAMES = ("Corn", "Woods, old", "Stone {steel} = grey")

# Appends blocks of known content until it is killed.
WRITER = """
import sys, numpy as np
from pathlib import Path
from hyperline.runtime.sinks import EnviSink, map_forms
sink = EnviSink(Path(sys.argv[1]), map_forms(5, ("a", "b")), 3)
block = 0
while True:
    labels = np.full((3, 8), block % 3, np.uint8)
    sink.write({"classes": labels, "confidence": labels / np.float32(4)}, 3)
    block += 1
    if block == 40:
        print("going", flush=True)
"""


def read(folder: Path, name: str) -> np.ndarray:
    image = np.asarray(spectral.open_image(str(folder / f"{name}.hdr")).load())
    return image[..., 0] if image.shape[2] == 1 else image


def sink_of(folder: Path, block_lines: int, samples: int, names: tuple[str, ...] = NAMES) -> EnviSink:
    return EnviSink(folder, map_forms(samples, names), block_lines)


def maps(labels: np.ndarray, confidence: np.ndarray | None = None) -> dict[str, np.ndarray]:
    return {"classes": labels, "confidence": np.zeros(labels.shape, np.float32) if confidence is None else confidence}


def test_both_maps_can_be_read_after_every_block(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, (11, 8)).astype(np.uint8)
    confidence = generator.random((11, 8)).astype(np.float32)
    with sink_of(tmp_path, 4, 5) as sink:
        for start in range(0, 11, 4):
            count = min(4, 11 - start)
            block = np.zeros((4, 8), np.uint8), np.zeros((4, 8), np.float32)
            block[0][:count], block[1][:count] = labels[start : start + count], confidence[start : start + count]
            sink.write(maps(*block), count)
            np.testing.assert_array_equal(read(tmp_path, "classes"), labels[: start + count, :5])
            np.testing.assert_array_equal(read(tmp_path, "confidence"), confidence[: start + count, :5])
    assert {path.name for path in tmp_path.iterdir()} == set(FILES[:4])


def test_every_image_of_a_run_can_be_read_after_every_block(tmp_path: Path, tiny) -> None:
    generator = np.random.default_rng(0)
    answer = Outputs(*[np.zeros(0)] * 3, np.zeros(0, np.float32), np.zeros((3, 4), np.float32))
    forms = run_forms(tiny.card(), 5, answer)
    whole = {
        "classes": generator.integers(0, 5, (11, 5), np.uint8),
        "confidence": generator.random((11, 5), np.float32),
        "uncertainty": generator.integers(0, 256, (11, 5), np.uint8),
        "quicklook": generator.integers(0, 256, (11, 5, 3), np.uint8),
    }
    experts = generator.random((3, 4, 3), np.float32)  # (block, expert, scale)
    with EnviSink(tmp_path, forms, 4) as sink:
        for number, start in enumerate(range(0, 11, 4)):
            count = min(4, 11 - start)
            block = {name: np.zeros((4, 8, *array.shape[2:]), array.dtype) for name, array in whole.items()}
            for name, array in whole.items():
                block[name][:count, :5] = array[start : start + count]
            parts = sink.write({**block, "experts": experts[number : number + 1]}, count)
            assert [part.size for part in parts] == [count * 5, count * 20, count * 5, count * 15, 48]
            for name, array in whole.items():
                np.testing.assert_array_equal(read(tmp_path, name), array[: start + count])
            np.testing.assert_array_equal(read(tmp_path, "experts"), experts[: number + 1])
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_our_own_reader_reads_the_colours_of_the_quicklook(tmp_path: Path, tiny) -> None:
    colours = np.arange(24, dtype=np.uint8).reshape(1, 8, 3)
    forms = run_forms(tiny.card(), 8, Outputs(*[np.zeros(0)] * 3))
    with EnviSink(tmp_path, forms, 1) as sink:
        sink.write({**maps(np.zeros((1, 8), np.uint8)), "quicklook": colours}, 1)
    scene = read_scene(tmp_path / "quicklook.hdr")
    np.testing.assert_array_equal(scene.cube, colours)
    assert scene.wavelengths_nm.tolist() == [650, 550, 450]


def test_the_class_header_names_and_colours_every_class(tmp_path: Path) -> None:
    with sink_of(tmp_path, 1, 1) as sink:
        sink.write(maps(np.ones((1, 1), np.uint8)), 1)
    header = spectral.open_image(str(tmp_path / "classes.hdr")).metadata
    assert header["file type"] == "ENVI Classification"
    assert int(header["classes"]) == 4
    assert header["class names"] == ["no class", "Corn", "Woods; old", "Stone (steel) - grey"]
    lookup = np.array(header["class lookup"], int).reshape(-1, 3)
    np.testing.assert_array_equal(lookup, [[0, 0, 0], *class_colours(3).tolist()])


def test_our_own_reader_reads_the_class_map_back_with_its_names(tmp_path: Path) -> None:
    scenes = pytest.importorskip("hyperline.scenes.envi", reason="needs hyperline's ENVI reader")
    header = pytest.importorskip("hyperline.scenes.envi_header")
    with sink_of(tmp_path, 2, 3, ("Corn", "Woods")) as sink:
        sink.write(maps(np.array([[0, 1, 2], [2, 1, 0]], np.uint8)), 2)
    labels = scenes.read_labels(header.read_header(tmp_path / "classes.hdr"), tmp_path / "classes.img")
    assert labels.values.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert labels.class_names == ("Corn", "Woods")


def test_maps_of_a_process_killed_at_any_moment_hold_every_line_that_they_promise(tmp_path: Path) -> None:
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"going\n"
            os.kill(writer.pid, signal.SIGKILL)
        labels = read(folder, "classes")
        assert len(labels) >= 40 * 3
        np.testing.assert_array_equal(labels[:, 0], np.arange(len(labels)) // 3 % 3)
        assert abs(len(read(folder, "confidence")) - len(labels)) <= 3


def test_a_reader_that_looks_at_any_moment_is_never_promised_a_line_that_is_not_there(tmp_path: Path) -> None:
    counts = []
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"going\n"
        for _ in range(3000):
            header = (tmp_path / "classes.hdr").read_text()
            counts.append(int(header.splitlines()[1].removeprefix("lines =")))
            assert (tmp_path / "classes.img").stat().st_size >= counts[-1] * 5
        writer.kill()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0] + 1000  # the writer did write meanwhile
    assert all(count % 3 == 0 for count in counts)


def test_a_map_without_a_line_leaves_no_header(tmp_path: Path) -> None:
    sink_of(tmp_path, 1, 1).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.img", "confidence.img"]


def test_a_strip_longer_than_the_header_can_count_is_one_clear_error(tmp_path: Path) -> None:
    labels = np.ones((1, 1), np.uint8)
    with sink_of(tmp_path, 1, 1) as sink:
        sink.write(maps(labels), 1)
        sink.lines = 99_999_999
        with pytest.raises(HyperlineError, match="more than 99999999 lines: start a new strip"):
            sink.write(maps(labels), 1)
    assert read(tmp_path, "classes").shape == (1, 1)


def test_a_disk_that_fails_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HyperlineError, match=r"classes.img cannot be written: No such file"):
        sink_of(tmp_path / "missing", 1, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_leaves_no_header_that_promises_too_much(tmp_path: Path) -> None:
    (tmp_path / "classes.img").symlink_to("/dev/full")
    sink = sink_of(tmp_path, 1, 1)
    with pytest.raises(HyperlineError, match="No space left"):
        sink.write(maps(np.ones((1, 1), np.uint8)), 1)
    assert not list(tmp_path.glob("*.hdr"))
