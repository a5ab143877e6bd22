from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def cube() -> np.ndarray:
    """A small cube (line 5, sample 4, band 3), every value different."""
    return np.arange(60, dtype=np.int16).reshape(5, 4, 3)


@pytest.fixture(scope="session")
def write_envi() -> Callable[..., Path]:
    """Write an ENVI pair and return its header; a field given as None is left out."""
    axes = {"bil": (0, 2, 1), "bip": (0, 1, 2), "bsq": (2, 0, 1)}
    codes = {"u1": 1, "i2": 2, "i4": 3, "f4": 4, "f8": 5, "u2": 12, "u4": 13, "i8": 14, "u8": 15}

    def write(folder: Path, cube: np.ndarray, name: str = "strip", offset: int = 0, **fields: object) -> Path:
        fields = {key.replace("_", " "): value for key, value in fields.items()}
        interleave = str(fields.get("interleave", "bil"))
        stored = cube.astype(cube.dtype.newbyteorder(">" if fields.get("byte order") == 1 else "<"))
        (folder / f"{name}.img").write_bytes(
            b"#" * offset + stored.transpose(axes.get(interleave, (0, 1, 2))).tobytes()
        )
        lines, samples, bands = cube.shape
        complete = {
            "samples": samples,
            "lines": lines,
            "bands": bands,
            "header offset": offset,
            "file type": "ENVI Standard",
            "data type": codes[cube.dtype.str[1:]],
            "interleave": "bil",
            "byte order": 0,
            **fields,
        }
        header = folder / f"{name}.hdr"
        written = [f"{key} = {value}" for key, value in complete.items() if value is not None]
        header.write_text("\n".join(["ENVI", *written, ""]), encoding="utf-8")
        return header

    return write
