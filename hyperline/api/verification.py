"""May this bundle be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hyperline.bundle import Bundle, read_bundle, read_public_key


@dataclass(frozen=True)
class Verification:
    """What holds of a bundle whose every byte is as it should be.

    Attributes:
        bundle: the bundle, read.
        signed_by: public key in its signature, hexadecimal, which the signature matches; None where it is not signed.
        key_demanded: whether that is the key that was asked for. If not, whose it is nobody checked.
    """

    bundle: Bundle
    signed_by: str | None
    key_demanded: bool

    @property
    def sha256(self) -> str:
        """Of the whole file, hexadecimal."""
        return self.bundle.sha256


def verify_bundle(path: Path | str, public_key: Path | str | None = None) -> Verification:
    """Check every byte of a bundle; nothing of it is run.

    Args:
        path: an ``.hlb`` file.
        public_key: PEM file of an ed25519 key; where given, the bundle must be signed by it.

    Raises:
        InputError: the bundle is damaged, or not signed by the key.
    """
    bundle = read_bundle(path, read_public_key(Path(public_key)) if public_key else None)
    signature = bundle.manifest.signature
    return Verification(bundle, signature.public_key if signature else None, public_key is not None)
