"""A minimal Debian in a folder, of this machine's architecture or of one that qemu emulates, to prove installs in.

Needs root, and from Debian: debootstrap; for another architecture qemu-user-static and binfmt-support too.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHROOTS = ROOT / "build" / "chroots"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
DEBIAN_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}  # of Debian 12 and 13
# What every command inside sees, and nothing of this machine's own settings.
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}
# In namespaces of their own: whatever ends the command, no mount and no process stays. The shell stays the first
# process: signals do not end a first process, and a program that crashes would hang. No /sys: it is this machine's, and
# ONNX Runtime, emulated, crashes on processors there that are none of its own.
_ENTER = (
    'mount --rbind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/dev/shm" && mount -t proc proc "$0/proc" && '
    'chroot "$0" "$@"; exit $?'
)


@dataclass(frozen=True)
class Chroot:
    """A Debian in a folder.

    Attributes:
        folder: that is its root.
        suite: Debian's name of the release.
        machine: x86_64 or aarch64.
    """

    folder: Path
    suite: str
    machine: str

    def run(self, arguments: Sequence[str | Path], work: str = "/", **environment: str) -> str:
        """Run a command inside; end this program where it fails.

        Args:
            arguments: the command.
            work: the folder inside to run it in.
            environment: variables beside the usual ones.

        Returns:
            What it wrote to its standard output.
        """
        inside = ["env", "--chdir", work, *map(str, arguments)]
        command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", _ENTER, str(self.folder), *inside]
        ended = subprocess.run(command, env=_ENVIRONMENT | environment, capture_output=True, text=True)
        if ended.returncode:
            what = " ".join(map(str, arguments))
            sys.exit(f"in {self.suite} on {self.machine}, {what}:\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def fresh(self, inside: str) -> Path:
        """Return an empty folder inside, whatever an earlier proof left there."""
        folder = self.folder / inside.lstrip("/")
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder


def make_chroot(suite: str, machine: str, packages: Sequence[str] = (), *, python: bool = True) -> Chroot:
    """Make a minimal Debian, or take the one made before.

    Args:
        suite: a key of `PYTHONS`.
        machine: x86_64 or aarch64.
        packages: of Debian, beside ca-certificates.
        python: with python3 and python3-venv.
    """
    if os.geteuid() != 0:
        sys.exit("only root can make another Debian: run it with sudo, or in a container")
    if machine != platform.machine():
        emulate(machine)
    name = "-".join((suite, DEBIAN_NAMES[machine], *(() if python else ("bare",)), *packages))
    folder = CHROOTS / name
    if not folder.is_dir():
        if shutil.which("debootstrap") is None:
            sys.exit("debootstrap is missing: apt-get install debootstrap")
        CHROOTS.mkdir(parents=True, exist_ok=True)
        part = CHROOTS / f"{name}.part"
        if part.exists():
            shutil.rmtree(part)
        listed = ",".join(("ca-certificates", *(("python3", "python3-venv") if python else ()), *packages))
        command = ["debootstrap", "--variant=minbase", f"--arch={DEBIAN_NAMES[machine]}", f"--include={listed}"]
        # A namespace here too: debootstrap mounts, and where it breaks off, forgets.
        check(["unshare", "--mount", *command, suite, str(part), *_mirror()])
        part.rename(folder)
    return Chroot(folder, suite, machine)


def emulate(machine: str) -> None:
    """Let this kernel start programs of another machine, through qemu."""
    if (BINFMT / f"qemu-{machine}").exists():
        return
    if shutil.which("update-binfmts") is None or shutil.which(f"qemu-{machine}-static") is None:
        sys.exit(f"programs for {machine} cannot be run here: apt-get install qemu-user-static binfmt-support")
    if not (BINFMT / "register").exists():
        check(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)])
    check(["update-binfmts", "--enable", f"qemu-{machine}"])


def download(folder: Path, chroot: Chroot, requirements: Sequence[str], alone: bool = False) -> None:
    """Fetch wheels for a chroot's Python and machine, with this machine's pip and its settings.

    Args:
        folder: to put them into; what is there already is not fetched again.
        chroot: that will install them.
        requirements: as pip takes them.
        alone: without what they depend on.
    """
    # What glibc of Debian 12 runs; pip wants each by name.
    platforms = [f"--platform=manylinux_2_{minor}_{chroot.machine}" for minor in range(17, 37)]
    platforms += [f"--platform=manylinux2014_{chroot.machine}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    constraints = ["-c", str(ROOT / "constraints.txt")]
    where = ["--python-version", PYTHONS[chroot.suite], "--find-links", str(folder), "--dest", str(folder)]
    check([*command, *constraints, *where, *platforms, *(("--no-deps",) if alone else ()), *requirements])


def _mirror() -> list[str]:
    """Return the Debian mirror that this machine uses; none: debootstrap's own choice."""
    formatted = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]
    ended = subprocess.run(formatted, capture_output=True, text=True)
    return ended.stdout.split()[:1]


def check(command: Sequence[str]) -> None:
    """Run a command quietly; end this program, with what it said, where it fails."""
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ended.returncode:
        sys.exit(f"{' '.join(command)}:\n{ended.stdout[-4000:]}")
