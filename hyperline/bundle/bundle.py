"""The bundle file: written whole or not at all, verified before anything of it is used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from hyperline.bundle.archive import (
    MANIFEST,
    MAX_ARCHIVE_BYTES,
    canonical_chunks,
    check_canonical,
    check_name,
    split,
)
from hyperline.bundle.card import Card
from hyperline.bundle.golden import GOLDEN_DTYPES, decode_golden, golden_name
from hyperline.bundle.manifest import Manifest
from hyperline.disk import replace_file
from hyperline.errors import InputError

CARD = "card.json"
MODELS = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}


@dataclass(frozen=True)
class Bundle:
    """A verified bundle, in memory.

    Attributes:
        path: the file that it came from.
        size: bytes of the whole file.
        sha256: hash of the whole file, hexadecimal.
        manifest: sizes, hashes and signature.
        card: what the runtime must know of the model.
        members: every member but the manifest, by name.
    """

    path: Path
    size: int
    sha256: str
    manifest: Manifest
    card: Card
    members: Mapping[str, bytes]

    @classmethod
    def open(cls, path: Path | str, public_key: bytes | None = None) -> Bundle:
        """Read and verify a bundle file.

        Args:
            path: the file.
            public_key: 32 raw bytes (``read_public_key``); where given, the bundle must be signed by it.

        Raises:
            InputError: the file cannot be read, or is anything but an intact bundle.
        """
        path = Path(path)
        try:
            if not path.is_file():
                raise InputError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_ARCHIVE_BYTES:
                    raise InputError(f"{path} has {size} bytes; a bundle has at most {MAX_ARCHIVE_BYTES}")
                data = file.read(size)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        return cls.from_bytes(data, path, public_key)

    @classmethod
    def from_bytes(cls, data: bytes, path: Path, public_key: bytes | None = None) -> Bundle:
        """Verify the bytes of a bundle file; ``path`` only names them in messages.

        Raises:
            InputError: the bytes are anything but an intact bundle.
        """
        try:
            members = split(data)
            for name in (MANIFEST, CARD, MODELS["fp32"], *map(golden_name, GOLDEN_DTYPES)):
                if name not in members:
                    raise InputError(f"is not a whole bundle: it lacks {name}")
            manifest = Manifest.from_json(members[MANIFEST], MANIFEST)
            content = {name: member for name, member in members.items() if name != MANIFEST}
            manifest.check_members(content)
            check_canonical(data, members)
            manifest.check_signature(public_key)
            card = Card.from_json(content[CARD], CARD)
            decode_golden(content, card)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return cls(path, len(data), hashlib.sha256(data).hexdigest(), manifest, card, MappingProxyType(content))

    def intact(self) -> Bundle:
        """Return this bundle if its bytes in memory are still those that were read, else the bundle read anew.

        Raises:
            InputError: a bit has flipped in memory, and the file is damaged, another one or gone.
        """
        try:
            self.manifest.check_members(self.members)
        except InputError as error:
            again = Bundle.open(self.path)
            if again.sha256 != self.sha256:
                raise InputError(
                    f"{self.path}: in memory it {error}; and the file is another one now: put the bundle back that "
                    f"has the SHA-256 {self.sha256}"
                ) from None
            return again
        return self

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that the bundle has a model for, ``"fp32"`` first."""
        return tuple(precision for precision, name in MODELS.items() if name in self.members)

    def model(self, precision: str = "fp32") -> bytes:
        """Return the ONNX graph of one precision.

        Raises:
            InputError: the bundle has none.
        """
        if precision not in self.precisions:
            raise InputError(f"{self.path} has no {precision} model; it has {', '.join(self.precisions)}")
        return self.members[MODELS[precision]]

    def golden(self) -> dict[str, NDArray[Any]]:
        """Return the golden block, read-only: lines, valid, labels, logits (see ``encode_golden``)."""
        return decode_golden(self.members, self.card)


def read_bundle(path: Path | str, public_key: bytes | None = None) -> Bundle:
    """Read and verify a bundle file; the same as ``Bundle.open``."""
    return Bundle.open(path, public_key)


def write_bundle(path: Path | str, members: Mapping[str, bytes]) -> Bundle:
    """Write an unsigned bundle, whole or not at all, and return it as read back.

    Args:
        path: the file to make or replace.
        members: content by name, without the manifest, which follows from them.

    Raises:
        InputError: a reader would refuse the result, or the path cannot be written to.
        HyperlineError: writing failed.
    """
    return _write(Path(path), members, Manifest.of(members))


def add_members(path: Path | str, members: Mapping[str, bytes]) -> bool:
    """Add members to a bundle, or replace those of the same name.

    Returns:
        True where the bundle was signed: the signature no longer holds and is dropped.

    Raises:
        InputError: the bundle is not intact, or a reader would refuse the result.
        HyperlineError: writing failed.
    """
    bundle = Bundle.open(path)
    write_bundle(path, {**bundle.members, **members})
    return bundle.manifest.signature is not None


def sign_bundle(path: Path | str, private_key_pem: Path, out: Path | str | None = None) -> Bundle:
    """Sign a bundle, in place or into another file, and return it as read back.

    Args:
        path: an intact bundle; an earlier signature is replaced.
        private_key_pem: PEM file with an unencrypted ed25519 private key.
        out: the file to make or replace; None for ``path`` itself.

    Raises:
        InputError: the bundle is not intact, the key is none, or the path cannot be written to.
        HyperlineError: writing failed.
    """
    bundle = Bundle.open(path)
    return _write(Path(out or path), bundle.members, bundle.manifest.signed_with(private_key_pem))


def _write(path: Path, members: Mapping[str, bytes], manifest: Manifest) -> Bundle:
    try:
        for name, content in members.items():
            if len(content) > (limit := check_name(name)):
                raise InputError(f"member {name!a} has {len(content)} bytes; at most {limit} are allowed")
        if MANIFEST in members:
            raise InputError(f"{MANIFEST} is made from the other members; do not give one")
    except InputError as error:
        raise InputError(f"{path} cannot be made: {error}") from error
    data = b"".join(canonical_chunks({**members, MANIFEST: manifest.to_json()}))
    # What is written passes the reader first, so nobody receives a bundle that cannot be opened.
    bundle = Bundle.from_bytes(data, path)
    replace_file(path, data)
    return bundle
