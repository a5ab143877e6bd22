"""Build the wheels that fly, for x86-64 and 64-bit ARM, with the native operators in them.

    make wheels                               # dist/hyperline-VERSION-py3-none-manylinux_2_35_{x86_64,aarch64}.whl
    make wheels-again                         # the same elsewhere: every bit must be the same

A wheel is built from the files that git knows, with the compiler of this machine (for ARM: g++-aarch64-linux-gnu), and
is kept only if auditwheel finds that its libraries need no more than its tag promises. CUDA and TensorRT are not in it:
they are built on the device (docs/install.md).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("hyperline/plugins/lib/libhyperline_ops.so", "hyperline/plugins/lib/libhyperline_ort.so")
# JetPack 6 is Ubuntu 22.04, whose glibc is 2.35; everything else that is named in docs/install.md is newer.
GLIBC = (2, 35)
# What a wheel is made of; its date is that of their last commit.
SOURCES = ("hyperline", "train", "export", "runtime", "plugins", "calibration", "CMakeLists.txt", "pyproject.toml")
SOURCES += ("README.md", "LICENSE")
HEADERS = "build/onnxruntime/usr/include"
TOOLCHAINS = {"aarch64": "tools/aarch64.cmake"}
COMPILERS = {"aarch64": ("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")}


@dataclass(frozen=True)
class Surroundings:
    """What a build must not leave a trace of.

    Attributes:
        umask: of the process.
        zone: time zone.
        age: seconds that the sources' files seem to be old.
    """

    umask: int = 0o022
    zone: str = "UTC"
    age: int = 0


def main() -> None:
    """Build the wheels, or build them again and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the wheels")
    parser.add_argument("--machine", nargs="+", choices=("x86_64", "aarch64"), default=("x86_64", "aarch64"))
    parser.add_argument("--again", action="store_true", help="build them elsewhere, and compare with those in --out")
    options = parser.parse_args()
    for machine in options.machine:
        with tempfile.TemporaryDirectory() as folder:
            if options.again:
                # Another folder, another day, other defaults: whatever leaks into a wheel differs.
                around = Surroundings(umask=0o077, zone="Asia/Kolkata", age=12_345_678)
                again = build(machine, Path(folder) / "a folder with a long name", around)
                compare(options.out / again.name, again)
            else:
                wheel = build(machine, Path(folder) / "sources", Surroundings())
                needed = audit(wheel, machine)
                options.out.mkdir(parents=True, exist_ok=True)
                part = options.out / f".{wheel.name}.part"
                shutil.copyfile(wheel, part)
                part.replace(options.out / wheel.name)
                print(f"{wheel.name}: {digest(wheel)}, {wheel.stat().st_size / 1e6:.1f} MB, needs {needed}")


def tag(machine: str) -> str:
    """Return the tag of a machine's wheel: any Python 3, and a glibc as `GLIBC` or newer."""
    return f"py3-none-manylinux_{GLIBC[0]}_{GLIBC[1]}_{machine}"


def build(machine: str, folder: Path, around: Surroundings) -> Path:
    """Build a wheel of the files that git knows.

    Args:
        machine: x86_64 or aarch64.
        folder: to copy the sources to and build in; it must not exist.
        around: what is different from build to build.

    Returns:
        The wheel, in the folder.
    """
    definitions = []
    if machine != platform.machine():
        if machine not in TOOLCHAINS:
            sys.exit(f"wheels for {machine} are built on {machine}")
        compiler, package = COMPILERS[machine]
        if shutil.which(compiler) is None:
            sys.exit(f"no {compiler} here (Debian: {package}): the wheel for {machine} cannot be built")
        definitions = [f"cmake.define.CMAKE_TOOLCHAIN_FILE={folder / TOOLCHAINS[machine]}"]
    for name in copy_sources(folder):
        stat = (folder / name).stat()
        os.utime(folder / name, (stat.st_atime - around.age, stat.st_mtime - around.age))
    if (ROOT / HEADERS).is_dir():
        shutil.copytree(ROOT / HEADERS, folder / HEADERS)
    # Nobody's own flags: what flies was built with the project's.
    environ = {name: value for name, value in os.environ.items() if not re.fullmatch(r"(C|CXX|CPP|LD)FLAGS", name)}
    environ |= {"SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct", "--", *SOURCES).strip(), "TZ": around.zone}
    settings = [f"-C{setting}" for setting in (*definitions, f"wheel.tags={tag(machine)}")]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"),
            # the pinned build backend of this environment, not the newest that a registry has
            *("--no-build-isolation", *settings, "--wheel-dir", str(folder / "dist"), str(folder)),
        ],
        check=True,
        env=environ,
        umask=around.umask,
    )
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def copy_sources(folder: Path) -> list[str]:
    """Copy the files that git knows, as they are now, into a folder, made if missing; return their names."""
    names = [name for name in _git("ls-files", "-z").split("\0") if name and (ROOT / name).is_file()]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return names


def audit(wheel: Path, machine: str) -> str:
    """Refuse a wheel that lacks a library, or whose libraries need more than its tag promises.

    Args:
        wheel: built for that machine.
        machine: x86_64 or aarch64.

    Returns:
        The newest versions that its libraries need, in words.
    """
    with zipfile.ZipFile(wheel) as archive:
        missing = [name for name in LIBRARIES if name not in archive.namelist()]
    if missing:
        sys.exit(
            f"{wheel.name} lacks {', '.join(missing)}: a C++ compiler or ONNX Runtime's headers were not found; "
            "CONTRIBUTING.md says how to get them"
        )
    shown = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", "--json", str(wheel)], capture_output=True, text=True
    )
    if shown.returncode:
        said = " ".join((shown.stderr or shown.stdout).split())
        sys.exit(f"auditwheel refuses {wheel.name}: {said[-400:]}")
    found = json.loads(shown.stdout)
    fits = re.fullmatch(rf"manylinux_(\d+)_(\d+)_{machine}", found["overall_tag"])
    newest = {}
    for versions in found["versioned_symbols"].values():
        for name, version in (one.rsplit("_", 1) for one in versions):
            newest[name] = max(newest.get(name, "0"), version, key=_numbers)
    needed = ", ".join(f"{name} {version}" for name, version in sorted(newest.items()))
    if fits is None or (int(fits[1]), int(fits[2])) > GLIBC:
        sys.exit(
            f"{wheel.name} is {found['overall_tag']} in truth: it needs {needed}, and "
            f"{', '.join(found['external_libs']) or 'no library'} from elsewhere; build it with Debian 12's compiler"
        )
    return needed


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def compare(first: Path, second: Path) -> None:
    """Refuse two wheels that differ, and say in which member."""
    if not first.is_file():
        sys.exit(f"no {first} to compare with: run `make wheels` first")
    if first.read_bytes() == second.read_bytes():
        print(f"{first.name}: {digest(first)}, the same in another folder")
        return
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        names = sorted({*one.namelist(), *other.namelist()})
        different = [name for name in names if _member(one, name) != _member(other, name)]
    sys.exit(f"{first.name} differs when built again, in {', '.join(different) or 'the order of its members'}")


def _member(archive: zipfile.ZipFile, name: str) -> tuple[object, ...] | None:
    if name not in archive.namelist():
        return None
    held = archive.getinfo(name)
    return archive.read(name), held.date_time, held.external_attr, held.compress_type, held.extra


def digest(file: Path) -> str:
    """Return a file's SHA-256."""
    return f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    main()
