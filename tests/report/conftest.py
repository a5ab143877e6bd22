"""Strips as ``hyperline run`` leaves them, written by hand so that a test knows every pixel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperline.bundle import Card, encode_golden, write_bundle

NAMES = ("corn", "woods", "stone")
EXPERTS, SCALES = 4, 3


def write_map(folder: Path, name: str, values: np.ndarray, extra: str = "") -> None:
    """Write (line, sample, band) values as an ENVI map, interleave bip."""
    lines, samples, bands = values.shape
    code = {"u1": 1, "f4": 4}[values.dtype.str[1:]]
    (folder / f"{name}.hdr").write_text(
        f"ENVI\nlines = {lines}\nsamples = {samples}\nbands = {bands}\nheader offset = 0\ninterleave = bip\n"
        f"byte order = 0\ndata type = {code}\n{extra}"
    )
    values.tofile(folder / f"{name}.img")


def write_classes(folder: Path, labels: np.ndarray, names: tuple[str, ...] = NAMES) -> None:
    # As the runtime writes them: ENVI lists are split at commas and end at a brace.
    plain = str.maketrans(",{}=", ";()-")
    held = ("no class", *(name.translate(plain) for name in names))
    extra = f"file type = ENVI Classification\nclasses = {len(held)}\nclass names = {{{', '.join(held)}}}\n"
    write_map(folder, "classes", labels[..., None], extra)


def summary(lines: int, samples: int, **changes: Any) -> dict[str, Any]:
    """What summary.json of a strip without trouble says."""
    return {
        "received": lines,
        "classified": lines,
        "dropped": 0,
        "rejected": 0,
        "unwritten": 0,
        "late_lines": 0,
        "invalid_pixels": 0,
        "saturated_pixels": 0,
        "interrupted": False,
        "resumed": False,
        "seconds": lines / 330,
        "lines_per_second": 330.0,
        "latency_ms": {"p50": 5.0, "p99": 9.0, "p999": 15.0},
        "first_block_ms": 6.5,
        "lines": lines,
        "samples": samples,
        "bands": 5,
        "rate": 330.0,
        "block_lines": 8,
        "engine": "ort-cpu",
        "fallbacks": 0,
        "reloads": 0,
        "failures": [],
        "precision": "fp32",
        "threads": 2,
        "native_ops": True,
        "outages": 0,
        "ring_lines": 9,
        "model": "field",
        "bundle_sha256": "ab" * 32,
        "source": "meadow",
        "source_counters": {},
        "counters": {"received": lines, "missed": 2, "lost": 0, "self_tests": 3},
        "links": None,
        "latency_histogram": {"edges_ms": [4.0, 6.0, 10.0, 20.0], "lines": [lines - 3, 2, 1]},
        "time_line": [
            {"second": float(second), "lines_per_second": 330.0, "latency_ms_max": 9.0, "waiting": 3, "dropped": 0}
            for second in range(5)
        ],
    } | changes


def spectra(names: tuple[str, ...] = NAMES) -> dict[str, Any]:
    """Spectra of five bands; the last class was never seen."""
    return {
        "wavelengths_nm": [450.0, 550.0, 650.0, 750.0, 850.0],
        "units": "reflectance",
        "classes": [
            {"id": number, "name": name, "pixels": 40 if number < len(names) else 0, "mean": [0.1, 0.2, 0.3, 0.4, 0.5],
             "std": [0.01] * 5}
            for number, name in enumerate(names, 1)
        ],
    }  # fmt: skip


class Strips:
    """Makes folders of strips under one folder."""

    names = NAMES
    write_map = staticmethod(write_map)
    write_classes = staticmethod(write_classes)
    summary = staticmethod(summary)
    spectra = staticmethod(spectra)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(
        self,
        name: str = "strip",
        *,
        lines: int = 40,
        samples: int = 24,
        names: tuple[str, ...] = NAMES,
        only_maps_of_old: bool = False,
        **changes: Any,
    ) -> Path:
        """Write a strip of random maps; ``changes`` go into its summary."""
        folder = self._folder / name
        folder.mkdir()
        generator = np.random.default_rng(5)
        labels = generator.integers(0, len(names) + 1, (lines, samples)).astype(np.uint8)
        write_classes(folder, labels, names)
        write_map(folder, "confidence", (generator.random((lines, samples, 1)) * (labels > 0)[..., None]).astype("<f4"))
        held = summary(lines, samples, **changes)
        if only_maps_of_old:
            del held["latency_histogram"], held["time_line"]
        else:
            write_map(folder, "uncertainty", generator.integers(0, 256, (lines, samples, 1)).astype(np.uint8))
            write_map(folder, "quicklook", generator.integers(1, 256, (lines, samples, 3)).astype(np.uint8))
            weights = generator.random((-(-lines // 8), EXPERTS, SCALES)).astype("<f4")
            weights[:, ::2] = 0
            write_map(folder, "experts", weights)
            (folder / "spectra.json").write_text(json.dumps(spectra(names)))
        (folder / "summary.json").write_text(json.dumps(held))
        return folder


@pytest.fixture
def strips(tmp_path: Path) -> Strips:
    return Strips(tmp_path)


@pytest.fixture
def accuracy() -> dict[str, Any]:
    """What ``hyperline evaluate --json`` prints for 100 pixels of three classes, one of which the truth lacks."""
    return {
        "oa": 0.9,
        "aa": 0.85,
        "kappa": 0.8,
        "per_class": [0.75, 0.95, None],
        "pixels": 100,
        "confusion": [[18, 4, 1, 1], [0, 72, 4, 0], [0, 0, 0, 0]],
        "block_lines": 8,
        "engine": "ort-cpu",
        "precision": "int8",
        "class_names": list(NAMES),
        "scene": "meadow",
        "model": "field.hlb",
    }


@pytest.fixture
def bench() -> dict[str, Any]:
    """What ``hyperline bench --json`` prints where there is no power sensor."""
    return {
        "schema": "hyperline.bench/1",
        "lines_per_second": 966.0,
        "latency_ms": {"p50": 8.1, "p90": 8.4, "p99": 9.2, "p999": 11.0, "max": 14.0},
        "floor_ratio": 1.1,
        "samples": 1024,
        "bands": 224,
        "block_lines": 8,
        "threads": 2,
        "engine": "ort-cpu",
        "precision": "fp32",
        "native_ops": True,
        "energy": None,
        "environment": {"hyperline": "0.1.0", "cpu": {"model": "a CPU", "usable": 2}, "sensors": []},
        "runs": [],
    }


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Writes a bundle whose model is no graph; a report asks for none."""

    def make(
        name: str = "field.hlb",
        *,
        names: tuple[str, ...] = NAMES,
        training: dict[str, Any] | None = None,
        **members: bytes,
    ) -> Path:
        streamed = {"oa": 0.9, "aa": 0.8, "kappa": 0.85, "per_class": (0.7,) * len(names), "pixels": 10}
        card = Card(
            name="field",
            created="2026-11-23T00:00:00Z",
            hyperline="0.1.0",
            block_lines=8,
            bands=2,
            sample_multiple=8,
            wavelengths_nm=None,
            class_names=names,
            scale=1.0,
            nodata=None,
            composite_bands=(1, 0, 0),
            states=(),
            training=training or {},
            offline=None,
            streamed=streamed,
            parity={},
        )
        golden = {
            "lines": np.zeros((8, 8, 2), np.float32),
            "valid": np.ones((8, 8), bool),
            "labels": np.ones((8, 8), np.uint8),
            "logits": np.zeros((8, 8, len(names)), np.float32),
        }
        held = {"card.json": card.to_json(), "model.onnx": b"no graph", **encode_golden(golden)}
        return write_bundle(tmp_path / name, held | members).path

    return make


@pytest.fixture
def calibration(accuracy: dict[str, Any]) -> dict[str, Any]:
    """``calibration/int8.json`` of a bundle."""
    better = accuracy | {"oa": 0.91, "per_class": [0.80, 0.95, None]}
    return {
        "precision": "int8",
        "budget": {"points": 0.3, "class_points": 1.5, "agreement": 0.99},
        "loss": {"points": 0.01, "worst_class": 1.25, "agreement": 0.9965, "accuracy": -1.0, "logits": 0.1},
        "lines": {"scene": "meadow", "judged": [64, 128], "set_ranges": [0, 64]},
        "accuracy": {"fp32": better, "int8": accuracy},
        "bytes": {"fp32": 2_600_000, "int8": 900_000},
        "speed": {"fp32": 966.0, "int8": 1450.0, "ratio": 1.5, "samples": 1024, "threads": 2, "engine": "ort-cpu"},
    }
