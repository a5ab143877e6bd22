"""Attacks by the files of a scene, of a sensor and of an earlier run; the fuzzer found each of these."""

import json
import re
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hyperline.cli.radiometry import inspect
from hyperline.cli.repair import repair
from hyperline.errors import InputError
from hyperline.runtime.checkpoint import SLOTS, read_checkpoints
from hyperline.runtime.records import IMAGES, RECORDS, SIZE, Part, Record
from hyperline.runtime.sinks.envi import repair_maps
from hyperline.scenes import read_scene
from hyperline.sensor import SensorCorrection, read_correction, write_correction

HEADER = (
    "ENVI\nsamples = 2\nlines = 3\nbands = 2\nheader offset = 0\ndata type = 1\ninterleave = bil\n"
    "wavelength = {500, 600}\n"
)


@pytest.fixture
def envi(tmp_path: Path) -> Callable[..., Path]:
    def envi(text: str | bytes = HEADER, **changes: str) -> Path:
        for name, value in changes.items():
            text = re.sub(rf"(?m)^{name.replace('_', ' ')} = .*$", f"{name.replace('_', ' ')} = {value}", text)
        (tmp_path / "strip.img").write_bytes(bytes(12))
        (tmp_path / "strip.hdr").write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / "strip.hdr"

    return envi


def test_the_unspoiled_header_is_read(envi) -> None:
    assert read_scene(envi()).cube.shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"lines": "9" * 4300, "samples": "9" * 4300}, r"'lines' is '9{57}\.\.\.': it must be at most 10{15}"),
        ({"lines": "9" * 5000}, r"'lines' is '9{57}\.\.\.': it must be at most"),
        ({"lines": "-" + "9" * 5000}, r"'lines' is '-9{56}\.\.\.': it must be at least 1"),
        ({"header_offset": str(2**63)}, "'header offset' is '9223372036854775808': it must be at most"),
        ({"lines": str(10**15)}, "truncated"),
        ({"lines": "٣"}, "'lines' is '٣': expected a whole number"),
        ({"lines": "1_0"}, "'lines' is '1_0': expected a whole number"),
        ({"samples": "1\x1b[2J"}, r"'samples' is '1�\[2J': expected a whole number"),
        ({"wavelength": "{500, 1_0}"}, "'1_0', is no number"),
    ],
)
def test_a_number_that_is_none_or_too_large_is_refused_in_a_line_for_a_terminal(envi, changes, fault) -> None:
    with pytest.raises(InputError, match=fault) as refused:
        read_scene(envi(**changes))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


def test_zeros_before_a_number_are_no_digits(envi) -> None:
    assert read_scene(envi(lines="0" * 60 + "3", samples="+2")).cube.shape == (3, 2, 2)


@pytest.mark.parametrize("factor", ["5e-324", "1e-309", "inf", "nan", "-1"])
def test_a_scale_that_is_no_number_is_refused(envi, factor: str) -> None:
    with pytest.raises(InputError, match=r"'reflectance scale factor' is .*: it must be finite and positive"):
        read_scene(envi(HEADER + f"reflectance scale factor = {factor}\n"))


def test_control_characters_of_a_header_reach_no_terminal(envi) -> None:
    scene = read_scene(envi(HEADER + "wavelength units = a\x1b[2J\u202e\x85b\n"))
    assert scene.notes[-1] == ("strip.hdr gives wavelengths in 'a�[2J� b', which is not understood; they are ignored")
    scene = read_scene(envi(HEADER + "wavelength units = {a\n,b\n}\n"))
    assert scene.notes[-1].startswith("strip.hdr gives wavelengths in 'a ,b', which is not understood")
    with pytest.raises(InputError, match=r"line 9: '�+field' opens a brace that is never closed"):
        read_scene(envi(HEADER + "\x00\x1bfield = {1\n"))
    with pytest.raises(InputError) as refused:
        read_scene(envi(HEADER + "x" * 5000 + " = {1\n"))
    assert len(str(refused.value)) < 500


def test_lines_that_are_no_fields_are_one_note_and_a_long_list_costs_no_square_of_time(envi) -> None:
    notes = read_scene(envi(HEADER + "no field\n" * 50_000)).notes
    assert notes[:1] == (
        "strip.hdr: 50000 lines, of which line 9 is the first, are no 'field = value' and were ignored",
    )
    start = time.process_time()
    with pytest.raises(InputError, match="'names' opens a brace that is never closed"):
        read_scene(envi(HEADER + "names = {" + "\n" * 1_000_000))
    assert time.process_time() - start < 2


