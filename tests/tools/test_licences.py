"""Everything that hyperline brings has a licence that we know and can live with."""

from email.message import Message
from pathlib import Path

import licences
import pytest

ROOT = Path(__file__).resolve().parents[2]


def package(licence, name="some-package"):
    return licences.Package(name, "1.0", licence, frozenset([""]))


def test_every_package_that_hyperline_brings_is_allowed():
    found = licences.packages()
    assert {"numpy", "onnxruntime", "torch", "fastapi", "tensorrt"} <= {one.name for one in found}
    assert [one.fault for one in found if one.fault] == []


def test_what_every_install_brings_is_a_handful():
    names = {one.name for one in licences.packages() if "" in one.extras}
    assert {"numpy", "click", "onnxruntime", "rich", "pydantic", "cryptography"} <= names
    assert not names & {"torch", "onnx", "matplotlib", "scipy", "mkdocs"}


@pytest.mark.parametrize("licence", ["MIT", "BSD-3-Clause AND Zlib", "GPL-2.0-only OR MIT", "EPL-2.0 OR BSD-3-Clause"])
def test_these_are_allowed(licence):
    assert package(licence).fault is None


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("AGPL-3.0-or-later", "could not be given on"),
        ("GPL-3.0-only", "could not be given on"),
        ("GNU Affero General Public License v3", "not among those allowed"),
        ("MIT AND GPL-2.0-only", "could not be given on"),
        ("", "not stated"),
        ("UNKNOWN", "not among those allowed"),
        ("LicenseRef-NVIDIA-TensorRT", "not among those allowed"),
    ],
)
def test_these_are_not(licence, said):
    assert said in package(licence).fault


def test_a_closed_one_is_allowed_by_its_name():
    assert package("LicenseRef-NVIDIA-TensorRT", "tensorrt").fault is None


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ([("License-Expression", "MIT"), ("License", "whatever")], "MIT"),
        ([("Classifier", "License :: OSI Approved :: BSD License")], "BSD-3-Clause"),
        ([("Classifier", "License :: OSI Approved"), ("License", "MIT License\n\nlong text")], "MIT"),
        ([("License", "My own licence")], "My own licence"),
        ([], ""),
    ],
)
def test_a_licence_is_found_where_a_package_states_it(fields, licence):
    metadata = Message()
    for name, value in fields:
        metadata[name] = value
    assert licences.licence_of(metadata) == licence


def test_pytorch_is_its_build_for_processors(monkeypatch):
    needed = [
        "nvidia-cublas-cu12==12.4.5.8",
        "cuda-toolkit[cublas]==13.0.2; platform_system == 'Linux'",
        "sympy>=1.13.3",
    ]
    monkeypatch.setattr(licences.importlib.metadata, "requires", lambda name: needed)
    assert licences._requires("torch") == needed[2:]
    assert licences._requires("another") == needed
