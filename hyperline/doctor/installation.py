"""What is installed, and whether it works: packages, native operators, engines."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Iterator

from hyperline.doctor.finding import Finding, fault
from hyperline.environment import installed_version
from hyperline.errors import HyperlineError

# What flies, and what trains; the latter is missing on board, and should be.
_FLIES = ("numpy", "click", "onnxruntime", "rich", "pydantic", "cryptography")
_TRAINS = ("torch", "safetensors", "onnx", "onnxscript")


def examine_installation() -> Iterator[Finding]:
    """Look at everything that was installed."""
    from hyperline import __version__

    yield Finding("hyperline", True, f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    yield _packages("packages", _FLIES, "pip install hyperline")
    yield _packages("packages that train", _TRAINS, "to train and export here: pip install 'hyperline[train]'")
    yield _native_library()
    yield _custom_ops()
    yield from _engines()


def _packages(subject: str, names: tuple[str, ...], fix: str) -> Finding:
    versions = {name: installed_version(name) for name in names}
    detail = ", ".join(f"{name} {held}" if held else f"no {name}" for name, held in versions.items())
    complete = all(versions.values())
    return Finding(subject, complete, detail, None if complete else fix)


def _native_library() -> Finding:
    from hyperline.plugins.native import NativeLibrary

    try:
        library = NativeLibrary()
    except HyperlineError as error:
        return fault("native operators", error)
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
        return fault(subject, error)
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
        return fault(subject, error)
    return Finding(subject, True, "found")
