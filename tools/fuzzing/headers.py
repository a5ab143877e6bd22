"""ENVI headers, with data files that fit them and that do not, through everything that reads a scene before a run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from fuzzing.damage import WORDS, damage_bytes
from fuzzing.target import Case, Refusal, Target, attempt
from hyperline.radiometry import Radiometry
from hyperline.runtime.sources.files import SceneSource
from hyperline.scenes import Scene, composite_bands, describe_invalid, read_frames, read_scene

HEADER, DATA = "strip.hdr", "strip.img"
# As sensors, ENVI and hyperline write them; the data of each is 6 lines × 5 samples × 4 bands or one.
RAW = """ENVI
description = {
  raw lines of a push-broom sensor, ; 18 ms
  }
samples = 5
lines = 6
bands = 4
header offset = 0
file type = ENVI Standard
data type = 12
interleave = bil
sensor type = Unknown
; tint = 18
default bands = {3, 2, 1}
wavelength units = nm
wavelength = {450.1, 550.2,
 650.3, 750.4}
fwhm = {5.5, 5.5, 5.5, 5.5}
bbl = {1, 1, 1, 1}
"""
REFLECTANCE = """ENVI
samples = 5
lines   = 6
bands   = 4
header offset = 16
file type = ENVI Standard
data type = 4
interleave = bsq
byte order = 1
map info = {UTM, 1.000, 1.000, 512000.000, 5400000.000, 1.0, 1.0, 32, North, WGS-84, units=Meters}
data ignore value = -9999
reflectance scale factor = 10000
wavelength units = Micrometers
wavelength = {0.45, 0.55, 0.65, 0.75}
band names = {blue, green, red, near infrared}
"""
CLASSES = """ENVI
lines =           6
samples = 5
bands = 1
header offset = 0
interleave = bsq
byte order = 0
file type = ENVI Classification
data type = 1
band names = {class}
classes = 4
class names = {no class, Corn, Woods, Stone; steel}
class lookup = {0, 0, 0, 230, 25, 75, 60, 180, 75, 255, 225, 25}
"""
NAMES = (
    *("samples", "lines", "bands", "header offset", "file type", "file compression", "data type", "interleave"),
    *("byte order", "data ignore value", "reflectance scale factor", "wavelength", "wavelength units", "band names"),
    *("classes", "class names", "fwhm", "bbl", ""),
)
VALUES = ("bil", "bip", "bsq", "TIFF", "ENVI Standard", "3", "4", "5", "6", "9", "12", "15", "nm", "um", "GHz", *WORDS)
Lines = list[str]


@dataclass(frozen=True)
class HeaderCase(Case):
    """A header and its data, and the way in which they are read."""

    way: str


def set_value(lines: Lines, random: Random) -> None:
    """Give a field another value."""
    at = _field(lines, random)
    name = lines[at].partition("=")[0]
    lines[at] = f"{name}= {random.choice(VALUES)}"


def set_item(lines: Lines, random: Random) -> None:
    """Give an item of a list another value."""
    at = _field(lines, random)
    items = lines[at].split(",")
    items[random.randrange(len(items))] = random.choice(VALUES)
    lines[at] = ",".join(items)


def set_number(lines: Lines, random: Random) -> None:
    """Change a field that is a small number by a little, which may fit or not."""
    at = _field(lines, random)
    name, _, value = lines[at].partition("=")
    if value.strip().isdigit() and len(value) < 20:
        lines[at] = f"{name}= {max(0, int(value) + random.choice((-2, -1, 1, 2, 4)))}"


def drop_line(lines: Lines, random: Random) -> None:
    """Take a line out."""
    del lines[random.randrange(len(lines))]


def repeat_line(lines: Lines, random: Random) -> None:
    """Put a copy of a line elsewhere, or many."""
    line = random.choice(lines)
    at = random.randrange(len(lines) + 1)
    lines[at:at] = [line] * (random.choice((1, 1, 1, 2, 400)) if len(line) < 200 else 1)


def swap_lines(lines: Lines, random: Random) -> None:
    """Let two lines change places."""
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]


def rename_field(lines: Lines, random: Random) -> None:
    """Call a field by the name of another."""
    at = _field(lines, random)
    lines[at] = f"{random.choice(NAMES)} ={lines[at].partition('=')[2]}"


def add_field(lines: Lines, random: Random) -> None:
    """Add a field."""
    lines.insert(random.randrange(len(lines) + 1), f"{random.choice(NAMES)} = {random.choice(VALUES)}")


def drop_brace(lines: Lines, random: Random) -> None:
    """Leave a list open."""
    at = random.randrange(len(lines))
    lines[at] = lines[at].replace("}", "")


def lengthen(lines: Lines, random: Random) -> None:
    """Make a line, a list or the whole header very long, sometimes: it takes its time."""
    if random.random() < 0.9:
        return
    kind = random.randrange(4)
    at = random.randrange(len(lines))
    if kind == 0:
        lines[at] += random.choice(("x", "9", ",", "{", " ", "\x00")) * random.choice((1000, 300_000))
    elif kind == 1:
        lines[at:at] = [f"{random.choice(NAMES)} = {{{', '.join(map(str, range(random.choice((5, 20_000)))))}}}"]
    elif kind == 2:
        lines[at:at] = [f"field {number} = {number}" for number in range(20_000)]
    else:
        lines[at:at] = random.choice((["no field"], ["open = {"], [""], ["a = {1}"])) * 20_000


def put_odd_text(lines: Lines, random: Random) -> None:
    """Put text that is seldom right into a line."""
    at = random.randrange(len(lines))
    inside = random.randrange(len(lines[at]) + 1)
    lines[at] = lines[at][:inside] + random.choice(WORDS) + lines[at][inside:]


STRUCTURE: tuple[Callable[[Lines, Random], None], ...] = (
    *(set_value, set_value, set_value, set_item, set_item, set_number, set_number, drop_line, repeat_line, swap_lines),
    *(rename_field, add_field, drop_brace, lengthen, put_odd_text),
)


def _field(lines: Lines, random: Random) -> int:
    fields = [at for at, line in enumerate(lines) if "=" in line]
    return random.choice(fields) if fields else random.randrange(len(lines))


class Headers(Target):
    """ENVI headers."""

    name = "headers"
    accepted = "read"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with suppress(ImportError):  # a header may say TIFF, and the library is no part of what a case needs
            importlib.import_module("rasterio")
        noise = Random(0)
        counts = bytes(noise.randrange(4) for _ in range(30))
        self.scenes = [(RAW, noise.randbytes(240)), (REFLECTANCE, bytes(16) + np.arange(120, dtype=">f4").tobytes())]
        self.maps = [(CLASSES, counts)]

    def originals(self) -> Iterator[Case]:
        """Give each header with its data."""
        for text, data in self.scenes:
            for way in ("header", "data", "frames"):
                yield HeaderCase((), {HEADER: text.encode(), DATA: data}, way)
        for text, data in self.maps:
            yield self._labels((), text.encode(), data)

    def _labels(self, done: tuple[str, ...], header: bytes, data: bytes) -> HeaderCase:
        cube, values = self.scenes[0]
        return HeaderCase(done, {HEADER: header, DATA: data, "cube.hdr": cube.encode(), "cube.img": values}, "labels")

    def make(self, random: Random) -> Case:
        """Damage the text, its bytes, or the data."""
        is_map = random.random() < 0.2
        text, original = random.choice(self.maps if is_map else self.scenes)
        done = []
        lines = text.split("\n")
        if random.random() < 0.1:
            other = random.choice((RAW, REFLECTANCE, CLASSES)).split("\n")
            lines = lines[: random.randrange(len(lines))] + other[random.randrange(len(other)) :]
            done.append("splice")
        for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5))):
            structural = random.choice(STRUCTURE)
            structural(lines, random)
            lines = lines or [""]
            done.append(structural.__name__)
        end = random.choice(("\n", "\n", "\n", "\r\n", "\r"))
        header = bytearray(end.join(lines).encode(random.choice(("utf-8", "utf-8", "utf-8-sig")), "surrogateescape"))
        while random.random() < (0.25 if done else 1.0):
            done.append(damage_bytes(header, random))
        data = bytearray(original)
        if random.random() < 0.3:
            done.append("data " + random.choice((_cut, _extend, _empty))(data, random))
        if is_map:
            return self._labels(tuple(done), bytes(header), bytes(data))
        files = {HEADER: bytes(header), DATA: bytes(data)}
        if random.random() < 0.02:
            files.pop(DATA)
            done.append("data missing")
        if random.random() < 0.02:
            files["strip.raw"] = bytes(data)
            done.append("data twice")
        return HeaderCase(tuple(done), files, random.choice(("header", "header", "data", "frames")))

    def check(self, case: Case) -> str:
        """Read a scene, and what the first line of a run needs of it."""
        assert isinstance(case, HeaderCase)
        self.put(case)
        scene = attempt(lambda: self._read(case.way))
        if isinstance(scene, Refusal):
            return "refused"
        size = max(len(data) for name, data in case.files.items() if not name.endswith(".hdr"))
        assert 0 < scene.cube.nbytes <= size, f"a cube of {scene.cube.nbytes} bytes from a file of {size}"
        assert np.isfinite(scene.scale), f"scale {scene.scale}"
        for note in scene.notes:
            assert note.isprintable(), f"a note holds a control character: {note!a}"
            assert len(note) <= 1000, f"a note of {len(note)} characters: {note[:200]}"
        assert len(scene.notes) < 20, f"{len(scene.notes)} notes"
        assert all(name.isprintable() for name in scene.class_names), f"class names {scene.class_names!a}"
        begun = attempt(lambda: _begin(scene))
        return "read" if begun is None else "read, refused by the run"

    def _read(self, way: str) -> Scene:
        if way == "labels":
            return read_scene(self.folder / "cube.hdr", self.folder / HEADER)
        if way == "frames":
            return read_frames(self.folder / HEADER)
        return read_scene(self.folder / (HEADER if way == "header" else DATA))


def _begin(scene: Scene) -> None:
    describe_invalid(scene)
    composite_bands(scene, scene.bands)
    source = SceneSource(scene)
    radiometry = Radiometry(source.samples, source.bands, scale=source.scale, nodata=source.nodata)
    line, valid = np.empty((source.samples, source.bands), np.float32), np.empty(source.samples, bool)
    for stored in source:
        radiometry.convert(stored.values, line, valid)
    assert np.isfinite(line).all(), "a converted line holds NaN or infinities"


def _cut(data: bytearray, random: Random) -> str:
    del data[random.randrange(len(data)) :]
    return "cut"


def _extend(data: bytearray, random: Random) -> str:
    data += bytes(random.choice((1, 5, 40, 240, 1000)))
    return "extended"


def _empty(data: bytearray, random: Random) -> str:
    data.clear()
    return "empty"
