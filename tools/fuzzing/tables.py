"""NumPy files: corrections of a sensor, scenes and label maps, zipped or alone."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuzzing.damage import damage_bytes, damage_json
from fuzzing.target import Case, Refusal, Target, attempt
from hyperline.cli.radiometry import inspect
from hyperline.radiometry import Radiometry
from hyperline.runtime.sources.files import SceneSource
from hyperline.scenes import composite_bands, describe_invalid, read_frames, read_scene
from hyperline.sensor import SensorCorrection, read_correction, write_correction

SAMPLES, BANDS = 6, 6
# What an array's header may say of the bytes behind it.
DTYPES = ("<f4", ">f4", "<f8", "<f2", "|u1", "|b1", "<i8", "<c8", "|O", "<U4", "|V8", "<M8[ns]", "|S0", "<U0", "<f16")
SHAPES = (
    *("()", "(0,)", "(1,)", "(36,)", "(-1,)", "(6, 6)", "(4, 9)", "(0, 6, 6)", "(4, 6, 6)", "(1, 4, 6, 6)"),
    *("(4294967296,)", "(2147483648, 2)", "(100000, 100000)", "(9223372036854775807,)", "(4, 6, 16777216)", "(1e3,)"),
)


@dataclass(frozen=True)
class TableCase(Case):
    """A damaged file and what it is read as."""

    way: str


class Tables(Target):
    """Corrections, scenes and label maps in NumPy's format."""

    name = "tables"
    accepted = "read"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        generator = np.random.default_rng(0)
        correction = SensorCorrection(
            SAMPLES,
            BANDS,
            units="reflectance",
            dark=generator.uniform(90, 110, (SAMPLES, BANDS)).astype(np.float32),
            dark_noise=generator.uniform(1, 2, (SAMPLES, BANDS)).astype(np.float32),
            gain=generator.uniform(1e-4, 2e-4, (SAMPLES, BANDS)).astype(np.float32),
            bad=generator.random((SAMPLES, BANDS)) < 0.05,
            saturation=4095.0,
            ranges=((0, 4),),
            bin=2,
            bin_samples=3,
            wavelengths_nm=np.linspace(400, 900, BANDS),
            provenance={"hyperline": "0.1.0", "dark": {"file": "dark.hdr", "sha256": "0" * 64, "lines": 20}},
        )
        write_correction(folder / "sensor.npz", correction)
        with np.load(folder / "sensor.npz") as archive:
            self.correction = {name: _npy(archive[name]) for name in archive.files}
        cube = generator.integers(0, 4096, (4, SAMPLES, BANDS)).astype("<u2")
        self.scene = {
            "cube": _npy(cube),
            "labels": _npy(generator.integers(0, 3, (4, SAMPLES)).astype(np.uint8)),
            "class_names": _npy(np.array(["Corn", "Woods"])),
            "wavelengths_nm": _npy(np.linspace(400, 900, BANDS)),
            "nodata": _npy(np.array(0)),
            "scale": _npy(np.array(1e-4)),
        }
        self.lines = cube.astype(np.float32)

    def originals(self) -> Iterator[Case]:
        """Give a correction, a scene as an archive and as an array, and frames."""
        yield TableCase((), {"file.npz": _zip(self.correction)}, "correction")
        yield TableCase((), {"file.npz": _zip(self.scene)}, "scene")
        yield TableCase((), {"file.npy": self.scene["cube"]}, "scene")
        yield TableCase((), {"file.npy": self.scene["cube"]}, "frames")

    def make(self, random: Random) -> Case:
        """Damage an array, the settings, or the zip around them."""
        way = random.choice(("correction", "correction", "scene", "scene", "frames"))
        arrays = dict(self.correction if way == "correction" else self.scene)
        done: list[str] = []
        for _ in range(random.choice((0, 1, 1, 2))):
            _damage_array(arrays, random, done)
        if way != "correction" and random.random() < 0.3:
            data = bytearray(arrays.get("cube", b""))
            name = "file.npy"
        else:
            data = bytearray(_zip(arrays, random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))))
            name = "file.npz"
        while random.random() < (0.2 if done else 1.0):
            done.append("file " + damage_bytes(data, random))
        return TableCase(tuple(done), {name: bytes(data)}, way)

    def check(self, case: Case) -> str:
        """Read the file, and convert a few lines by it or of it."""
        assert isinstance(case, TableCase)
        self.put(case)
        (name,) = case.files
        path = self.folder / name
        read = {"correction": self._correct, "scene": _fly, "frames": _frames}[case.way]
        begun = attempt(lambda: read(path))
        return "refused" if isinstance(begun, Refusal) else "read"

    def _correct(self, path: Path) -> None:
        correction = read_correction(path)
        radiometry = Radiometry(correction.samples, correction.bands, correction=correction)
        line, valid = np.empty((radiometry.samples, radiometry.bands), np.float32), np.empty(radiometry.samples, bool)
        if (correction.samples, correction.bands) == (SAMPLES, BANDS):
            for values in self.lines:
                radiometry.convert(values, line, valid)
            assert np.isfinite(line).all(), "a corrected line holds NaN or infinities"
        for arguments in ((), ("--json",)):
            with redirect_stdout(io.StringIO()) as printed:
                inspect.main([str(path), *arguments], standalone_mode=False)
            text = printed.getvalue().replace("\n", "")
            assert text.isprintable(), f"radiometry inspect prints a control character: {text!a}"


def _fly(path: Path) -> None:
    scene = read_scene(path)
    describe_invalid(scene)
    composite_bands(scene, scene.bands)
    assert np.isfinite(scene.scale), f"scale {scene.scale}"
    for text in (*scene.notes, *scene.class_names):
        assert text.isprintable(), f"a note or a class name holds a control character: {text!a}"
    source = SceneSource(scene)
    radiometry = Radiometry(source.samples, source.bands, scale=source.scale, nodata=source.nodata)
    line, valid = np.empty((source.samples, source.bands), np.float32), np.empty(source.samples, bool)
    for stored in source:
        radiometry.convert(stored.values, line, valid)
    assert np.isfinite(line).all(), "a converted line holds NaN or infinities"


def _frames(path: Path) -> None:
    read_frames(path)


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def _zip(arrays: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data, method)
    return file.getvalue()


def _damage_array(arrays: dict[str, bytes], random: Random, done: list[str]) -> None:
    name = random.choice(sorted(arrays)) if arrays else "none"
    data = arrays.get(name, b"")
    kind = random.random()
    if name == "settings" or (kind < 0.4 and "settings" in arrays):
        name = "settings"
        text, what = damage_json(_settings(arrays[name]), random)
        arrays[name] = _npy(np.array(text.decode("utf-8", "replace")))
    elif kind < 0.45:
        del arrays[name]
        what = "lost"
    elif kind < 0.55:
        arrays[name] = random.choice(list(arrays.values()))
        what = "another array"
    elif kind < 0.75:
        arrays[name] = _with_header(data, random)
        what = "header"
    else:
        changed = bytearray(data)
        what = damage_bytes(changed, random)
        arrays[name] = bytes(changed)
    done.append(f"{'settings' if name == 'settings' else 'array'} {what}")


def _settings(data: bytes) -> bytes:
    try:
        return str(np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)).encode("utf-8", "replace")
    except ValueError:
        return json.dumps({}).encode()


def _with_header(data: bytes, random: Random) -> bytes:
    """Say another type, order or shape of the same bytes."""
    dtype, fortran, shape = random.choice(DTYPES), random.random() < 0.2, random.choice(SHAPES)
    header = f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}"
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data[128:]
