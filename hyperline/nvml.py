"""NVIDIA's management library, of machines with an NVIDIA GPU, through the package nvidia-ml-py."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from hyperline.errors import HyperlineError, require

# Why a GPU runs slower than it was asked to, and not for want of work (nvml.h, nvmlClocksEventReason*).
_THROTTLING = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal slowdown in software",
    0x40: "thermal slowdown in hardware",
    0x80: "power brake",
}


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as its maker calls it.
        handle: NVML's.
    """

    name: str
    handle: Any


class Nvml:
    """The library, opened; one for a process is enough.

    Attributes:
        driver: version of the driver.
        cuda: version of CUDA that the driver takes.
        gpus: all that are there.
    """

    def __init__(self) -> None:
        """Open the library.

        Raises:
            InputError: the package is not installed.
            HyperlineError: there is no driver or no GPU.
        """
        self._nvml = nvml = require("pynvml", "power")
        try:
            nvml.nvmlInit()
            self.driver = _text(nvml.nvmlSystemGetDriverVersion())
            version = nvml.nvmlSystemGetCudaDriverVersion()
            self.cuda = f"{version // 1000}.{version % 1000 // 10}"
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            self.gpus = tuple(Gpu(_text(nvml.nvmlDeviceGetName(handle)), handle) for handle in handles)
        except nvml.NVMLError as error:
            raise HyperlineError(f"NVML finds no NVIDIA GPU ({error}); nvidia-smi says what is wrong") from error

    def watts(self, gpu: Gpu) -> float | None:
        """Return what the GPU's board draws, or None where it cannot say."""
        milliwatts = self._ask("nvmlDeviceGetPowerUsage", gpu)
        return None if milliwatts is None else 1e-3 * float(milliwatts)

    def joules(self, gpu: Gpu) -> float | None:
        """Return what the board has taken since the driver was loaded; None where it does not count (before Volta)."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption", gpu)
        return None if millijoules is None else 1e-3 * float(millijoules)

    def celsius(self, gpu: Gpu) -> float | None:
        """Return the GPU's temperature."""
        value = self._ask("nvmlDeviceGetTemperature", gpu, 0)  # 0: NVML_TEMPERATURE_GPU
        return None if value is None else float(value)

    def clock_mhz(self, gpu: Gpu) -> int | None:
        """Return the clock of the GPU's multiprocessors."""
        return self._ask("nvmlDeviceGetClockInfo", gpu, 1)  # type: ignore[no-any-return]  # 1: NVML_CLOCK_SM

    def throttling(self, gpu: Gpu) -> list[str]:
        """Return why the GPU is held back now."""
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", gpu) or 0
        return [name for bit, name in _THROTTLING.items() if reasons & bit]

    def process_bytes(self) -> int | None:
        """Return the memory that this process holds on all GPUs; None where the driver does not say."""
        held: list[int] = []
        for gpu in self.gpus:
            processes = self._ask("nvmlDeviceGetComputeRunningProcesses", gpu) or []
            held += [one.usedGpuMemory for one in processes if one.pid == os.getpid() and one.usedGpuMemory]
        return sum(held) if held else None

    def _ask(self, name: str, gpu: Gpu, *more: Any) -> Any:
        try:
            return getattr(self._nvml, name)(gpu.handle, *more)
        except (self._nvml.NVMLError, AttributeError):  # boards differ in what they measure
            return None


def open_nvml() -> Nvml | None:
    """Open the library where it is installed and finds a GPU."""
    try:
        return Nvml()
    except HyperlineError:
        return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
