"""What an attacker has: any bytes, a zip writer that lies, and manifests that match hostile content."""

import json
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperline.bundle import add_members, read_bundle, sign_bundle
from hyperline.bundle.archive import canonical_chunks
from hyperline.bundle.manifest import Manifest
from hyperline.errors import InputError


@dataclass(frozen=True)
class Entry:
    """One zip entry; every field may contradict the others."""

    name: bytes
    data: bytes = b""
    method: int = 0
    flags: int = 0
    mode: int = 0o100644
    time: int = 0
    size: int | None = None  # declared, where it is not the real one
    offset: int | None = None  # of the local header, where it is not the real one
    local_name: bytes | None = None
    extra: bytes = b""


def zip_of(entries: Sequence[Entry], count: int | None = None, comment: bytes = b"") -> bytes:
    """Write a zip with no opinion on whether it makes sense."""
    body, directory = bytearray(), bytearray()
    for entry in entries:
        offset = len(body) if entry.offset is None else entry.offset
        size = len(entry.data) if entry.size is None else entry.size
        local_name = entry.name if entry.local_name is None else entry.local_name
        head = (10, entry.flags, entry.method, entry.time, 33, zlib.crc32(entry.data))
        stored = len(entry.data) if entry.method else size
        body += struct.pack("<4s5H3L2H", b"PK\3\4", *head, stored, size, len(local_name), len(entry.extra))
        body += local_name + entry.extra + entry.data
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 3 << 8 | 10, *head, stored, size, len(entry.name), 0, 0, 0, 0,
            entry.mode << 16, offset,
        ) + entry.name  # fmt: skip
    number = len(entries) if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number, number, len(directory), len(body), len(comment))
    return bytes(body + directory + end + comment)


def forge(members: dict[str, bytes]) -> bytes:
    """Return a flawless archive around hostile content; a manifest among the members is taken as it is."""
    return b"".join(canonical_chunks({"manifest.json": Manifest.of(members).to_json(), **members}))


def compact(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


@pytest.fixture(scope="session")
def tiny() -> bytes:
    """An intact bundle of synthetic members, the one that pins the format."""
    return (Path(__file__).parents[1] / "bundle" / "tiny.hlb").read_bytes()


@pytest.fixture(scope="session")
def tiny_members(tmp_path_factory: pytest.TempPathFactory, tiny: bytes) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("tiny") / "tiny.hlb"
    path.write_bytes(tiny)
    return dict(read_bundle(path).members)


@pytest.fixture
def members(tiny_members: dict[str, bytes]) -> dict[str, bytes]:
    """The members of the intact bundle without its manifest, to spoil at will."""
    return dict(tiny_members)


@pytest.fixture
def entries(members: dict[str, bytes]) -> list[Entry]:
    """The intact bundle as zip entries; ``zip_of(entries)`` is that bundle."""
    content = {"manifest.json": Manifest.of(members).to_json()} | dict(sorted(members.items()))
    return [Entry(name.encode(), data) for name, data in content.items()]


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes, str], None]:
    """Assert that no way of opening a bundle takes these bytes, and that nothing is left behind."""

    def refused(data: bytes, fault: str, public_key: bytes | None = None) -> None:
        folder = tmp_path / "attack"
        folder.mkdir(exist_ok=True)
        path = folder / "attack.hlb"
        path.write_bytes(data)
        tracemalloc.start()
        try:
            with pytest.raises(InputError) as caught:
                read_bundle(path, public_key)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert re.search(fault, message), message
        assert message.isprintable()
        assert len(message) < 1000
        assert peak < 16 * len(data) + (4 << 20), f"{peak} bytes for a file of {len(data)}"
        if public_key is None:
            with pytest.raises(InputError):
                sign_bundle(path, folder / "no-key.pem", folder / "signed.hlb")
            with pytest.raises(InputError):
                add_members(path, {"model.fp16.onnx": b""})
        assert list(tmp_path.rglob("*")) == [folder, path]
        assert path.read_bytes() == data

    return refused
