"""A strip of 100,000 lines of 1024 samples: small enough, soon enough, and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hyperline.report import read_inputs, write_report
from hyperline.report.sections import maps
from hyperline.report.thin import Thinned, lay_out

LINES, SAMPLES = 100_000, 1024
# VmHWM and not ru_maxrss: the latter begins at what the process had that started this one.
_MAKE = """
import sys
from pathlib import Path
from hyperline.report import read_inputs, write_report
written = write_report(read_inputs(Path(sys.argv[1]), truth=sys.argv[2]), Path(sys.argv[3]))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(written.bytes, status["VmHWM"].split()[0])
"""


@pytest.fixture
def long_strip(strips, tmp_path: Path) -> Path:
    """A strip whose maps have holes: its first tenth is noise, in squares so large that thinning leaves it noise."""
    folder = strips.make(lines=16, samples=SAMPLES)
    tenth = LINES // 10
    generator = np.random.default_rng(1)
    coarse = generator.integers(1, 4, (tenth // 16, SAMPLES // 16)).astype(np.uint8)
    labels = coarse.repeat(16, 0).repeat(16, 1)
    strips.write_classes(folder, labels)
    strips.write_map(folder, "confidence", (labels[..., None] / np.float32(4)).astype("<f4"))
    strips.write_map(folder, "uncertainty", labels[..., None] * np.uint8(60))
    strips.write_map(folder, "quicklook", np.repeat(labels[..., None] * np.uint8(80), 3, -1))
    strips.write_map(folder, "experts", generator.random((LINES // 8, 4, 3)).astype("<f4"))
    for name, size in (("classes", 1), ("confidence", 4), ("uncertainty", 1), ("quicklook", 3)):
        header = (folder / f"{name}.hdr").read_text()
        (folder / f"{name}.hdr").write_text(header.replace(f"lines = {tenth}", f"lines = {LINES}"))
        with (folder / f"{name}.img").open("r+b") as file:
            file.truncate(LINES * SAMPLES * size)
    (folder / "summary.json").write_text(json.dumps(strips.summary(LINES, SAMPLES)))
    truth = np.lib.format.open_memmap(tmp_path / "truth.npy", "w+", np.uint8, (LINES, SAMPLES))
    truth[:tenth] = labels
    truth.flush()
    return folder


def test_a_hundred_thousand_lines_take_less_than_a_minute_a_gibibyte_and_20_megabytes(long_strip, tmp_path) -> None:
    out = tmp_path / "report.html"
    arguments = [sys.executable, "-c", _MAKE, long_strip, tmp_path / "truth.npy", out]
    began = time.perf_counter()
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, timeout=120, check=False)
    seconds = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    size, kibibytes = map(int, done.stdout.split())
    assert size == out.stat().st_size < 20_000_000
    assert kibibytes < 1 << 20
    assert seconds < 60
    words = out.read_text()
    assert "100,000 lines × 1,024 samples" in words and "Lines 0 to" in words


def test_maps_of_nothing_but_noise_stay_below_20_megabytes(strips, monkeypatch, tmp_path) -> None:
    generator = np.random.default_rng(2)

    def noise(strip, truth, layout) -> Thinned:
        def one(high: int, *more: int):
            return generator.integers(0, high, (layout.rows, layout.columns, *more)).astype(np.uint8)

        counts = np.full(256, 9)
        return Thinned(one(256), one(256), one(256), one(256), one(256, 3), counts, counts)

    monkeypatch.setattr(maps, "thin", noise)
    names = tuple(f"class {number}" for number in range(1, 256))
    folder = strips.make(lines=8, samples=2, names=names)
    for lines, samples in ((LINES, SAMPLES), (2500, 1000), (20_000, 1024), (100_000, 64)):
        monkeypatch.setattr(maps, "lay_out", lambda *_, size=(lines, samples): lay_out(*size, 5))
        written = write_report(read_inputs(folder), tmp_path / "noise.html")
        assert 1_000_000 < written.bytes < 20_000_000, (lines, samples)
