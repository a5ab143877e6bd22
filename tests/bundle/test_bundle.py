"""Bundles: written whole, pinned to the byte, verified before use."""

import hashlib
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperline.bundle import (
    Bundle,
    add_members,
    encode_golden,
    read_bundle,
    read_public_key,
    sign_bundle,
    write_bundle,
)
from hyperline.errors import HyperlineError, InputError


def test_the_format_has_not_drifted_by_a_byte(tmp_path, tiny_members, tiny_path):
    write_bundle(tmp_path / "tiny.hlb", tiny_members)
    assert (tmp_path / "tiny.hlb").read_bytes() == tiny_path.read_bytes()


def test_the_committed_bundle_is_a_zip_that_other_programs_read(tiny_path, tiny_members):
    with zipfile.ZipFile(tiny_path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", *sorted(tiny_members)]
        assert {name: archive.read(name) for name in tiny_members} == tiny_members
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_what_was_written_comes_back(tmp_path, tiny_members, tiny_card, tiny_golden):
    written = write_bundle(tmp_path / "a.hlb", tiny_members)
    bundle = Bundle.open(tmp_path / "a.hlb")
    assert bundle == written == read_bundle(str(tmp_path / "a.hlb"))
    assert bundle.card == tiny_card
    assert bundle.model() == b"not a graph"
    assert bundle.precisions == ("fp32",)
    assert bundle.sha256 == hashlib.sha256((tmp_path / "a.hlb").read_bytes()).hexdigest()
    golden = bundle.golden()
    assert golden.keys() == tiny_golden.keys()
    for name, array in tiny_golden.items():
        np.testing.assert_array_equal(golden[name], array)
        assert golden[name].dtype == array.dtype


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=st.binary(max_size=300), report=st.text(max_size=20), data=st.data())
def test_two_writes_of_the_same_members_are_equal_whatever_their_order(tmp_path, tiny_members, model, report, data):
    members = {**tiny_members, "model.onnx": model, "calibration/fp16.json": report.encode()}
    shuffled = dict(data.draw(st.permutations(list(members.items()))))
    first, second = (write_bundle(tmp_path / "a.hlb", given) for given in (members, shuffled))
    assert first == second
    assert first.members == members


def test_a_missing_precision_is_named_with_those_there_are(tmp_path, tiny_members):
    path = tmp_path / "a.hlb"
    bundle = write_bundle(path, {**tiny_members, "model.int8.onnx": b"int8"})
    assert bundle.model("int8") == b"int8"
    assert bundle.precisions == ("fp32", "int8")
    with pytest.raises(InputError, match="has no fp16 model; it has fp32, int8"):
        bundle.model("fp16")


@pytest.mark.parametrize("missing", ["model.onnx", "card.json", "golden/lines.npy", "golden/logits.npy"])
def test_a_bundle_without_a_needed_member_is_not_written(tmp_path, tiny_members, missing):
    del tiny_members[missing]
    with pytest.raises(InputError, match=f"it lacks {missing}"):
        write_bundle(tmp_path / "a.hlb", tiny_members)
    assert list(tmp_path.iterdir()) == []


def test_members_that_a_reader_would_refuse_are_not_written(tmp_path, tiny_members):
    for name, fault in [
        ("../evil", "outside"),
        ("notes.txt", "none that"),
        ("manifest.json", "is made from"),
    ]:
        with pytest.raises(InputError, match=fault):
            write_bundle(tmp_path / "a.hlb", {**tiny_members, name: b""})
    with pytest.raises(InputError, match=r"card\.json' has 1048577 bytes; at most 1048576"):
        write_bundle(tmp_path / "a.hlb", {**tiny_members, "card.json": b" " * (1 << 20 | 1)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_bundle_and_nothing_else(tmp_path, tiny_members, monkeypatch, failing):
    path = tmp_path / "a.hlb"
    write_bundle(path, tiny_members)
    before = path.read_bytes()

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), full)
    with pytest.raises(HyperlineError, match=r"a\.hlb cannot be written: No space left on device"):
        write_bundle(path, {**tiny_members, "model.onnx": b"new"})
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_write_killed_before_the_rename_leaves_the_old_bundle(tmp_path, tiny_path):
    path = tmp_path / "a.hlb"
    path.write_bytes(tiny_path.read_bytes())
    script = (
        "import os, sys; from pathlib import Path; from hyperline.bundle import add_members\n"
        "Path.replace = lambda *_: os._exit(9)\n"
        "add_members(sys.argv[1], {'model.fp16.onnx': b'half'})"
    )
    assert subprocess.run([sys.executable, "-c", script, path], check=False).returncode == 9
    assert read_bundle(path).precisions == ("fp32",)


