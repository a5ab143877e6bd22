"""What TensorRT needs of this machine: its Python module, a GPU with a driver, and our plugin."""

from __future__ import annotations

import hashlib
import importlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperline.errors import HyperlineError, InputError
from hyperline.plugins.native import find_library

if TYPE_CHECKING:
    import tensorrt
    from cuda.core import Device

PLUGIN_LIBRARY = "libhyperline_trt.so"
_OLDEST = (10, 3)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Toolkit:
    """TensorRT and the GPU, found and ready.

    Attributes:
        trt: the module ``tensorrt``, or ``tensorrt_rtx``, which has the same interface.
        cuda: the module ``cuda.core``.
        device: the GPU, current in this thread.
        plugin: our plugin library, loaded into TensorRT's registry; None where it is not installed.
    """

    trt: Any
    cuda: Any
    device: Device
    plugin: Path | None

    @property
    def version(self) -> tuple[int, ...]:
        """Version of TensorRT, such as (10, 3, 0)."""
        return version_of(self.trt)

    @property
    def gpu(self) -> str:
        """Name and compute capability, such as ``"Orin, sm_87"``."""
        return f"{self.device.name}, sm_{self.device.arch}"

    @property
    def plugin_sha256(self) -> str | None:
        """Hash of the plugin library."""
        return hashlib.sha256(self.plugin.read_bytes()).hexdigest() if self.plugin else None


def version_of(trt: Any) -> tuple[int, ...]:
    """Return the version of a TensorRT module as numbers."""
    return tuple(int(number) for number in re.findall(r"\d+", trt.__version__)[:3])


def find_toolkit() -> Toolkit:
    """Look for TensorRT and a GPU, and load our plugin.

    Raises:
        InputError: something is missing here; the message says what, and how to get it.
        HyperlineError: TensorRT refuses our plugin.
    """
    trt = _module(
        "tensorrt",
        "on a Jetson it comes with JetPack (sudo apt install python3-libnvinfer, and a virtual environment made with "
        "--system-site-packages), elsewhere: pip install 'hyperline[tensorrt]'",
    )
    if version_of(trt) < _OLDEST:
        raise InputError(
            f"TensorRT {trt.__version__} is too old; hyperline needs {'.'.join(map(str, _OLDEST))} or newer, which "
            "JetPack 6.2 brings"
        )
    cuda = _module("cuda.core", "pip install cuda-core 'cuda-bindings==12.*' on JetPack 6, 'cuda-bindings==13.*' later")
    try:
        device = cuda.Device()
        device.set_current()
    except Exception as error:  # the driver, its bindings and its loader share no base class
        raise InputError(
            f"no NVIDIA GPU can be used here ({_first_line(error)}); run this on the device, with its driver: "
            "nvidia-smi lists the GPUs"
        ) from error
    plugin = find_library(PLUGIN_LIBRARY)
    if plugin is None:
        _LOG.warning(
            "%s is not installed, so the operators run as TensorRT's own layers, some times slower; install hyperline "
            "again with --config-settings=cmake.define.HYPERLINE_CUDA=ON "
            "--config-settings=cmake.define.HYPERLINE_TENSORRT=ON",
            PLUGIN_LIBRARY,
        )
    else:
        try:
            trt.get_plugin_registry().load_library(str(plugin))
        except Exception as error:  # pybind11 raises what it likes
            raise HyperlineError(
                f"TensorRT {trt.__version__} does not take {plugin} ({_first_line(error)}); install hyperline again "
                "with the headers of this release"
            ) from error
    return Toolkit(trt, cuda, device, plugin)


class ErrorLog:
    """TensorRT's own log: all of it goes to ours, and its errors are kept for the message that a person gets.

    Attributes:
        errors: messages of severity error and worse, oldest first.
        logger: what TensorRT's classes take; must outlive them.
    """

    def __init__(self, trt: Any) -> None:
        self.errors: list[str] = []
        errors, severities = self.errors, trt.ILogger.Severity
        # Warnings of the parser are many and say nothing to a user.
        levels = {severities.INTERNAL_ERROR: logging.INFO, severities.ERROR: logging.INFO}

        class Forward(trt.ILogger):  # type: ignore[misc]  # the base is only known at run time
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in levels:
                    errors.append(message)
                _LOG.log(levels.get(severity, logging.DEBUG), "TensorRT: %s", message)

        self.logger: tensorrt.ILogger = Forward()

    def reason(self) -> str:
        """Return the first error, which names the cause; those behind it follow from it."""
        return self.errors[0].strip().replace("\n", " ") if self.errors else "TensorRT gave no reason"


def _module(name: str, remedy: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{name} cannot be imported ({_first_line(error)}); {remedy}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
