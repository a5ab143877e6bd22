"""The wheels that an installation from sources asks for, carried into a Debian of tools/chroot.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from chroot import ROOT, Chroot, check, download
from prove_wheel import find_wheel

# What the build backend needs where the system has none.
BACKEND = ("scikit-build-core>=1.0", "cmake>=3.24", "ninja>=1.5")


def fetch_wheels(chroot: Chroot, extras: str, from_sources: Sequence[str] = ()) -> None:
    """Fill /wheels of a chroot with what the sources need there, for installs without a package index.

    Args:
        chroot: that will install them.
        extras: of hyperline, such as ``train,geo``; the wheel of `make wheels` knows what they need.
        from_sources: packages of Python alone that are published as sources only.
    """
    wheels = chroot.folder / "wheels"
    for stale in wheels.glob("hyperline-*.whl"):
        stale.unlink()
    if from_sources:
        made = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        made += ["--wheel-dir", str(wheels), "-c", str(ROOT / "constraints.txt")]
        check([*made, *from_sources])
    download(wheels, chroot, [f"hyperline[{extras}] @ {find_wheel(chroot.machine).as_uri()}", *BACKEND])
    # it is not what is installed
    next(wheels.glob("hyperline-*.whl")).unlink()
