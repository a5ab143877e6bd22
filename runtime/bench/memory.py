"""What a run takes of memory, the machine's and a GPU's."""

from __future__ import annotations

from pathlib import Path

from hyperline.nvml import open_nvml

_SELF = Path("/proc/self")


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """Return the most that the resident memory was since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Forget the peak so far (proc(5), clear_refs); where the kernel refuses, it stands for the whole process."""
    try:
        (_SELF / "clear_refs").write_text("5")
    except OSError:
        return


def device_bytes(engine: str) -> int | None:
    """Return the GPU memory of this process, or None where the engine has none or the driver does not say."""
    nvml = None if engine == "ort-cpu" else open_nvml()
    return (
        nvml.process_bytes() if nvml else None
    )  # a Jetson's GPU takes the machine's memory, which NVML does not count


def _status(key: str) -> int:
    for line in (_SELF / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return 1024 * int(value.split()[0])
    return 0
