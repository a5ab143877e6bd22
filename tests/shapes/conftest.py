"""A scene on a map, and files of shapes drawn over it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WEST, NORTH, STEP = 500000.0, 5000000.0, 2.0  # UTM 32 N, metres
LINES, SAMPLES = 12, 20


@pytest.fixture
def envi_scene(tmp_path: Path) -> Path:
    """The header of an ENVI scene of 12 lines × 20 samples × 4 bands that says where it lies."""
    cube = np.random.default_rng(0).integers(1, 4000, (LINES, SAMPLES, 4)).astype("<u2")
    (tmp_path / "strip.img").write_bytes(cube.transpose(0, 2, 1).tobytes())
    header = tmp_path / "strip.hdr"
    header.write_text(
        f"ENVI\nsamples = {SAMPLES}\nlines = {LINES}\nbands = 4\nheader offset = 0\nfile type = ENVI Standard\n"
        "data type = 12\ninterleave = bil\nbyte order = 0\n"
        f"map info = {{UTM, 1, 1, {WEST}, {NORTH}, {STEP}, {STEP}, 32, North, WGS-84, units=Meters}}\n"
        "wavelength units = Nanometers\nwavelength = {450, 550, 650, 750}\n"
    )
    return header


@pytest.fixture(scope="session")
def on_map() -> Callable[[list[tuple[float, float]]], list[list[float]]]:
    """Bring (sample, line) corners to the map."""
    return lambda corners: [[WEST + STEP * x, NORTH - STEP * y] for x, y in corners]


@pytest.fixture
def write_geojson(tmp_path: Path) -> Callable[..., Path]:
    """Write features, each (properties, type, coordinates); ``crs`` is the member of GeoJSON 2008."""

    def write(*features: tuple[dict[str, Any], str, Any], name: str = "shapes.geojson", crs: str | None = None) -> Path:
        collection: dict[str, Any] = {
            "type": "FeatureCollection",
            "features": [
                {"type": "Feature", "properties": said, "geometry": {"type": kind, "coordinates": coordinates}}
                for said, kind, coordinates in features
            ],
        }
        if crs:
            collection["crs"] = {"type": "name", "properties": {"name": crs}}
        path = tmp_path / name
        path.write_text(json.dumps(collection))
        return path

    return write
