"""Install hyperline in the lowest versions that it takes, and run tests there.

    make test-lowest              # what flies: the tests that need no extra
    make test-lowest-train        # what trains and exports

With the native operators where a C++ compiler and ONNX Runtime's headers are found: onnxruntime older than these
refuses them. The Python is the one that this is started with (`make test-lowest PYTHON=python3.10`); a lower one than
pyproject.toml asks for is refused by pip. Bounds of other extras are not tested.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Kind:
    """One of the installations.

    Attributes:
        name: of its folder in build.
        pins: file of the lowest releases.
        lists: of pyproject.toml that they are the bounds of.
        wanted: what is installed.
        tests: that run there.
        ignored: of these tests; they need an extra, a compiler or a browser.
    """

    name: str
    pins: str
    lists: tuple[str, ...]
    wanted: tuple[str, ...]
    tests: tuple[str, ...]
    ignored: tuple[str, ...] = ()


FLIGHT = Kind(
    "lowest",
    "constraints-lowest.txt",
    ("dependencies",),
    (str(ROOT), "onnx", "spectral"),
    ("tests/api", "tests/bundle", "tests/attacks", "tests/runtime"),
    (
        *("links", "view", "bench"),
        *("test_gige.py", "test_geotiff.py", "test_json_schemas.py", "test_tensorrt.py", "test_tensorrt_cache.py"),
        *("test_cli.py", "test_reprocess.py", "test_fuzz.py", "test_integrity.py"),
    ),
)
TRAINING = Kind(
    "lowest-train",
    "constraints-lowest-train.txt",
    ("pictures", "report", "mat", "train"),
    (f"{ROOT}[train]",),
    (
        "tests/export/test_step.py",
        "tests/calibration/test_int8.py",
        "tests/train/test_teacher.py",
        "tests/train/test_walk.py",
    ),
)


def main() -> None:
    """Make the environment, check that the pins are the bounds, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="the installation that trains")
    kind = TRAINING if parser.parse_args().train else FLIGHT
    check_bounds(kind)
    folder = ROOT / "build" / kind.name
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / kind.pins]
    subprocess.run([python, *install, *kind.wanted, "pytest", "hypothesis"], check=True)
    ignored = [f"--ignore-glob={ROOT}/*/{name}" for name in kind.ignored]
    # From elsewhere, and not as python -m pytest: the checkout's own hyperline folder would be found first.
    tests = [ROOT / one for one in kind.tests]
    where = ["-c", ROOT / "pyproject.toml", "--rootdir", ROOT]
    subprocess.run([folder / "bin" / "pytest", "-q", *where, *ignored, *tests], check=True, cwd=folder)


def check_bounds(kind: Kind) -> None:
    """Compare the pins with pyproject.toml.

    Raises:
        SystemExit: a bound has no pin, or another one.
    """
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / kind.pins).read_text(), re.MULTILINE))
    project = (ROOT / "pyproject.toml").read_text()
    for name in kind.lists:
        listed = re.search(rf"^{name} = \[(.*?)\](?: *#.*)?$", project, re.MULTILINE | re.DOTALL)
        assert listed is not None
        for package, bound in re.findall(r'"([\w.-]+)>=([\w.]+)"', listed[1]):
            pin = pins.get(package, "none")
            if pin.split(".")[: len(bound.split("."))] != bound.split("."):
                raise SystemExit(f"{kind.pins}: {package} is pinned to {pin}, the bound in pyproject.toml is {bound}")


if __name__ == "__main__":
    main()
