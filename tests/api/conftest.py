"""The tiny model of the runtime's tests: labels that are known by heart."""

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("tiny_model", Path(__file__).parents[1] / "runtime" / "conftest.py")
tiny_model = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny_model)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return tiny_model.Tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def bundle_file(tiny):
    return tiny.bundle(4).path


scene = tiny_model.scene
