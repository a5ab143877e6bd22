"""Prove the sources on a minimal Debian: `make demo` and the tests there, with nothing but what the README asks for.

    make prove-debian
    python tools/prove_sources.py bookworm trixie --demo --tests tests/plugins tests/runtime

The other Debian is a minimal one in a folder (tools/chroot.py), with make and g++. It gets the files that git knows, as
they are now, and the Python packages that this machine's pip finds for its Python. Without --tests it runs `make test`.
"""

from __future__ import annotations

import argparse
import platform
import re
import time

from chroot import PYTHONS, Chroot, download, make_chroot
from dependencies import fetch_wheels
from wheels import copy_sources

PACKAGES = ("g++", "make")
# What `make lint` fetches beside the extras, and without what it depends on.
STUBS = "tensorrt-stubs==10.13.0.35.1"
# Of what the extras need, these come as sources, of Python alone.
SOURCES_ALONE = ("ccsdspy", "spectral")


def main() -> None:
    """Install and run; whatever fails ends with a non-zero exit code and its output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", nargs="+", choices=PYTHONS, metavar="SUITE", help=", ".join(PYTHONS))
    parser.add_argument("--demo", action="store_true", help="run `make demo`")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="run only these tests, and not the linters")
    options = parser.parse_args()
    for suite in options.suite:
        prove(make_chroot(suite, platform.machine(), PACKAGES), options.demo, options.tests)


def prove(chroot: Chroot, demo: bool, tests: list[str] | None) -> None:
    """Copy the sources into a Debian, and make there what was asked for."""
    print(f"{chroot.suite}: {', '.join(('python3', 'python3-venv', *PACKAGES))}", flush=True)
    fetch_wheels(chroot, "dev", SOURCES_ALONE)
    download(chroot.folder / "wheels", chroot, [STUBS], alone=True)
    copy_sources(chroot.fresh("/proof/sources"))
    steps = [["make", "install"]]
    if demo:
        steps.append(["make", "demo"])
    steps.append([".venv/bin/python", "-m", "pytest", "-q", *tests] if tests else ["make", "test"])
    for step in steps:
        start = time.monotonic()
        printed = chroot.run(step, "/proof/sources", PIP_NO_INDEX="1", PIP_FIND_LINKS="/wheels", CI="1")
        print(f"  $ {' '.join(step)}    # {time.monotonic() - start:.0f} s")
        lines = printed.strip().splitlines()
        # pytest is run twice: what watches the clock is tested alone.
        for line in (*(one for one in lines[:-6] if re.search(r"\d passed", one)), *lines[-6:]):
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
