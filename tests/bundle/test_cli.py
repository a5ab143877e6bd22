"""inspect, verify and sign as a person or a script meets them."""

import json
import subprocess
import sys

import pytest

from hyperline.bundle import read_bundle
from hyperline.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hyperline", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = exit.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def signed(run, tmp_path, tiny_path, private_key):
    path = tmp_path / "signed.hlb"
    code, out, _ = run("sign", tiny_path, "--key", private_key, "--out", path)
    assert (code, out) == (
        0,
        f"wrote {path}, signed by {read_bundle(path).manifest.signature.public_key}\n",
    )
    return path


def test_inspect_shows_card_accuracy_state_and_members(run, tiny_path):
    code, out, err = run("inspect", tiny_path)
    assert (code, err) == (0, "")
    for text in (
        "tiny",
        "450.5 to 650 nm",
        "2 grün",
        "90.0",
        "1 tensors, 256 bytes per sample",
        "model.onnx",
    ):
        assert text in out
    assert "not signed" in out


def test_inspect_json_is_one_object_with_the_whole_card(run, tiny_path, tiny_card):
    code, out, err = run("inspect", tiny_path, "--json")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert report["card"] == json.loads(tiny_card.to_json())
    assert report["bytes"] == tiny_path.stat().st_size
    assert report["state"] == {"tensors": 1, "bytes_per_sample": 256.0}
    assert report["precisions"] == ["fp32"]
    assert report["members"]["model.onnx"]["size"] == len(b"not a graph")
    assert report["signature"] is None


def test_verify_says_what_it_checked_and_what_not(run, tiny_path):
    code, out, err = run("verify", tiny_path)
    assert (code, err) == (0, "")
    assert "is intact" in out
    assert "not signed" in out
    assert "size and SHA-256 of 6 match" in out
    assert "not checked: what the ONNX graph computes" in out


def test_verify_json_is_one_object(run, tiny_path, signed, public_key_pem):
    report = json.loads(run("verify", tiny_path, "--json")[1])
    assert report == {
        "path": str(tiny_path),
        "intact": True,
        "sha256": read_bundle(tiny_path).sha256,
        "signed_by": None,
        "key_demanded": False,
    }
    report = json.loads(run("verify", signed, "--json", "--public-key", public_key_pem)[1])
    assert report["key_demanded"]
    assert report["signed_by"] == read_bundle(signed).manifest.signature.public_key


def test_verify_says_that_an_embedded_key_alone_proves_nothing(run, signed, public_key_pem):
    code, out, _ = run("verify", signed)
    assert code == 0
    assert "whose it is was not checked" in out
    code, out, _ = run("verify", signed, "--public-key", public_key_pem)
    assert code == 0
    assert "by the demanded key" in out


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_damaged_bundle_is_one_line_on_stderr_and_exit_code_2(run, tmp_path, tiny_path, command):
    damaged = tmp_path / "damaged.hlb"
    damaged.write_bytes(tiny_path.read_bytes().replace(b"not a graph", b"not a grape"))
    for options in ([], ["--json"]):
        code, out, err = run(command, damaged, *options)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert err.startswith(f"error: {damaged}: member 'model.onnx' is damaged or was changed")


def test_verify_demands_the_signature_it_was_asked_for(run, tiny_path, public_key_pem):
    code, out, err = run("verify", tiny_path, "--public-key", public_key_pem)
    assert (code, out) == (2, "")
    assert "is not signed, and a signature was demanded" in err


def test_sign_refuses_a_damaged_bundle_and_writes_nothing(run, tmp_path, tiny_path, private_key):
    damaged = tmp_path / "damaged.hlb"
    damaged.write_bytes(tiny_path.read_bytes()[:-1])
    code, _, err = run("sign", damaged, "--key", private_key, "--out", tmp_path / "signed.hlb")
    assert code == 2
    assert "cut short" in err
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.hlb"]


def test_the_command_loads_nothing_heavy_before_it_runs():
    heavy = "{'numpy', 'pydantic', 'cryptography', 'onnxruntime', 'torch', 'onnx'}"
    script = f"import hyperline.cli.bundle, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