def test_a_place_that_cannot_be_written_to_is_bad_input(tmp_path, tiny_members):
    for path in (tmp_path, tmp_path / "missing" / "a.hlb"):
        with pytest.raises(InputError, match="cannot be written: it is a folder, or its folder"):
            write_bundle(path, tiny_members)


def test_writing_through_a_link_keeps_the_link(tmp_path, tiny_members):
    link = tmp_path / "latest.hlb"
    link.symlink_to(tmp_path / "a.hlb")
    write_bundle(link, tiny_members)
    assert link.is_symlink()
    assert read_bundle(tmp_path / "a.hlb").precisions == ("fp32",)


def test_a_new_bundle_has_the_permissions_of_any_new_file(tmp_path, tiny_members):
    write_bundle(tmp_path / "a.hlb", tiny_members)
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.hlb").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_bundle(tmp_path / "none.hlb")
    with pytest.raises(InputError, match="is not a file"):
        read_bundle(tmp_path)
    os.mkfifo(tmp_path / "pipe.hlb")
    with pytest.raises(InputError, match="is not a file"):
        read_bundle(tmp_path / "pipe.hlb")


def test_added_members_stand_beside_the_old_ones_and_drop_the_signature(tmp_path, tiny_members, private_key):
    path = tmp_path / "a.hlb"
    write_bundle(path, tiny_members)
    assert add_members(path, {"model.fp16.onnx": b"half", "calibration/fp16.json": b"{}\n"}) is False
    sign_bundle(path, private_key)
    assert add_members(path, {"model.fp16.onnx": b"better"}) is True
    bundle = read_bundle(path)
    assert bundle.model("fp16") == b"better"
    assert bundle.manifest.signature is None
    assert bundle.members.keys() == {*tiny_members, "model.fp16.onnx", "calibration/fp16.json"}


def test_signing_is_repeatable_and_changes_nothing_but_the_manifest(tmp_path, tiny_path, private_key, public_key_pem):
    signed = sign_bundle(tiny_path, private_key, tmp_path / "signed.hlb")
    assert signed.members == read_bundle(tiny_path).members
    assert sign_bundle(tmp_path / "signed.hlb", private_key).sha256 == signed.sha256
    key = read_public_key(public_key_pem)
    assert read_bundle(tmp_path / "signed.hlb", key).manifest.signature.public_key == key.hex()


