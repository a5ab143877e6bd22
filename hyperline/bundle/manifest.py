"""The manifest: the size and SHA-256 of every member, and the signature over that list."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from hyperline.bundle.archive import MANIFEST
from hyperline.bundle.document import Document, Frozen, encode
from hyperline.errors import InputError

_MAX_KEY_FILE_BYTES = 64 << 10


class Member(Frozen):
    """What the manifest says of one member."""

    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    size: int = Field(ge=0)


class Signature(Frozen):
    """An ed25519 signature (RFC 8032) over the manifest without its signature field, all in hexadecimal."""

    algorithm: Literal["ed25519"]
    public_key: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    value: Annotated[str, StringConstraints(pattern="^[0-9a-f]{128}$")]


class Manifest(Document):
    """The list of members; all of them but the manifest itself."""

    format: Literal[1]
    members: dict[str, Member]
    signature: Signature | None

    @classmethod
    def of(cls, members: Mapping[str, bytes]) -> Manifest:
        """Return the unsigned manifest of these members."""
        records = {
            name: Member(sha256=hashlib.sha256(data).hexdigest(), size=len(data)) for name, data in members.items()
        }
        return cls(format=1, members=records, signature=None)

    def check_members(self, members: Mapping[str, bytes]) -> None:
        """Compare the members of an archive (without the manifest) with this list.

        Raises:
            InputError: one is missing, unlisted, or differs in size or SHA-256.
        """
        if missing := sorted(self.members.keys() - members.keys()):
            raise InputError(f"lacks member {missing[0]!a}, which its {MANIFEST} lists")
        if unlisted := sorted(members.keys() - self.members.keys()):
            raise InputError(f"holds member {unlisted[0]!a}, which its {MANIFEST} does not list")
        for name, actual in Manifest.of(members).members.items():
            stated = self.members[name]
            if actual.size != stated.size:
                raise InputError(f"member {name!a} has {actual.size} bytes; {MANIFEST} says {stated.size}")
            if actual.sha256 != stated.sha256:
                raise InputError(
                    f"member {name!a} is damaged or was changed: its SHA-256 is not the one in {MANIFEST}; "
                    "copy or export the bundle again"
                )

    def signed_with(self, private_key_pem: Path) -> Manifest:
        """Return this manifest with a signature by the key in a PEM file.

        Raises:
            InputError: the file is no unencrypted ed25519 private key.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        pem = _read_key_file(private_key_pem)
        try:
            key = load_pem_private_key(pem, password=None)
        except Exception as error:  # cryptography has no common base for what a bad PEM raises
            raise InputError(
                f"{private_key_pem} is not an unencrypted private key in PEM; "
                "make one with: openssl genpkey -algorithm ed25519 -out KEY.pem"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError(
                f"{private_key_pem} is not an ed25519 key; "
                "make one with: openssl genpkey -algorithm ed25519 -out KEY.pem"
            )
        signature = Signature(
            algorithm="ed25519",
            public_key=key.public_key().public_bytes_raw().hex(),
            value=key.sign(self._signed_bytes()).hex(),
        )
        return self.model_copy(update={"signature": signature})

    def check_signature(self, public_key: bytes | None = None) -> None:
        """Check the signature, if there is one; with ``public_key`` there must be one, by that key.

        Args:
            public_key: the 32 raw bytes of the ed25519 key that must have signed, or None.

        Raises:
            InputError: a signature that does not match, is missing, or is by another key.
        """
        if self.signature is None:
            if public_key is not None:
                raise InputError("is not signed, and a signature was demanded; do not use it")
            return
        if public_key is not None and self.signature.public_key != public_key.hex():
            raise InputError(f"is signed by another key ({self.signature.public_key}); do not use it")

        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.signature.public_key))
            key.verify(bytes.fromhex(self.signature.value), self._signed_bytes())
        except (InvalidSignature, ValueError):
            raise InputError(f"has a signature that does not match its {MANIFEST}; do not use it") from None

    def _signed_bytes(self) -> bytes:
        return encode(self.model_dump(exclude={"signature"}))


def read_public_key(path: Path) -> bytes:
    """Return the 32 raw bytes of an ed25519 public key in a PEM file.

    Raises:
        InputError: the file is no such key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    advice = "get it with: openssl pkey -in KEY.pem -pubout -out PUBLIC.pem"
    pem = _read_key_file(path)
    try:
        key = load_pem_public_key(pem)
    except Exception as error:  # as above
        raise InputError(f"{path} is not a public key in PEM; {advice}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} is not an ed25519 public key; {advice}")
    return key.public_bytes_raw()


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
