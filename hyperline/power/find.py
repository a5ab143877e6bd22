"""Which power sensors this machine has, and why one that it has cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hyperline.errors import HyperlineError, InputError
from hyperline.nvml import Nvml
from hyperline.power.ina3221 import Ina3221, find_rails, total_of
from hyperline.power.nvml import gpu_sensors
from hyperline.power.powercap import Powercap, find_zones
from hyperline.power.sensor import Sensor


@dataclass(frozen=True)
class Found:
    """The sensors of a machine.

    Attributes:
        sensors: that can be read. No two of them see the same power.
        problems: what is there and cannot be used, with what to do.
    """

    sensors: tuple[Sensor, ...]
    problems: tuple[str, ...]


def find_sensors(root: Path = Path("/"), open_nvml: Callable[[], Nvml] = Nvml) -> Found:
    """Look for sensors.

    Args:
        root: of the file system; another one for tests.
        open_nvml: opens NVIDIA's library.
    """
    sensors: list[Sensor] = []
    problems = []
    rails = find_rails(root)
    if rails:
        labels = [rail.label for rail in rails]
        total = total_of(labels)
        if total is None:
            problems.append(
                f"the INA3221 rails {', '.join(labels)} are measured, and no guide says which of them make up the "
                "module's power; hyperline/power/ina3221.py has the modules that are known"
            )
        else:
            sensors.append(Ina3221(rails, total))
    try:
        zones = find_zones(root)
        if zones:
            sensors.append(Powercap(zones))
    except HyperlineError as error:
        problems.append(str(error))
    try:
        sensors += gpu_sensors(open_nvml())
    except InputError as error:  # the package is missing, which matters where there is a GPU
        if (root / "proc/driver/nvidia/gpus").is_dir():
            problems.append(f"an NVIDIA GPU is here, and {error}")
    except HyperlineError:
        pass
    return Found(tuple(sensors), tuple(problems))
