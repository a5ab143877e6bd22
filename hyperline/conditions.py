"""What a machine grants a run: power mode, clocks, temperatures, and whether it is held back.

Two machines of one name differ by a factor of three in these, and so does one machine on a hot day: no speed means
anything without them. Places in /sys:

* clocks: ``cpufreq`` (kernel, admin-guide/pm/cpufreq) and ``devfreq`` for the GPU of a Jetson;
* temperatures: thermal zones (kernel, driver-api/thermal/sysfs-api) and, on x86, the processor's own sensor in hwmon;
* held back: cooling devices that are on, a Jetson's ``*-throttle-alert`` among them, and counters of over-current
  events (``soctherm_oc``; Jetson Linux Developer Guide r36, Jetson Orin, thermal management and over-current
  throttling), Intel's ``thermal_throttle`` counters;
* power mode: ``nvpmodel``, which keeps its choice in /var/lib/nvpmodel/status (same guide, "Supported Modes and Power
  Efficiency").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hyperline.nvml import Nvml
from hyperline.sysfs import folders, read_number, read_text

_GPU = re.compile(r"gpu|gv11b|ga10b|gp10b|gm20b")
_HOLDS_BACK = re.compile(r"alert|cpufreq|devfreq|processor|powerclamp", re.IGNORECASE)
_CPU_SENSORS = ("k10temp", "coretemp", "zenpower")


@dataclass(frozen=True)
class Conditions:
    """At one moment.

    Attributes:
        power_mode: of a Jetson, number and name.
        governor: of the CPUs' clocks; several with commas.
        cpu_mhz: (lowest, highest) clock among the CPUs; None where no CPU says.
        cpu_mhz_limits: (lowest, highest) that the governor may choose.
        gpu_mhz: clock of each GPU.
        gpu_mhz_limits: (lowest, highest) that its governor may choose, where /sys says so.
        celsius: temperature by thermal zone, sensor or GPU.
        throttled: what holds the machine back now.
        throttle_events: times that something did since the machine started.
    """

    power_mode: str | None
    governor: str | None
    cpu_mhz: tuple[float, float] | None
    cpu_mhz_limits: tuple[float, float] | None
    gpu_mhz: dict[str, float]
    gpu_mhz_limits: dict[str, tuple[float, float]]
    celsius: dict[str, float]
    throttled: tuple[str, ...]
    throttle_events: dict[str, int]


def read_conditions(root: Path = Path("/"), nvml: Nvml | None = None) -> Conditions:
    """Look at the machine; some milliseconds.

    Args:
        root: of the file system; another one for tests.
        nvml: the library that knows the discrete GPUs; None leaves them out.
    """
    policies = folders(root / "sys/devices/system/cpu/cpufreq", "policy*")
    governors = {text for one in policies if (text := read_text(one / "scaling_governor"))}
    limits = [found for one in policies if (found := _limits(one / "scaling_min_freq", one / "scaling_max_freq", 1e-3))]
    clocks = [1e-3 * khz for one in policies if (khz := read_number(one / "scaling_cur_freq"))]
    clocks = clocks or list(_cpuinfo_clocks(root))
    gpus = [one for one in folders(root / "sys/class/devfreq", "*") if _GPU.search(one.name)]
    boards = {f"{gpu.name} {index}": gpu for index, gpu in enumerate(nvml.gpus)} if nvml else {}
    gpu_mhz = {one.name: 1e-6 * hertz for one in gpus if (hertz := read_number(one / "cur_freq")) is not None}
    celsius, throttled = dict(_temperatures(root)), list(_throttled(root))
    for name, gpu in boards.items():
        assert nvml is not None
        if (clock := nvml.clock_mhz(gpu)) is not None:
            gpu_mhz[name] = float(clock)
        if (temperature := nvml.celsius(gpu)) is not None:
            celsius[name] = temperature
        throttled += [f"{name}: {reason}" for reason in nvml.throttling(gpu)]
    return Conditions(
        power_mode=read_power_mode(root),
        governor=",".join(sorted(governors)) or None,
        cpu_mhz=(min(clocks), max(clocks)) if clocks else None,
        cpu_mhz_limits=(min(low for low, _ in limits), max(high for _, high in limits)) if limits else None,
        gpu_mhz=gpu_mhz,
        gpu_mhz_limits={
            one.name: found for one in gpus if (found := _limits(one / "min_freq", one / "max_freq", 1e-6))
        },
        celsius=celsius,
        throttled=tuple(throttled),
        throttle_events=dict(_throttle_events(root)),
    )


def _limits(low: Path, high: Path, mhz: float) -> tuple[float, float] | None:
    least, most = read_number(low), read_number(high)
    return None if least is None or most is None else (mhz * least, mhz * most)


def read_power_mode(root: Path = Path("/")) -> str | None:
    """Return number and name of a Jetson's power mode, such as ``"2 MAXN"``; None elsewhere."""
    held = re.search(r"pmode:\s*0*(\d+)", read_text(root / "var/lib/nvpmodel/status") or "")
    if held is None:
        return None
    # The line of the mode, not one that was commented out: < POWER_MODEL ID=2 NAME=MAXN >
    pattern = rf"^\s*<\s*POWER_MODEL\s+ID={held[1]}\s+NAME=(\S+)"
    named = re.search(pattern, read_text(root / "etc/nvpmodel.conf") or "", re.MULTILINE)
    return f"{held[1]} {named[1]}" if named else held[1]


def _cpuinfo_clocks(root: Path) -> Iterator[float]:
    """Virtual machines have no cpufreq, but x86 says a clock there."""
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "cpu MHz":
            yield float(value)


def _temperatures(root: Path) -> Iterator[tuple[str, float]]:
    for zone in folders(root / "sys/class/thermal", "thermal_zone*"):
        name, value = read_text(zone / "type"), read_number(zone / "temp")
        if name and value is not None:  # a zone of a part that is off gives an error
            yield f"{name} ({zone.name.removeprefix('thermal_')})" if name == "acpitz" else name, 1e-3 * value
    for sensor in folders(root / "sys/class/hwmon", "hwmon*"):
        name, value = read_text(sensor / "name"), read_number(sensor / "temp1_input")
        if name in _CPU_SENSORS and value is not None:
            yield f"{name} ({sensor.name})", 1e-3 * value


def _throttled(root: Path) -> Iterator[str]:
    for device in folders(root / "sys/class/thermal", "cooling_device*"):
        name, state = read_text(device / "type"), read_number(device / "cur_state")
        if name and _HOLDS_BACK.search(name) and state is not None and state > 0:
            yield f"{name} {state}"


def _throttle_events(root: Path) -> Iterator[tuple[str, int]]:
    for sensor in folders(root / "sys/class/hwmon", "hwmon*"):
        if read_text(sensor / "name") == "soctherm_oc":
            for counter in sorted(sensor.glob("oc*_event_cnt")):
                if (count := read_number(counter)) is not None:
                    yield counter.name.removesuffix("_event_cnt"), count
    counts = [
        count
        for cpu in folders(root / "sys/devices/system/cpu", "cpu[0-9]*")
        if (count := read_number(cpu / "thermal_throttle/package_throttle_count")) is not None
    ]
    if counts:  # every CPU of a package gives the package's count
        yield "package_throttle", max(counts)
