"""The doctor finds what is there, and for what is not has a fix."""

import json
import sys

import onnxruntime
import pytest
from click.testing import CliRunner

from hyperline.cli.main import hyperline
from hyperline.doctor import installation, network
from hyperline.plugins import native, onnxruntime_ops
from hyperline.runtime import engines
from hyperline.runtime.sources import camera


def findings(*arguments):
    result = CliRunner().invoke(hyperline, ["doctor", "--json", *arguments])
    return result.exit_code, {entry["subject"]: entry for entry in json.loads(result.stdout)["findings"]}


def test_a_machine_that_can_fly_is_said_to():
    code, found = findings()
    assert code == 0
    assert found["engine ort-cpu"]["ok"] and found["packages"]["ok"]
    assert "onnxruntime 1." in found["packages"]["detail"]
    for name, library in (
        ("native operators", native.OPS_LIBRARY),
        ("native operators in onnxruntime", "libhyperline_ort.so"),
    ):
        assert found[name]["ok"] == (native.find_library(library) is not None)


def test_every_fault_comes_with_its_fix(monkeypatch):
    monkeypatch.setattr(native, "find_library", lambda name: None)
    monkeypatch.setattr(onnxruntime_ops, "find_library", lambda name: None)
    monkeypatch.setitem(engines.ENGINES, "warp", ("warp_drive.engine", "Warp"))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "gi", None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(installation, "_TRAINS", ("torch", "no-such-package"))
    code, found = findings()
    faults = [entry for entry in found.values() if not entry["ok"]]
    assert code == 0  # it flies all the same, on function bodies
    assert {entry["subject"] for entry in faults} >= {  # and what this machine itself lacks
        "native operators",
        "native operators in onnxruntime",
        "packages that train",
        "engine ort-cuda",
        "engine tensorrt",
        "engine warp",
        "cameras",
    }
    assert all(entry["fix"] and entry["detail"] for entry in faults)
    assert "libonnxruntime-dev" in found["native operators in onnxruntime"]["fix"]
    assert "gir1.2-aravis-0.8" in found["cameras"]["fix"]
    assert "hyperline[cuda]" in found["engine ort-cuda"]["fix"]
    assert "JetPack" in found["engine tensorrt"]["fix"]
    assert found["engine warp"]["fix"] == "pip install warp_drive"


def test_without_any_engine_it_exits_with_1(monkeypatch):
    for name in engines.ENGINES:
        monkeypatch.setitem(engines.ENGINES, name, ("warp_drive.engine", "Warp"))
    code, found = findings()
    assert code == 1
    assert not found["engine ort-cpu"]["ok"]


@pytest.mark.parametrize("subject", ["hyperline", "CPU", "engine ort-cpu"])
def test_people_get_a_line_for_each(subject):
    result = CliRunner().invoke(hyperline, ["doctor"])
    assert f"ok  {subject} " in result.stdout


def test_a_network_that_would_lose_frames_comes_with_its_fix(monkeypatch):
    monkeypatch.setattr(camera, "find_cameras", lambda: [camera.FoundCamera("Maker-Model-7", "7", "127.0.0.1")])
    _, found = findings()
    assert found["cameras"]["detail"] == "Aravis found; Maker-Model-7 at 127.0.0.1"
    assert found["network of Maker-Model-7"]["ok"], "the loopback takes packets of 64 KiB"
    assert found["network of Maker-Model-7"]["detail"].startswith("lo, packets of 6553")
    monkeypatch.setattr(network, "_RECEIVE_BYTES", 1 << 40)
    monkeypatch.setattr(network, "_JUMBO_BYTES", 100_000)
    _, found = findings()
    assert "net.core.rmem_max=1099511627776" in found["receive buffer"]["fix"]
    assert "ip link set lo mtu 100000" in found["network of Maker-Model-7"]["fix"]


def test_a_source_that_does_not_answer_is_a_fault_and_exits_with_1(tmp_path):
    code, found = findings("--source", str(tmp_path / "nowhere.npz"), "--out", str(tmp_path))
    assert code == 1
    assert not found[f"source {tmp_path / 'nowhere.npz'}"]["ok"]
    assert found["engine ort-cpu"]["ok"] and f"disk of {tmp_path}" in found
