"""Time the radiometry of one line against the memory that it must at least move.

    python bench/radiometry.py [--seconds 3]

At 1024 samples x 224 bands (Specim FX10) and 1280 x 328 (EMIT), uint16, on one core; lines in sample order (BIP)
and in band order (BIL). ``bytes`` is what the passes of a step read and write for each value; ``times_copy`` is the
time against that of copying as many bytes, arrays of that size, measured in the same run and in turns with the lines.
``floor`` reads the counts and writes the line once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from hyperline.radiometry import Radiometry
from hyperline.sensor import SensorCorrection
from hyperline.sensor.correction import DARK_LINES
from hyperline.sensor.darks import Closing

_SIZES = ((1024, 224), (1280, 328))
_BAD = 0.0024  # of the elements, as in EMIT's map


def main() -> None:
    """Measure and print one JSON object; times are medians in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="for each size")
    seconds = parser.parse_args().seconds
    print(json.dumps([_measure(samples, bands, seconds) for samples, bands in _SIZES], indent=2))


def _measure(samples: int, bands: int, seconds: float) -> dict[str, object]:
    generator = np.random.default_rng(0)
    table = generator.uniform(0.5, 1.5, (samples, bands)).astype(np.float32)
    bad = generator.random((samples, bands)) < _BAD
    linear = {"dark": table, "gain": table}
    # Bytes: uint16 in, float32 out; two float32 in and one out for each table; the level's bool made, masked and
    # reduced; two float32 in and one out for each bin of two, of bands or of samples.
    steps: dict[str, tuple[int, dict[str, object]]] = {
        "cast": (6, {}),
        "dark": (18, {"dark": table}),
        "dark, gain": (30, {**linear}),
        "dark, gain, bad": (30, {**linear, "bad": bad}),
        "dark, gain, bad, saturation": (39, {**linear, "bad": bad, "saturation": 4095.0}),
        "all, bins of 2": (45, {**linear, "bad": bad, "saturation": 4095.0, "bin": 2}),
        "all, bins of 2 samples": (45, {**linear, "bad": bad, "saturation": 4095.0, "bin_samples": 2}),
        "all, bins of 2 bands x 2 samples": (
            48,
            {**linear, "bad": bad, "saturation": 4095.0, "bin": 2, "bin_samples": 2},
        ),
    }
    counts = generator.integers(0, 4000, (samples, bands)).astype(np.uint16)
    work: dict[str, Callable[[], None]] = {}
    moved: dict[str, int] = {}
    for name, (moves, parts) in steps.items():
        correction = SensorCorrection(samples, bands, **parts)  # type: ignore[arg-type]
        for order, values in (("BIP", counts), ("BIL", np.asfortranarray(counts))):
            step = f"{name}, {order}"
            work[step] = _convert(Radiometry(samples, bands, correction=correction), values)
            moved[step] = moves
    # Cast; two in and one out to subtract and to add, one in and one out to scale. For the noise, one in and one out to
    # square and to scale, two in and one out to add.
    for name, moves, parts in (
        ("a dark line taken in", 6 + 12 + 8 + 12, {}),
        ("a dark line taken in, noise known", 6 + 12 + 8 + 12 + 8 + 8 + 12, {"dark_noise": table}),
    ):
        work[name] = _take_in(SensorCorrection(samples, bands, dark=table, **parts), counts)
        moved[name] = moves
    source, target = np.zeros_like(table), np.empty_like(table)
    work["copy"] = lambda: np.copyto(target, source)
    judged = SensorCorrection(samples, bands, dark=table, dark_noise=table, saturation=4095.0)
    judgement = _judge(judged, seconds / 10)
    times = _turns(work, seconds)
    bandwidth = 2 * table.nbytes / times.pop("copy")
    return {
        "samples": samples,
        "bands": bands,
        "copy_gb_per_s": round(bandwidth / 1e9, 1),
        "floor_ms": round((counts.nbytes + table.nbytes) / bandwidth * 1e3, 3),
        "closing_judged_ms": round(judgement * 1e3, 2),
        "steps": {
            name: {
                "ms": round(spent * 1e3, 3),
                "bytes": moved[name],
                "times_copy": round(spent * bandwidth / (moved[name] * counts.size), 1),
            }
            for name, spent in times.items()
        },
    }


def _convert(radiometry: Radiometry, values: np.ndarray) -> Callable[[], None]:
    line = np.empty((radiometry.samples, radiometry.bands), np.float32)
    valid = np.empty(radiometry.samples, bool)
    return lambda: radiometry.convert(values, line, valid)


def _take_in(correction: SensorCorrection, counts: np.ndarray) -> Callable[[], None]:
    radiometry = Radiometry(correction.samples, correction.bands, correction=correction)
    return lambda: radiometry.update_dark(counts)


def _judge(correction: SensorCorrection, seconds: float) -> float:
    """Return median seconds of the judgement of a closing that is a dark again."""
    assert correction.dark is not None
    closing = Closing(correction.dark, correction.dark_noise, None, correction.saturation, correction.dark_drift)
    spent = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(spent) < 20:
        for _ in range(DARK_LINES):
            np.copyto(closing.line, correction.dark)
            closing.add()
        start = time.perf_counter()
        fault = closing.end()
        spent.append(time.perf_counter() - start)
        if fault is not None:
            raise RuntimeError(f"the stored dark itself is refused: {fault}")
    return float(np.median(spent))


def _turns(work: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """Run everything in turns, so that what else the machine does falls on all; return median seconds."""
    spent: dict[str, list[float]] = {name: [] for name in work}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(spent["copy"]) < 20:
        for name, step in work.items():
            step()  # what the step before left in the caches is not its own
            start = time.perf_counter()
            step()
            spent[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in spent.items()}


if __name__ == "__main__":
    main()
