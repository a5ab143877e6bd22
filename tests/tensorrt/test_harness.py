"""The plugin's C++ contract with TensorRT, one case of harness.cpp a test."""

import re
import subprocess
from pathlib import Path

import pytest

CASES = re.findall(r'\{"(\w+)", \w+\},', Path(__file__).with_name("harness.cpp").read_text())
assert CASES, "harness.cpp names its cases in another way: adapt the pattern"


@pytest.mark.parametrize("case", CASES)
def test_the_plugin_keeps_its_contract(harness, case):
    harness(case)


def test_the_library_needs_nothing_of_tensorrt_and_shows_two_symbols(trt_library):
    def symbols(which):
        return subprocess.run(["nm", "-D", which, trt_library], capture_output=True, text=True, check=True).stdout

    assert sorted(line.split()[-1] for line in symbols("--defined-only").splitlines()) == [
        "getCreators",
        "setLoggerFinder",
    ]
    assert "nvinfer" not in symbols("--undefined-only").lower()