def test_the_signature_is_plain_ed25519_over_the_manifest_without_it(tmp_path, tiny_path, private_key):
    """Checked by openssl, which shares no code with the writer's manifest."""
    signature = sign_bundle(tiny_path, private_key, tmp_path / "signed.hlb").manifest.signature
    with zipfile.ZipFile(tiny_path) as archive:
        unsigned = archive.read("manifest.json")
    (tmp_path / "message").write_bytes(unsigned.replace(b',"signature":null', b""))
    (tmp_path / "signature").write_bytes(bytes.fromhex(signature.value))
    command = ["openssl", "pkeyutl", "-verify", "-inkey", private_key, "-rawin"]
    command += ["-in", tmp_path / "message", "-sigfile", tmp_path / "signature"]
    try:
        checked = subprocess.run(command, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl command on this machine")
    assert checked.returncode == 0, checked


def test_a_key_that_is_not_the_right_kind_is_refused_with_the_command_that_makes_one(
    tmp_path, tiny_path, private_key, public_key_pem
):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    wrong = tmp_path / "wrong.pem"
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    for key, encryption in [
        (X25519PrivateKey.generate(), serialization.NoEncryption()),
        (
            serialization.load_pem_private_key(private_key.read_bytes(), None),
            serialization.BestAvailableEncryption(b"secret"),
        ),
    ]:
        wrong.write_bytes(key.private_bytes(*encoding, encryption))
        with pytest.raises(InputError, match="openssl genpkey -algorithm ed25519"):
            sign_bundle(tiny_path, wrong, tmp_path / "signed.hlb")
    for path in (public_key_pem, tiny_path):
        with pytest.raises(InputError, match="openssl genpkey -algorithm ed25519"):
            sign_bundle(tiny_path, path, tmp_path / "signed.hlb")
    for path in (private_key, tiny_path):
        with pytest.raises(InputError, match="is not a public key in PEM; get it with: openssl pkey"):
            read_public_key(path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_public_key(tmp_path / "none.pem")
    assert not (tmp_path / "signed.hlb").exists()


def test_the_golden_block_must_fit_the_card(tmp_path, tiny_members, tiny_golden):
    lines, valid, labels = tiny_golden["lines"], tiny_golden["valid"], tiny_golden["labels"]
    for name, array, fault in [
        ("lines", lines[:, :, :2], r"lines.npy' has shape \(2, 2, 2\)"),
        ("lines", lines[0], r"lines.npy' has shape \(2, 3\)"),
        ("lines", lines.astype(np.float64), "has dtype b'<f8'; float32 is demanded"),
        ("valid", np.zeros_like(valid), "no mask with at least one valid pixel"),
        ("labels", labels + np.uint8(valid), "a class that the card does not name"),
        ("labels", np.ones_like(labels), "labels an invalid pixel"),
        ("logits", lines, r"logits.npy' has shape \(2, 2, 3\)"),
    ]:
        with pytest.raises(InputError, match=fault):
            write_bundle(tmp_path / "a.hlb", {**tiny_members, **encode_golden({name: array})})
    odd = {name: array[:, :1] for name, array in tiny_golden.items()}
    with pytest.raises(InputError, match="has 1 samples, no multiple of 2"):
        write_bundle(tmp_path / "a.hlb", {**tiny_members, **encode_golden(odd)})


def test_golden_members_are_what_numpy_itself_reads(tiny_golden, tmp_path):
    for name, data in encode_golden(tiny_golden).items():
        (tmp_path / "a.npy").write_bytes(data)
        array = np.load(tmp_path / "a.npy", allow_pickle=False)
        np.testing.assert_array_equal(array, tiny_golden[Path(name).stem])


def test_every_flipped_bit_is_refused(tiny_path):
    """Contents, headers, timestamps: nothing in the file may change unseen."""
    data = bytearray(tiny_path.read_bytes())
    accepted = []
    for position in range(len(data)):
        for bit in range(8):
            data[position] ^= 1 << bit
            try:
                Bundle.from_bytes(bytes(data), tiny_path)
                accepted.append((position, bit))
            except InputError as error:
                assert str(error).startswith(f"{tiny_path}: ")
            data[position] ^= 1 << bit
    assert not accepted
    assert Bundle.from_bytes(bytes(data), tiny_path).card.name == "tiny"


def test_a_bundle_that_is_too_big_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.hlb"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: takes no room
    with pytest.raises(InputError, match="has 1099511627776 bytes; a bundle has at most 1073741824"):
        read_bundle(path)


def test_the_end_record_stands_where_the_specification_says(tiny_path):
    data = tiny_path.read_bytes()
    assert struct.unpack_from("<4s4H2LH", data, len(data) - 22)[3] == 7
