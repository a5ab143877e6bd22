"""Install what flies in its lowest versions into build/lowest, and run the tests that need no extra.

    make test-lowest

With the native operators where a C++ compiler and ONNX Runtime's headers are found: onnxruntime older than these
refuses them. The Python is the one that this is started with (`make test-lowest PYTHON=python3.10`); a lower one than
pyproject.toml asks for is refused by pip. Bounds of extras are not tested.
"""

from __future__ import annotations

import re
import subprocess
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_TESTS = ("tests/api", "tests/bundle", "tests/attacks", "tests/runtime")
# These need an extra, a compiler or a browser.
_LEFT_OUT = (
    *("links", "view", "bench"),
    *("test_gige.py", "test_geotiff.py", "test_json_schemas.py", "test_tensorrt.py", "test_tensorrt_cache.py"),
)
_ELSEWHERE = ("test_cli.py", "test_reprocess.py", "test_fuzz.py", "test_integrity.py")


def main() -> None:
    """Make the environment, check that the pins are the bounds, and run."""
    check_bounds()
    folder = ROOT / "build" / "lowest"
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints-lowest.txt"]
    subprocess.run([python, *install, ROOT, "onnx", "spectral", "pytest", "hypothesis"], check=True)
    ignored = [f"--ignore-glob={ROOT}/*/{name}" for name in (*_LEFT_OUT, *_ELSEWHERE)]
    # From elsewhere, and not as python -m pytest: the checkout's own hyperline folder would be found first.
    tests = [ROOT / one for one in _TESTS]
    where = ["-c", ROOT / "pyproject.toml", "--rootdir", ROOT]
    subprocess.run([folder / "bin" / "pytest", "-q", *where, *ignored, *tests], check=True, cwd=folder)


def check_bounds() -> None:
    """Compare the pins with pyproject.toml.

    Raises:
        SystemExit: a bound has no pin, or another one.
    """
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints-lowest.txt").read_text(), re.MULTILINE))
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert listed is not None
    for name, bound in re.findall(r'"([\w.-]+)>=([\w.]+)"', listed[1]):
        pin = pins.get(name, "none")
        if pin.split(".")[: len(bound.split("."))] != bound.split("."):
            raise SystemExit(
                f"constraints-lowest.txt: {name} is pinned to {pin}, the bound in pyproject.toml is {bound}"
            )


if __name__ == "__main__":
    main()
