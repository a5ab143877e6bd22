"""What a figure was measured on: software, processor, memory, clocks, GPU, power sensors.

All of it is read from the file system and from package metadata: nothing is imported that is not light, and nothing
is asked of a network. What a machine does not say is None, never a guess.
"""

from __future__ import annotations

import json
import os
import platform
import re
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hyperline import __version__
from hyperline.conditions import read_conditions
from hyperline.machine import cpus
from hyperline.nvml import Nvml, open_nvml
from hyperline.power import find_sensors
from hyperline.sysfs import read_text

# What speed depends on, as far as it is installed.
_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt", "cuda-core", "cuda-bindings", "torch")
# What the native kernels choose by.
_VECTOR_FEATURES = (
    *("sse2", "avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "sve", "sve2", "i8mm", "bf16"),
)


def environment(root: Path = Path("/")) -> dict[str, Any]:
    """Describe this machine and what is installed on it, now.

    Args:
        root: of the file system; another one for tests.

    Returns:
        What `json.dumps` takes:

        * ``time`` (UTC), ``hyperline``, ``python``, ``packages`` {name: version}, ``os``, ``kernel``, ``architecture``;
        * ``board``: of the device tree or of the firmware, None where neither says;
        * ``cpu``: {model, usable, online, vector_features};
        * ``memory``: {total_bytes, available_bytes, swap_bytes}, ``load``: of 1, 5 and 15 minutes;
        * ``conditions``: `hyperline.conditions.Conditions` (power mode, governor, clocks, temperatures, throttling);
        * ``gpu``: {driver, cuda, devices: [names]}, or None; ``cuda_toolkit``: version or None;
        * ``jetson``: {l4t, jetpack}, or None;
        * ``power``: {sensors: [{source, covers, rails}], problems: [text]}.
    """
    nvml = open_nvml()
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hyperline": __version__,
        "python": platform.python_version(),
        "packages": {name: held for name in _PACKAGES if (held := installed_version(name))},
        "os": _os(root),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "board": read_text(root / "proc/device-tree/model") or read_text(root / "sys/class/dmi/id/product_name"),
        "cpu": _cpu(root),
        "memory": _memory(root),
        "load": list(os.getloadavg()),
        "conditions": asdict(read_conditions(root, nvml)),
        "gpu": _gpu(nvml),
        "cuda_toolkit": _cuda_toolkit(root),
        "jetson": _jetson(root),
        "power": _power(root),
    }


def installed_version(package: str) -> str | None:
    """Return the release of a package that is installed here, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _os(root: Path) -> str | None:
    named = re.search(r'^PRETTY_NAME="?([^"\n]*)', read_text(root / "etc/os-release") or "", re.MULTILINE)
    return named[1] if named else None


def _cpu(root: Path) -> dict[str, Any]:
    facts = dict(line.split(":", 1) for line in (read_text(root / "proc/cpuinfo") or "").splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}  # of the last core
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return {
        "model": facts.get("model name") or _arm_core(facts),
        "usable": cpus(),
        "online": read_text(root / "sys/devices/system/cpu/online"),
        "vector_features": [feature for feature in _VECTOR_FEATURES if feature in flags],
    }


def _arm_core(facts: dict[str, str]) -> str | None:
    """ARM's /proc/cpuinfo names no model, but its maker and part (arch/arm64/include/asm/cputype.h)."""
    parts = {"0xd0b": "Cortex-A76", "0xd42": "Cortex-A78AE", "0x004": "NVIDIA Carmel", "0xd83": "Neoverse V3AE"}
    part = facts.get("CPU part")
    return parts.get(part, f"ARM implementer {facts.get('CPU implementer')} part {part}") if part else None


def _memory(root: Path) -> dict[str, int | None]:
    text = read_text(root / "proc/meminfo") or ""
    held = {name: 1024 * int(kilobytes) for name, kilobytes in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    names = {"total_bytes": "MemTotal", "available_bytes": "MemAvailable", "swap_bytes": "SwapTotal"}
    return {key: held.get(name) for key, name in names.items()}


def _gpu(nvml: Nvml | None) -> dict[str, Any] | None:
    if nvml is None:
        return None
    return {"driver": nvml.driver, "cuda": nvml.cuda, "devices": [gpu.name for gpu in nvml.gpus]}


def _cuda_toolkit(root: Path) -> str | None:
    try:
        return str(json.loads(read_text(root / "usr/local/cuda/version.json") or "")["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return None


def _jetson(root: Path) -> dict[str, str | None] | None:
    """Read /etc/nv_tegra_release: ``# R36 (release), REVISION: 4.3, GCID: …``."""
    held = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", read_text(root / "etc/nv_tegra_release") or "")
    if held is None:
        return None
    pattern = r"^Package: nvidia-jetpack\n(?:.+\n)*?Version: (\S+)"
    jetpack = re.search(pattern, read_text(root / "var/lib/dpkg/status") or "", re.MULTILINE)
    return {"l4t": f"{held[1]}.{held[2]}", "jetpack": jetpack[1] if jetpack else None}


def _power(root: Path) -> dict[str, Any]:
    found = find_sensors(root)
    sensors = [{"source": one.source, "covers": one.covers, "rails": list(one.rails)} for one in found.sensors]
    return {"sensors": sensors, "problems": list(found.problems)}
