"""The machine that a strip is to be flown on: processor, clocks, power, GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hyperline.conditions import Conditions, read_conditions
from hyperline.doctor.finding import Finding
from hyperline.environment import environment

_FASTEST = ("performance",)
_HOT_CELSIUS = 85.0  # a Jetson Orin slows down at 99, most processors at 95 to 105


def examine_machine(root: Path = Path("/")) -> Iterator[Finding]:
    """Look at what sets the speed of a run.

    Args:
        root: of the file system; another one for tests.
    """
    facts, conditions = environment(root), read_conditions(root)
    yield _processor(facts)
    yield _clocks(conditions)
    yield from _power_mode(facts, conditions)
    yield _heat(conditions)
    yield _power_sensors(facts)
    yield _gpu(facts)
    yield _tensorrt()


def _processor(facts: dict[str, Any]) -> Finding:
    cpu, memory = facts["cpu"], facts["memory"]
    features = " ".join(cpu["vector_features"]) or "no vector features known"
    total = memory["total_bytes"]
    size = f"{total / 2**30:.1f} GiB of memory" if total else "memory unknown"
    return Finding("CPU", True, f"{cpu['model'] or facts['architecture']}, {cpu['usable']} usable, {features}; {size}")


def _clocks(conditions: Conditions) -> Finding:
    subject, governor, mhz = "clocks", conditions.governor, conditions.cpu_mhz
    now = f"CPU at {mhz[0]:.0f} to {mhz[1]:.0f} MHz" if mhz else "the CPU's clock is not shown"
    if governor is None:
        return Finding(subject, True, f"{now}; no governor here, as in virtual machines: the host decides")
    limits = conditions.cpu_mhz_limits
    reach = f" of {limits[0]:.0f} to {limits[1]:.0f}" if limits else ""
    gpus = "".join(f"; {name} at {clock:.0f} MHz" for name, clock in conditions.gpu_mhz.items())
    if governor in _FASTEST:
        return Finding(subject, True, f"{now}{reach}, governor {governor}{gpus}")
    return Finding(
        subject,
        False,
        f"{now}{reach}, governor {governor}{gpus}: the first blocks after a pause are slow",
        "sudo cpupower frequency-set -g performance; on a Jetson sudo jetson_clocks",
    )


def _power_mode(facts: dict[str, Any], conditions: Conditions) -> Iterator[Finding]:
    if facts["jetson"] is None and conditions.power_mode is None:
        return
    yield Finding(
        "power mode",
        conditions.power_mode is not None,
        f"nvpmodel {conditions.power_mode}" if conditions.power_mode else "nvpmodel has chosen none",
        "sudo nvpmodel -q says which there are, sudo nvpmodel -m N takes one; measure in the one that flies",
    )


def _heat(conditions: Conditions) -> Finding:
    subject = "heat"
    held_back = ", ".join(conditions.throttled)
    events = ", ".join(f"{name} {count}" for name, count in conditions.throttle_events.items() if count)
    since = f"; since the machine started: {events}" if events else ""
    fix = "cool it, or take a lower power mode whose speed it can keep"
    if held_back:
        return Finding(subject, False, f"held back by {held_back}{since}", fix)
    if not conditions.celsius:
        return Finding(subject, True, f"no temperature is shown here{since}")
    name, hottest = max(conditions.celsius.items(), key=lambda pair: pair[1])
    cool = hottest < _HOT_CELSIUS
    return Finding(
        subject, cool, f"{hottest:.0f} °C at {name}, nothing holds the machine back{since}", None if cool else fix
    )


def _power_sensors(facts: dict[str, Any]) -> Finding:
    subject = "power sensors"
    listed = ", ".join(f"{sensor['source']} ({sensor['covers']})" for sensor in facts["power"]["sensors"])
    problems = "; ".join(facts["power"]["problems"])
    if listed:
        return Finding(subject, True, listed + (f"; {problems}" if problems else ""))
    return Finding(
        subject,
        False,
        problems or "no power sensor",
        "hyperline bench then measures no energy; docs/bench.md has which it reads",
    )


def _gpu(facts: dict[str, Any]) -> Finding:
    subject, gpu, jetson = "GPU", facts["gpu"], facts["jetson"]
    parts = []
    if gpu is not None:
        parts.append(f"{', '.join(gpu['devices'])}, driver {gpu['driver']}, CUDA up to {gpu['cuda']}")
    if jetson is not None:
        parts.append(
            f"{facts['board']}, L4T {jetson['l4t']}, JetPack {jetson['jetpack'] or 'not installed as a package'}"
        )
    if facts["cuda_toolkit"]:
        parts.append(f"CUDA toolkit {facts['cuda_toolkit']}")
    if gpu is not None or jetson is not None:
        return Finding(subject, True, "; ".join(parts))
    return Finding(
        subject,
        False,
        "; ".join(["no NVIDIA GPU is seen", *parts]),
        "none is needed: ort-cpu flies. Where there is one: its driver, and pip install 'hyperline[power]' to ask it",
    )


def _tensorrt() -> Finding:
    """Ask TensorRT's own library, whichever the system's loader finds."""
    subject = "TensorRT"
    for name in ("libnvinfer.so", *(f"libnvinfer.so.{major}" for major in (11, 10))):
        try:
            number = ctypes.CDLL(name).getInferLibVersion()
        except (OSError, AttributeError):
            continue
        # 10.3.0 is 100300, and 8.6.1 was 8601
        major, minor = (
            (number // 10000, number // 100 % 100) if number >= 10000 else (number // 1000, number // 100 % 10)
        )
        fits = (major, minor) >= (10, 3)
        return Finding(
            subject, fits, f"{major}.{minor}.{number % 100} ({name})", None if fits else "10.3 or newer, of JetPack 6.2"
        )
    return Finding(
        subject,
        False,
        "no libnvinfer is found",
        "for engine tensorrt: JetPack 6.2 or newer, or pip install 'hyperline[tensorrt]'",
    )
