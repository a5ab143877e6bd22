"""What a program may use is named, documented, typed, and loads nothing that it does not need."""

import inspect
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import hyperline
import hyperline.api

PUBLIC = sorted(hyperline.__all__)


def members(value):
    """Yield what is public of a class: its name, and the function behind it."""
    for name, member in vars(value).items():
        if name.startswith("_"):
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function):
            yield name, function


def undocumented(value):
    """Return what of a public name no docstring says."""
    missing = []
    text = inspect.getdoc(value) or ""
    if len(text) < 20:
        missing.append("a docstring")
    if inspect.isfunction(value) or inspect.ismethod(value):
        parameters = [name for name in inspect.signature(value).parameters if name not in ("self", "cls")]
        missing += [f"argument {name}" for name in parameters if f"{name}:" not in text]
    elif is_dataclass(value):
        missing += [f"attribute {one.name}" for one in fields(value) if not attribute_said(one.name, text)]
    if inspect.isclass(value) and not issubclass(value, Exception):
        for name, function in members(value):
            missing += [f"{name}: {fault}" for fault in undocumented(function)]
    return missing


def attribute_said(name, text):
    """Several attributes may share a line: ``name, created: …``."""
    heads = [line.partition(":")[0] for line in text.splitlines() if ":" in line]
    return any(name in head.replace(",", " ").split() for head in heads)


def test_the_two_lists_of_public_names_agree():
    assert sorted(hyperline.api.__all__) == PUBLIC
    assert all(getattr(hyperline, name) is getattr(hyperline.api, name) for name in PUBLIC)
    assert set(PUBLIC) <= set(dir(hyperline))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_documented(name):
    assert undocumented(getattr(hyperline, name)) == []


def test_an_undocumented_name_is_found():
    def bare(scene):
        """Do something with it, at length."""

    class Holder:
        """Holds something, whatever it may be."""

        def method(self):
            pass

    assert undocumented(bare) == ["argument scene"]
    assert undocumented(Holder) == ["method: a docstring"]


def test_what_is_not_there_is_said_as_python_says_it():
    with pytest.raises(AttributeError, match="module 'hyperline' has no attribute 'fly'"):
        _ = hyperline.fly


def test_the_package_says_that_it_is_typed():
    assert (Path(hyperline.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize(
    ("use", "without"),
    [
        ("import hyperline", ("numpy", "onnxruntime", "torch")),
        (
            "from hyperline import open_bundle, train_scene, calibrate_bundle",
            ("torch", "onnx", "matplotlib", "sklearn"),
        ),
    ],
)
def test_importing_loads_nothing_that_is_not_needed(use, without):
    code = f"{use}\nimport sys\nassert not {set(without)!r} & set(sys.modules), {set(without)!r} & set(sys.modules)"
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
