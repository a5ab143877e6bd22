from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.scenes import Scene, read_scene
from hyperline.scenes.envi_header import read_header

GOOD = """ENVI
; written by a sensor
description = {
  lines = 7 is text, not a field
  ; samples = 9 } neither
  }
samples = 4
lines   = 5
bands   = 3
header offset = 0
file type = ENVI Standard
data type = 2
interleave = bil
byte order = 0
data ignore value = -999
reflectance scale factor = 10000.0
sensor type = Unknown
Wavelength Units = Micrometers
wavelength = {
 0.45,
 0.55
,0.65 }
band names = {blue,
 green, red}
"""


def rewritten(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_header_is_read_in_full(tmp_path: Path) -> None:
    path = tmp_path / "strip.hdr"
    path.write_bytes(GOOD.replace("\n", "\r\n").encode())
    header = read_header(path)
    assert (header.lines, header.samples, header.bands) == (5, 4, 3)
    assert header.dtype == np.dtype("<i2")
    assert (header.interleave, header.header_offset, header.file_type) == ("bil", 0, "ENVI Standard")
    assert (header.nodata, header.scale) == (-999.0, 1e-4)
    np.testing.assert_allclose(header.wavelengths_nm, [450, 550, 650])
    assert header.band_names == ("blue", "green", "red")
    assert header.notes == ()


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ["not an ENVI header", "first line must be 'ENVI'"]),
        (GOOD[5:], ["not an ENVI header"]),
        (rewritten("samples = 4\n", ""), ["required field 'samples' is missing"]),
        (rewritten("lines   = 5\n", ""), ["required field 'lines' is missing"]),
        (rewritten("bands   = 3\n", ""), ["required field 'bands' is missing"]),
        (rewritten("data type = 2\n", ""), ["required field 'data type' is missing"]),
        (rewritten("interleave = bil\n", ""), ["required field 'interleave' is missing"]),
        (
            rewritten("samples = 4", "samples = four"),
            ["line 7", "'samples' is 'four'", "expected a whole number"],
        ),
        (rewritten("samples = 4", "samples = 0"), ["line 7", "'samples' is '0'", "at least 1"]),
        (rewritten("lines   = 5", "lines = -5"), ["line 8", "'lines' is '-5'", "at least 1"]),
        (rewritten("bands   = 3", "bands = 3.5"), ["line 9", "'bands' is '3.5'", "whole number"]),
        (
            rewritten("header offset = 0", "header offset = -1"),
            ["line 10", "'header offset' is '-1'", "at least 0"],
        ),
        (
            rewritten("data type = 2", "data type = 7"),
            ["line 12", "'data type' is '7'", "expected a real type"],
        ),
        (
            rewritten("data type = 2", "data type = 6"),
            ["line 12", "'data type' is '6'", "expected a real type"],
        ),
        (rewritten("= bil", "= bli"), ["line 13", "'interleave' is 'bli'", "one of bil, bip, bsq"]),
        (
            rewritten("byte order = 0", "byte order = 2"),
            ["line 14", "'byte order' is '2'", "0 (little-endian)"],
        ),
        (rewritten("= -999", "= none"), ["line 15", "'data ignore value' is 'none'", "expected a number"]),
        (rewritten("10000.0", "0"), ["line 16", "'reflectance scale factor' is '0'", "finite and positive"]),
        (rewritten("0.55", "0,55"), ["line 19", "'wavelength'", "4 wavelengths for 3 bands"]),
        (rewritten("bands   = 3", "bands = 2"), ["line 19", "'wavelength'", "3 wavelengths for 2 bands"]),
        (rewritten("0.55", "green"), ["line 19", "item 1 (counted from 0), 'green', is no number"]),
        (rewritten("0.55", "nan"), ["line 19", "wavelength of band 1", "is nan", "finite and positive"]),
        (rewritten("0.55", "-0.55"), ["line 19", "wavelength of band 1", "is -0.55", "finite and positive"]),
        (rewritten("red}", "red"), ["line 23", "'band names' opens a brace that is never closed"]),
        (GOOD + "lines = 6\n", ["'lines' is given twice", "in lines 8 and 25"]),
        (GOOD + "file compression = 1\n", ["line 25", "'file compression' is '1'", "save it uncompressed"]),
        (GOOD + "classes = 3\nclass names = {a, b}\n", ["line 26", "2 names, but 'classes' is 3"]),
    ],
)
def test_a_faulty_header_is_refused_by_file_line_and_field(tmp_path: Path, text: str, fragments: list[str]) -> None:
    path = tmp_path / "strip.hdr"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        read_header(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


def test_a_field_repeated_with_the_same_value_or_unknown_to_us_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "strip.hdr"
    path.write_text(GOOD + "lines = 5\ntemperature = 20\ntemperature = 21\n")
    assert read_header(path).lines == 5


def test_a_line_that_is_no_field_is_ignored_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "strip.hdr"
    path.write_text(GOOD + "end of header\n")
    assert read_header(path).notes == ("strip.hdr: line 25 is no 'field = value' and was ignored",)


def test_missing_byte_order_of_one_byte_values_needs_no_assumption(tmp_path: Path) -> None:
    path = tmp_path / "strip.hdr"
    path.write_text(rewritten("byte order = 0\n", "").replace("data type = 2", "data type = 1"))
    assert read_header(path).notes == ()


@pytest.mark.parametrize(
    ("unit", "factor", "note"),
    [
        ("nm", 1, None),
        ("Nanometers", 1, None),
        ("Micrometers", 1000, None),
        ("µm", 1000, None),
        ("Unknown", 1000, "assumed micrometers"),
        (None, 1000, "assumed micrometers"),
    ],
)
def test_wavelengths_are_nanometres_whatever_the_unit(
    tmp_path: Path, unit: str | None, factor: float, note: str | None
) -> None:
    path = tmp_path / "strip.hdr"
    line = "" if unit is None else f"wavelength units = {unit}\n"
    path.write_text(rewritten("Wavelength Units = Micrometers\n", line), encoding="utf-8")
    header = read_header(path)
    np.testing.assert_allclose(header.wavelengths_nm, np.array([0.45, 0.55, 0.65]) * factor)
    assert len(header.notes) == (note is not None)
    assert all(note in text for text in header.notes if note)


def test_wavelengths_in_a_unit_that_is_no_length_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "strip.hdr"
    path.write_text(rewritten("Micrometers", "GHz"))
    header = read_header(path)
    assert header.wavelengths_nm is None
    assert re.search(r"'GHz', which is not understood", header.notes[0])


@settings(max_examples=400, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4),
    keep=st.integers(0, len(GOOD)) | st.just(len(GOOD)),
)
def test_a_damaged_header_gives_a_scene_or_one_clear_error_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], keep: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "strip.img").write_bytes(bytes(120))
    text = bytearray(GOOD.encode())
    for position, byte in flips:
        text[position] = byte
    (folder / "strip.hdr").write_bytes(text[:keep])
    try:
        scene = read_scene(folder / "strip.hdr")
    except InputError as refused:
        assert str(folder) in str(refused)
        assert "\n" not in str(refused)
    else:
        assert isinstance(scene, Scene)
        assert scene.cube.nbytes <= 120


def test_a_binary_file_named_as_a_header_is_refused_without_reading_it(
    tmp_path: Path, write_envi: Callable[..., Path]
) -> None:
    path = tmp_path / "big.hdr"
    with path.open("wb") as file:
        file.truncate(2**36)  # sparse; reading it whole would need 64 GiB
    with pytest.raises(InputError, match="not an ENVI header"):
        read_scene(path)
