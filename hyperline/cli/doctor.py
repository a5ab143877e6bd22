"""``hyperline doctor``: what is here, what is not, and what to do about it."""

from __future__ import annotations

import importlib
import json
import platform
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from hyperline.errors import HyperlineError
from hyperline.machine import cpus

# What flies, and what trains; the latter is missing on board, and should be.
_FLIES = ("numpy", "click", "onnxruntime", "rich", "pydantic", "cryptography")
_TRAINS = ("torch", "safetensors", "onnx", "onnxscript")

# 32 frames of 1024 samples × 224 bands in 16 bits, a tenth of a second at 330 lines/s.
_RECEIVE_BYTES = 16 << 20


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        ok: whether it is as it should be.
        detail: what was found.
        fix: what to do where it is not ok, or where more is to be had.
    """

    subject: str
    ok: bool
    detail: str
    fix: str | None = None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> None:
    """Look at this installation: versions, CPU, native operators, engines, cameras. Each fault comes with its fix.

    Exits with 1 where nothing can be flown as it is.
    """
    findings = list(examine())
    if as_json:
        click.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            click.echo(f"{'ok' if finding.ok else '--'}  {finding.subject:<{width}}  {finding.detail}")
            if finding.fix:
                click.echo(f"    {'':<{width}}  -> {finding.fix}")
    if not any(finding.ok and finding.subject.startswith("engine ") for finding in findings):
        sys.exit(1)


def examine() -> Iterator[Finding]:
    """Look at everything, from the ground up."""
    from hyperline import __version__

    yield Finding("hyperline", True, f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    yield _cpu()
    yield _packages("packages", _FLIES, "pip install hyperline")
    yield _packages("packages that train", _TRAINS, "to train and export here: pip install 'hyperline[train]'")
    yield _native_library()
    yield _custom_ops()
    yield from _engines()
    yield from _cameras()


def _cpu() -> Finding:
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)  # of the last core
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    known = [flag for flag in ("avx2", "fma", "avx512f", "avx512_bf16", "asimd", "sve") if flag in flags]
    name = facts.get("model name", platform.machine())
    return Finding("CPU", True, f"{name}, {cpus()} usable, {' '.join(known) or 'no vector features known'}")


def _packages(subject: str, names: tuple[str, ...], fix: str) -> Finding:
    versions = {name: _version(name) for name in names}
    detail = ", ".join(f"{name} {held}" if held else f"no {name}" for name, held in versions.items())
    complete = all(versions.values())
    return Finding(subject, complete, detail, None if complete else fix)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _native_library() -> Finding:
    from hyperline.plugins.native import NativeLibrary

    try:
        library = NativeLibrary()
    except HyperlineError as error:
        return _fault("native operators", error)
    return Finding("native operators", True, f"{library.path}, on {library.instruction_set}")


def _custom_ops() -> Finding:
    subject = "native operators in onnxruntime"
    try:
        import onnxruntime

        from hyperline.plugins.onnxruntime_ops import register_native_ops
    except ImportError as error:
        return Finding(subject, False, f"onnxruntime cannot be imported: {error}", "pip install onnxruntime")
    try:
        register_native_ops(onnxruntime.SessionOptions())
    except HyperlineError as error:
        return _fault(subject, error)
    return Finding(subject, True, f"registered with onnxruntime {onnxruntime.__version__}")


def _engines() -> Iterator[Finding]:
    from hyperline.runtime.engines import ENGINES

    for name, place in ENGINES.items():
        yield _engine(f"engine {name}", *place)


def _engine(subject: str, module: str, kind: str) -> Finding:
    try:
        getattr(importlib.import_module(module), kind).require()
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        return Finding(subject, False, f"cannot be imported: {error}", f"pip install {package}")
    except HyperlineError as error:
        return _fault(subject, error)
    return Finding(subject, True, "found")


def _cameras() -> Iterator[Finding]:
    """Look for GigE Vision cameras, and at what makes them lose frames; takes a second."""
    from hyperline.runtime.sources.camera import find_cameras

    try:
        found = find_cameras()
    except HyperlineError as error:
        yield _fault("cameras", error)
        return
    listed = ", ".join(f"{camera.name} at {camera.address}" for camera in found)
    yield Finding("cameras", True, f"Aravis found; {listed or 'no camera on any network'}")
    if not found:
        return
    held = int(Path("/proc/sys/net/core/rmem_max").read_text())
    yield Finding(
        "camera receive buffer",
        held >= _RECEIVE_BYTES,
        f"a socket may hold {held >> 10} KiB, {_RECEIVE_BYTES >> 10} or more keep frames from being lost",
        None if held >= _RECEIVE_BYTES else f"sudo sysctl -w net.core.rmem_max={_RECEIVE_BYTES}; docs/gige.md",
    )
    for camera in found:
        mtu = _mtu(camera.address)
        fix = "sudo ip link set DEVICE mtu 9000, where camera and switch can do jumbo frames; docs/gige.md"
        yield Finding(f"network of {camera.name}", mtu >= 9000, f"packets of {mtu} bytes", None if mtu >= 9000 else fix)


def _mtu(address: str) -> int:
    """Return the bytes of a packet on the way to an address, 0 where there is no way."""
    ip_mtu = 14  # of linux/in.h, which Python has no name for
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
            return probe.getsockopt(socket.IPPROTO_IP, ip_mtu)
        except OSError:
            return 0


def _fault(subject: str, error: HyperlineError) -> Finding:
    """Part a message into what was found and, behind its last semicolon, what to do."""
    detail, _, fix = str(error).rpartition("; ")
    return Finding(subject, False, detail, fix)