def test_a_header_of_over_a_mebibyte_is_refused_unread(envi) -> None:
    path = envi()
    with path.open("r+b") as file:
        file.truncate(2**36)  # sparse
    with pytest.raises(InputError, match="has over 1048576 bytes; no ENVI header is so long"):
        read_scene(path)


def npy(descr: str, shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (npy("<f4", "(100000, 100000, 100)", bytes(64)), "has 64 bytes of data, not what its header declares"),
        (npy("<f4", "(4, 2, 3)", bytes(95)), "has 95 bytes of data"),
        (npy("<f4", "(-1, -2, 3)", bytes(24)), "has 24 bytes of data"),
        (npy("<f4", f"({'9' * 400},)", bytes(24)), "has 24 bytes of data"),
        (npy("|S0", "(2, 3, 4)"), "holds records or nothing at all"),
        (npy("<U1", "(1,)", b"\xff\xff\xff\x7f"), "holds text that is damaged"),
        (b"\x93NUMPY\x03\x00" + npy("<f4", "(1, 1, 2)", bytes(8))[8:], "is an array of format 3.0"),
        (npy("|O", "(2, 3, 4)", bytes(64)), "pickled objects, which are never loaded"),
    ],
)
def test_an_array_whose_header_lies_is_refused_before_it_is_allocated(tmp_path, kind, array, fault) -> None:
    path = tmp_path / f"scene.{kind}"
    if kind == "npy":
        path.write_bytes(array)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("cube.npy", array)
    with pytest.raises(InputError, match=fault) as refused:
        read_scene(path)
    assert "allocate" not in str(refused.value)


def test_an_array_of_negative_length_and_no_size_does_not_end_the_process(tmp_path) -> None:
    """It divides by zero in NumPy 2.4.6; in a process of its own, so that the test could fail."""
    (tmp_path / "scene.npy").write_bytes(npy("<U0", "(-1,)"))
    program = f"from hyperline.scenes import read_scene; read_scene({str(tmp_path / 'scene.npy')!r})"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert "InputError" in ran.stderr.splitlines()[-1]


def test_a_zip_that_declares_more_than_it_can_hold_is_refused(tmp_path) -> None:
    path = tmp_path / "scene.npz"
    np.savez(path, cube=np.zeros((2, 3, 4), np.float32))
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\1\2")
    data[entry + 24 : entry + 28] = struct.pack("<I", 2**32 - 2)  # the size of the member, uncompressed
    path.write_bytes(data)
    with pytest.raises(InputError, match="declares 4294967294 bytes, which so short a file cannot hold"):
        read_scene(path)


def test_names_in_an_archive_reach_no_terminal_as_they_are(tmp_path) -> None:
    np.savez(
        tmp_path / "scene.npz", **{"\x1b[2J": np.zeros(1), **{f"array{number}": np.zeros(1) for number in range(99)}}
    )
    with pytest.raises(InputError, match=r"has no array 'cube', only �\[2J, array0") as refused:
        read_scene(tmp_path / "scene.npz")
    assert len(str(refused.value)) < 1000
    cube, names = np.ones((1, 1, 2)), np.array(["a\x1b[2J"])
    np.savez(tmp_path / "named.npz", cube=cube, labels=np.ones((1, 1), np.uint8), class_names=names)
    assert read_scene(tmp_path / "named.npz").class_names == ("a�[2J",)


@pytest.mark.parametrize("provenance", [{"dark": {}}, {"\x1b[2J": {"file": "\x1b", "lines": 1, "sha256": 5}}])
def test_a_correction_of_odd_origin_is_shown_without_harm(tmp_path, provenance) -> None:
    write_correction(tmp_path / "sensor.npz", SensorCorrection(2, 3, provenance=provenance))
    shown = CliRunner().invoke(inspect, [str(tmp_path / "sensor.npz")], catch_exceptions=False)
    assert shown.exit_code == 0
    assert shown.output.replace("\n", "").isprintable()


def test_a_detector_that_there_is_not_is_refused_before_it_is_allocated(tmp_path) -> None:
    path = tmp_path / "sensor.npz"
    write_correction(path, SensorCorrection(2, 3))
    with np.load(path) as archive:
        settings = json.loads(str(archive["settings"]))
    for change in ({"samples": 10**9}, {"bands": 10**9}, {"samples": 65536, "bands": 4096}):
        np.savez(path, settings=np.array(json.dumps(settings | change)))
        with pytest.raises(InputError, match=r"its setting (samples|bands)|elements; a detector has at most"):
            read_correction(path)


def parts_of(added: dict[str, bytes]) -> tuple[Part, ...]:
    return tuple(Part(len(added[name]), zlib.crc32(added[name])) if name in added else Part() for name in IMAGES)


