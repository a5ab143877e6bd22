"""Attacks on the signature. The attacker knows every public key and has a private key of their own."""

import json
import zipfile

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hyperline.bundle import read_bundle, sign_bundle, write_bundle

from .conftest import compact, forge


def private_pem(path, seed):
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path, key.public_key().public_bytes_raw()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The owner's and the attacker's key: PEM file and raw public key of each."""
    folder = tmp_path_factory.mktemp("keys")
    return private_pem(folder / "owner.pem", 1), private_pem(folder / "attacker.pem", 2)


@pytest.fixture(scope="module")
def signed(tmp_path_factory, tiny_members, keys):
    path = tmp_path_factory.mktemp("signed") / "signed.hlb"
    write_bundle(path, tiny_members)
    sign_bundle(path, keys[0][0])
    assert read_bundle(path, keys[0][1]).manifest.signature is not None
    return path


@pytest.fixture
def manifest(signed):
    with zipfile.ZipFile(signed) as archive:
        return json.loads(archive.read("manifest.json"))


def test_a_stripped_signature_is_refused_where_one_is_demanded(tiny, keys, refused):
    refused(tiny, "is not signed, and a signature was demanded", keys[0][1])


def test_a_signature_by_another_key_is_refused_where_one_is_demanded(tmp_path_factory, signed, keys, refused):
    (_, owner), (attacker_pem, attacker) = keys
    forged = sign_bundle(signed, attacker_pem, tmp_path_factory.mktemp("forged") / "forged.hlb")
    assert read_bundle(forged.path).manifest.signature.public_key == attacker.hex()
    refused(forged.path.read_bytes(), f"is signed by another key \\({attacker.hex()}\\)", owner)


def test_a_member_changed_under_a_signature_is_refused_even_with_a_true_hash(members, manifest, refused):
    from hyperline.bundle.manifest import Manifest

    members["model.onnx"] = b"evil"
    changed = {**Manifest.of(members).model_dump(), "signature": manifest["signature"]}
    refused(forge({**members, "manifest.json": compact(changed)}), "signature that does not match")


def test_the_owners_name_on_the_attackers_signature_is_refused(
    tmp_path_factory, signed, members, manifest, keys, refused
):
    (_, owner), (attacker_pem, _) = keys
    forged = sign_bundle(signed, attacker_pem, tmp_path_factory.mktemp("forged") / "forged.hlb")
    signature = {**forged.manifest.signature.model_dump(), "public_key": owner.hex()}
    data = forge({**members, "manifest.json": compact({**manifest, "signature": signature})})
    for demanded in (None, owner):
        refused(data, "signature that does not match", demanded)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"value": "0" * 128}, "signature that does not match"),
        ({"value": "f" * 128}, "signature that does not match"),
        ({"value": "0" * 126}, "signature.value: String should match"),
        ({"public_key": "0" * 63 + "g"}, "signature.public_key: String should match"),
        ({"public_key": "f" * 64}, "signature that does not match"),
        ({"algorithm": "none"}, "signature.algorithm: Input should be 'ed25519'"),
        ({"also": 1}, "Extra inputs"),
    ],
)
def test_a_malformed_signature_is_refused(members, manifest, refused, change, fault):
    manifest["signature"].update(change)
    refused(forge({**members, "manifest.json": compact(manifest)}), fault)


def test_a_second_encoding_of_the_same_signature_is_refused(members, manifest, refused):
    """S + L verifies in careless libraries: two files, one signature (RFC 8032, section 5.1.7)."""
    value = bytes.fromhex(manifest["signature"]["value"])
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(value[32:], "little") + order
    manifest["signature"]["value"] = (value[:32] + scalar.to_bytes(32, "little")).hex()
    refused(forge({**members, "manifest.json": compact(manifest)}), "signature that does not match")


def test_a_key_of_small_order_never_passes_for_a_demanded_key(members, manifest, keys, refused):
    """With the neutral element as its key, one signature fits every message."""
    manifest["signature"].update(public_key="01" + "0" * 62, value="01" + "0" * 126)
    refused(forge({**members, "manifest.json": compact(manifest)}), "signed by another key", keys[0][1])
