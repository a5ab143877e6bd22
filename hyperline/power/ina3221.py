"""INA3221, the three-channel power monitors on a Jetson module, through sysfs.

Two drivers show them:

* hwmon, since kernel 5.10 (JetPack 5 and later): ``in[123]_label``, ``in[123]_input`` in mV, ``curr[123]_input`` in mA
  (kernel, Documentation/hwmon/ina3221.rst);
* NVIDIA's own, in JetPack 4: ``rail_name_[012]``, ``in_power[012]_input`` in mW (L4T 32.7 Development Guide, Power
  Management for Jetson Xavier, "Software-Based Power Consumption Modeling").

Which rails make the module's power is the module's affair (Jetson Linux Developer Guide r36.3, Jetson Orin Nano Series,
Orin NX Series and AGX Orin Series, tables of the INA3221 channels; the labels stand also in the kernel's
tegra234-p3701.dtsi and tegra234-p3767.dtsi):

* Orin Nano, Orin NX, Xavier NX: VDD_IN is the module's input. VDD_CPU_GPU_CV and VDD_SOC are parts of it.
* AGX Orin has no rail for its input; VDD_GPU_SOC, VDD_CPU_CV and VIN_SYS_5V0 add up to it. VDDQ_VDD2_1V8AO is a part of
  VIN_SYS_5V0, as the guide says of that rail, and is not added once more.
* Nano: POM_5V_IN.

None of them sees the carrier board, a camera on its connectors, or the loss of the supply.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperline.power.sensor import Sensor
from hyperline.sysfs import folders, read_number, read_text

_TOTALS = (
    ("VDD_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("POM_5V_IN",),
)


@dataclass(frozen=True)
class Rail:
    """One channel.

    Attributes:
        label: as the device tree names it.
        factors: files whose product is the power.
        unit: watts of that product's unit.
    """

    label: str
    factors: tuple[Path, ...]
    unit: float

    def watts(self) -> float | None:
        """Read the power."""
        product = self.unit
        for factor in self.factors:
            value = read_number(factor)
            if value is None:
                return None
            product *= value
        return product


class Ina3221(Sensor):
    """All rails of a Jetson module."""

    source = "ina3221"
    covers = "the Jetson module (without carrier board, cameras and the loss of the supply)"

    def __init__(self, rails: Sequence[Rail], total: tuple[str, ...]) -> None:
        """Take rails.

        Args:
            rails: as `find_rails` gives them.
            total: labels of those that make up the module's power.
        """
        self._rails = tuple(rails)
        self.rails = tuple(rail.label for rail in rails)
        self.total = total

    def read(self) -> tuple[float, ...] | None:
        """See ``Sensor``. The channels are read one after the other, within some milliseconds."""
        values = [rail.watts() for rail in self._rails]
        known = [value for value in values if value is not None]
        return tuple(known) if len(known) == len(values) else None


def find_rails(root: Path) -> list[Rail]:
    """Return the rails of this machine, whichever driver shows them."""
    return [*_hwmon(root), *_iio(root)]


def total_of(labels: Sequence[str]) -> tuple[str, ...] | None:
    """Return the labels of the rails that make up a module's power; None where no guide says."""
    return next((total for total in _TOTALS if set(total) <= set(labels)), None)


def _hwmon(root: Path) -> Iterator[Rail]:
    for chip in folders(root / "sys/class/hwmon", "hwmon*"):
        if read_text(chip / "name") != "ina3221":
            continue
        for channel in (1, 2, 3):
            label = read_text(chip / f"in{channel}_label")
            voltage, current = chip / f"in{channel}_input", chip / f"curr{channel}_input"
            # in7 and curr4, the sums of a chip, are no rails; a channel without a wire is labelled NC or switched off
            if label and label != "NC" and read_number(voltage) is not None and read_number(current) is not None:
                yield Rail(label, (voltage, current), 1e-6)


def _iio(root: Path) -> Iterator[Rail]:
    for chip in folders(root / "sys/bus/i2c/drivers/ina3221x", "*/iio:device*"):
        for channel in (0, 1, 2):
            label, power = read_text(chip / f"rail_name_{channel}"), chip / f"in_power{channel}_input"
            if label and label != "NC" and read_number(power) is not None:
                yield Rail(label, (power,), 1e-3)
