"""A bundle small enough to flip every byte of. The format does not interpret the model, so it is no graph."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hyperline.bundle import Card, StateTensor, encode_golden


@pytest.fixture(scope="session")
def tiny_card() -> Card:
    return Card(
        name="tiny",
        created="2026-11-05T12:00:00+00:00",
        hyperline="0.1.0",
        block_lines=2,
        bands=3,
        sample_multiple=2,
        wavelengths_nm=(450.5, 550.0, 650.0),
        class_names=("wasser", "grün"),
        scale=1e-4,
        nodata=-9999.0,
        composite_bands=(2, 1, 0),
        states=(StateTensor(input="scan_in", output="scan_out", shape=(2, 4, 16), sample_axis=0),),
        training={"scene": "made up", "seed": 0, "epochs": [1, 2]},
        offline={"oa": 0.9, "aa": 0.8, "kappa": 0.85, "per_class": (0.7, None), "pixels": 10},
        streamed=None,
        parity={"logits": 1e-6},
    )


@pytest.fixture(scope="session")
def tiny_golden() -> dict[str, np.ndarray]:
    return {
        "lines": np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 8,
        "valid": np.array([[True, True], [True, False]]),
        "labels": np.array([[1, 2], [2, 0]], dtype=np.uint8),
        "logits": np.array([[[1, 0], [0, 1]], [[0, 1], [0, 0]]], dtype=np.float32),
    }


@pytest.fixture
def tiny_members(tiny_card: Card, tiny_golden: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    return {"model.onnx": b"not a graph", "card.json": tiny_card.to_json(), **encode_golden(tiny_golden)}


@pytest.fixture(scope="session")
def tiny_path() -> Path:
    """The committed file that pins the format, read-only to tests."""
    return Path(__file__).with_name("tiny.hlb")


@pytest.fixture(scope="session")
def private_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _key(tmp_path_factory.mktemp("key") / "private.pem", seed=7)


@pytest.fixture(scope="session")
def other_private_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _key(tmp_path_factory.mktemp("key") / "other.pem", seed=8)


@pytest.fixture(scope="session")
def public_key_pem(private_key: Path) -> Path:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(private_key.read_bytes(), None).public_key()
    path = private_key.with_name("public.pem")
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return path


def _key(path: Path, seed: int) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path
