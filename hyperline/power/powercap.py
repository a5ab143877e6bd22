"""The energy counters of x86 processors (RAPL), through the powercap framework (kernel, power/powercap/powercap.rst).

Packages are counted. ``core`` and ``uncore`` are parts of a package; ``psys`` is a whole platform, its packages
included; ``intel-rapl-mmio`` shows the same package once more. The memory's counter, ``dram``, is not a part of the
package's, and where there is one it is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hyperline.errors import HyperlineError
from hyperline.power.sensor import Sensor
from hyperline.sysfs import folders, read_number, read_text


@dataclass(frozen=True)
class Zone:
    """One counter.

    Attributes:
        name: unique, such as ``package-0`` or ``package-0 dram``.
        counter: file that holds microjoules.
        span: microjoules after which it begins anew.
    """

    name: str
    counter: Path
    span: int


class Powercap(Sensor):
    """All packages of a machine. It must be read before a counter has begun anew twice: within minutes."""

    source = "powercap"
    covers = "the processor packages (and their memory, where it is counted; no other part of the machine)"
    counts: Literal["watts", "joules"] = "joules"

    def __init__(self, zones: Sequence[Zone]) -> None:
        """Take zones as `find_zones` gives them."""
        self._zones = tuple(zones)
        self.rails = self.total = tuple(zone.name for zone in zones)
        self._latest: list[int | None] = [None] * len(zones)
        self._sums = [0] * len(zones)  # microjoules since the first reading

    def read(self) -> tuple[float, ...] | None:
        """See ``Sensor``."""
        values = [read_number(zone.counter) for zone in self._zones]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        for place, (zone, value) in enumerate(zip(self._zones, known, strict=True)):
            before = self._latest[place]
            if before is not None:
                grown = value - before
                self._sums[place] += grown if grown >= 0 else grown + zone.span
            self._latest[place] = value
        return tuple(1e-6 * total for total in self._sums)


def find_zones(root: Path) -> list[Zone]:
    """Return the counters of this machine.

    Raises:
        HyperlineError: there are counters, and this user may not read them.
    """
    zones = []
    for folder in folders(root / "sys/class/powercap", "intel-rapl:*"):
        name = read_text(folder / "name") or ""
        if name.startswith("package"):
            package = name
        elif name == "dram":
            parent = folder.parent / folder.name.rpartition(":")[0]
            package = f"{read_text(parent / 'name')} dram"
        else:
            continue
        counter, span = folder / "energy_uj", read_number(folder / "max_energy_range_uj")
        if _denied(counter):
            raise HyperlineError(
                f"{counter} may be read by root alone; run as root, or until the next boot: "
                "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
            )
        if span and read_number(counter) is not None:
            zones.append(Zone(package, counter, span))
    return zones


def _denied(path: Path) -> bool:
    try:
        path.open("rb").close()
    except PermissionError:
        return True
    except OSError:
        return False
    return False
