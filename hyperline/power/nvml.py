"""The power of NVIDIA's discrete GPUs, as their boards measure it."""

from __future__ import annotations

from typing import Literal

from hyperline.nvml import Gpu, Nvml
from hyperline.power.sensor import Sensor


class NvmlSensor(Sensor):
    """One GPU: its energy counter, or before Volta, which has none, its power.

    The counter of a board is brought up to date every 20 to 100 ms; runs of seconds do not notice.
    """

    source = "nvml"
    covers = "the boards of the GPUs"
    on_gpu = True

    def __init__(self, nvml: Nvml, gpu: Gpu, name: str) -> None:
        """Take a GPU that says its energy or its power.

        Args:
            nvml: the library.
            gpu: one of its GPUs.
            name: of the rail.
        """
        self._nvml, self._gpu = nvml, gpu
        self.rails = self.total = (name,)
        self.counts: Literal["watts", "joules"] = "watts" if nvml.joules(gpu) is None else "joules"

    def read(self) -> tuple[float, ...] | None:
        """See ``Sensor``."""
        value = self._nvml.watts(self._gpu) if self.counts == "watts" else self._nvml.joules(self._gpu)
        return None if value is None else (value,)


def gpu_sensors(nvml: Nvml) -> list[NvmlSensor]:
    """Return a sensor for each GPU that has one. A Jetson's GPU has none here: its INA3221 sees it."""
    return [
        NvmlSensor(nvml, gpu, f"{gpu.name} {index}")
        for index, gpu in enumerate(nvml.gpus)
        if nvml.watts(gpu) is not None or nvml.joules(gpu) is not None
    ]
