"""The tiny model of the runtime's tests: labels that are known by heart."""

import pytest
from tiny_model import tiny_scene


@pytest.fixture
def bundle_file(tiny):
    return tiny.bundle(4).path


@pytest.fixture
def scene():
    return tiny_scene()