SLOT = struct.Struct("<4sIQQ")


def slot(facts: bytes, state: bytes = b"") -> bytes:
    head = SLOT.pack(b"HLS1", len(facts), len(state), 1)
    return head + struct.pack("<I", zlib.crc32(state, zlib.crc32(facts, zlib.crc32(head)))) + facts + state


def run_files(folder: Path, samples: str = "2", lines: int = 1) -> Record:
    """Write a run of one block of one line of two samples."""
    (folder / "classes.img").write_bytes(b"\1\2")
    (folder / "confidence.img").write_bytes(bytes(8))
    for name in ("classes.hdr", "confidence.hdr"):
        (folder / name).write_text(f"ENVI\nlines =           {lines}\nsamples = {samples}\nbands = 1\n")
    record = Record(0, 1, 1, parts_of({"classes": b"\1\2", "confidence": bytes(8)}))
    (folder / RECORDS).write_bytes(record.pack())
    return record


def test_the_unspoiled_run_is_whole(tmp_path) -> None:
    run_files(tmp_path)
    assert (repair_maps(tmp_path).lines, repair_maps(tmp_path).removed) == (1, 0)


@pytest.mark.parametrize("samples", ["0", "9" * 5000, "٣", str(10**9), "-1", "\x00"])
def test_samples_come_from_the_log_whatever_the_headers_tell(tmp_path, samples) -> None:
    run_files(tmp_path, samples)
    assert (repair_maps(tmp_path).lines, repair_maps(tmp_path).removed) == (1, 0)


@pytest.mark.parametrize(
    ("lines", "sizes"),
    [
        (65535, (65535 * 65000, 4 * 65535 * 65000, 0, 0, 0)),  # 4 GB would be read
        (1, (2**32 - 1, 2**32 - 4, 0, 0, 0)),
        (0, (2, 8, 0, 0, 0)),
        (0, (0, 0, 0, 0, 0)),
        (1, (2, 0, 0, 0, 0)),
        (1, (2, 7, 0, 0, 0)),
        (3, (2, 8, 0, 0, 0)),
        (1, (0, 0, 0, 0, 48)),
    ],
)
def test_a_record_of_sizes_that_cannot_be_is_not_believed_and_costs_no_memory(tmp_path, lines, sizes) -> None:
    run_files(tmp_path)
    parts = tuple(Part(min(size, 2**32 - 1)) for size in sizes)
    (tmp_path / RECORDS).write_bytes(Record(0, lines, 1, parts).pack())
    repaired = repair_maps(tmp_path)
    assert (repaired.lines, repaired.records) == (0, 0)
    assert (tmp_path / RECORDS).stat().st_size == 0


def test_an_image_that_the_log_does_not_speak_of_is_not_believed(tmp_path) -> None:
    run_files(tmp_path)
    (tmp_path / "uncertainty.img").write_bytes(b"\1\2")
    assert repair_maps(tmp_path).lines == 0


def test_a_header_that_is_none_of_ours_is_left_as_it_is_and_named(tmp_path) -> None:
    run_files(tmp_path)
    (tmp_path / "confidence.hdr").write_bytes(b"torn")
    told = CliRunner().invoke(repair, [str(tmp_path)], catch_exceptions=False)
    assert (tmp_path / "confidence.hdr").read_bytes() == b"torn"
    assert f"{tmp_path / 'confidence.hdr'} is damaged; go on with the strip" in told.output
    assert (tmp_path / "classes.hdr").read_text().startswith("ENVI\nlines =           1\n")
    assert (tmp_path / RECORDS).stat().st_size == SIZE


@pytest.mark.parametrize(
    "data",
    [
        slot(b"[" * 100_000),
        slot(b"{" + b'"a":{' * 50_000),
        slot(b"9" * 5000),
        slot(b"[]"),
        slot(b"{}")[:10],
        SLOT.pack(b"HLS1", 2, 2**63, 1) + bytes(6),
        SLOT.pack(b"HLS1", 2**32 - 1, 0, 1) + bytes(6),
    ],
)
def test_a_checkpoint_that_is_none_counts_as_none(tmp_path, data) -> None:
    (tmp_path / SLOTS[0]).write_bytes(data)
    assert read_checkpoints(tmp_path) == []


def test_an_intact_checkpoint_is_one(tmp_path) -> None:
    (tmp_path / SLOTS[0]).write_bytes(slot(b"{}", bytes(8)))
    ((number, checkpoint),) = read_checkpoints(tmp_path)
    assert (number, checkpoint.facts, checkpoint.state.size) == (0, {}, 2)
