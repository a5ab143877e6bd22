"""Trees of /sys and /proc as Jetson modules show them.

Where they come from:

* labels, chips and channels of Orin: kernel, arch/arm64/boot/dts/nvidia/tegra234-p3701.dtsi (AGX Orin) and
  tegra234-p3767.dtsi (Orin Nano, Orin NX); files of a chip: Documentation/hwmon/ina3221.rst;
* rails of all four and what they cover, thermal zones, throttle alerts, over-current counters, power modes: Jetson
  Linux Developer Guide r36.3, "Jetson Orin Nano Series, Jetson Orin NX Series and Jetson AGX Orin Series", and r35.2.1,
  "Jetson Xavier NX Series and Jetson AGX Xavier Series"
  (https://docs.nvidia.com/jetson/archives/r36.3/DeveloperGuide/SD/PlatformPowerAndPerformance/);
* Xavier NX under JetPack 4: L4T 32.7.5 Development Guide, "Power Management for Jetson Xavier NX Series and Jetson AGX
  Xavier Series Devices" (https://docs.nvidia.com/jetson/archives/l4t-archived/l4t-3275/).
"""

from __future__ import annotations

from pathlib import Path

import pytest


class Tree:
    """A file system that grows."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, value: object) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")

    def ina3221(self, hwmon: int, rails: dict[int, tuple[str, int, int]]) -> None:
        """One chip: label, mV and mA of each channel; what every chip has besides, no rail among it."""
        chip = f"sys/class/hwmon/hwmon{hwmon}"
        self.write(f"{chip}/name", "ina3221")
        for channel, (label, millivolts, milliamperes) in rails.items():
            self.write(f"{chip}/in{channel}_label", label)
            self.write(f"{chip}/in{channel}_enable", 1)
            self.write(f"{chip}/in{channel}_input", millivolts)
            self.write(f"{chip}/curr{channel}_input", milliamperes)
            self.write(f"{chip}/in{channel + 3}_input", 1240)  # of the shunt, microvolts
            self.write(f"{chip}/shunt{channel}_resistor", 5000)
            self.write(f"{chip}/curr{channel}_crit", 32760)
        self.write(f"{chip}/in7_label", "sum of shunt voltages")
        self.write(f"{chip}/in7_input", 3720)
        self.write(f"{chip}/curr4_input", 2000)

    def orin(self) -> None:
        """What all Orin modules share."""
        self.write("sys/class/hwmon/hwmon0/name", "pwmfan")
        self.write("sys/class/hwmon/hwmon3/name", "soctherm_oc")
        for number in (1, 2, 3):
            self.write(f"sys/class/hwmon/hwmon3/oc{number}_event_cnt", 0)
            self.write(f"sys/class/hwmon/hwmon3/oc{number}_throt_en", 1)
        zones = {"cpu-thermal": 48562, "gpu-thermal": 46031, "soc0-thermal": 47250, "tj-thermal": 48562}
        for number, (zone, temperature) in enumerate(zones.items()):
            self.write(f"sys/class/thermal/thermal_zone{number}/type", zone)
            self.write(f"sys/class/thermal/thermal_zone{number}/temp", temperature)
        self.write("sys/class/thermal/thermal_zone9/type", "cv0-thermal")  # off: reading its temperature fails
        coolers = ("pwm-fan", "cpu-throttle-alert", "gpu-throttle-alert", "hot-surface-alert", "cpufreq-cpu0")
        for number, cooler in enumerate(coolers):
            self.write(f"sys/class/thermal/cooling_device{number}/type", cooler)
            self.write(f"sys/class/thermal/cooling_device{number}/cur_state", 2 if cooler == "pwm-fan" else 0)
        for policy in (0, 4):
            folder = f"sys/devices/system/cpu/cpufreq/policy{policy}"
            self.write(f"{folder}/scaling_governor", "schedutil")
            self.write(f"{folder}/scaling_cur_freq", 729600 + 100 * policy)
            self.write(f"{folder}/scaling_min_freq", 729600)
            self.write(f"{folder}/scaling_max_freq", 1510400)
        for name, hertz in (("cur", 306000000), ("min", 306000000), ("max", 624750000)):
            self.write(f"sys/class/devfreq/17000000.gpu/{name}_freq", hertz)
        self.write("sys/class/devfreq/15340000.vic/cur_freq", 115200000)
        self.write("var/lib/nvpmodel/status", "pmode:0001")
        self.write(
            "etc/nvpmodel.conf",
            "# < POWER_MODEL ID=1 NAME=OLD >\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n"
            "< POWER_MODEL ID=1 NAME=7W >\n< PM_CONFIG DEFAULT=0 >",
        )
        self.write(
            "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64"
        )
        self.write(
            "var/lib/dpkg/status",
            "Package: libc6\nStatus: install ok installed\nVersion: 2.35\n\n"
            "Package: nvidia-jetpack\nStatus: install ok installed\nArchitecture: arm64\nVersion: 6.2+b77\n",
        )
        self.write(
            "proc/cpuinfo",
            "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd42",
        )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def orin_nano(tree: Tree) -> Tree:
    tree.orin()
    tree.write("proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    tree.ina3221(1, {1: ("VDD_IN", 5072, 1104), 2: ("VDD_CPU_GPU_CV", 5064, 184), 3: ("VDD_SOC", 5064, 304)})
    return tree


@pytest.fixture
def orin_nx(tree: Tree) -> Tree:
    tree.orin()
    tree.write("proc/device-tree/model", "NVIDIA Jetson Orin NX\0")
    tree.ina3221(1, {1: ("VDD_IN", 19104, 320), 2: ("VDD_CPU_GPU_CV", 19088, 60), 3: ("VDD_SOC", 19088, 88)})
    return tree


@pytest.fixture
def agx_orin(tree: Tree) -> Tree:
    tree.orin()
    tree.write("proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
    tree.ina3221(1, {1: ("VDD_GPU_SOC", 19872, 200), 2: ("VDD_CPU_CV", 19864, 40), 3: ("VIN_SYS_5V0", 4968, 640)})
    tree.ina3221(2, {1: ("NC", 0, 0), 2: ("VDDQ_VDD2_1V8AO", 4968, 80), 3: ("NC", 0, 0)})
    return tree


@pytest.fixture
def xavier_nx(tree: Tree) -> Tree:
    """JetPack 5: kernel 5.10, hwmon."""
    tree.write("proc/device-tree/model", "NVIDIA Jetson Xavier NX Developer Kit\0")
    tree.write("etc/nv_tegra_release", "# R35 (release), REVISION: 2.1, GCID: 32413640")
    tree.write("sys/class/devfreq/17000000.gv11b/cur_freq", 114750000)
    tree.ina3221(5, {1: ("VDD_IN", 5008, 900), 2: ("VDD_CPU_GPU_CV", 5000, 120), 3: ("VDD_SOC", 5000, 200)})
    return tree


@pytest.fixture
def xavier_nx_jetpack4(tree: Tree) -> Tree:
    """Kernel 4.9, NVIDIA's own driver."""
    tree.write("etc/nv_tegra_release", "# R32 (release), REVISION: 7.5, GCID: 36634026")
    chip = "sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0"
    rails = (("VDD_IN", 5008, 900, 4507), ("VDD_CPU_GPU_CV", 5000, 120, 600), ("VDD_SOC", 5000, 200, 1000))
    for channel, (label, millivolts, milliamperes, milliwatts) in enumerate(rails):
        tree.write(f"{chip}/rail_name_{channel}", label)
        tree.write(f"{chip}/in_voltage{channel}_input", millivolts)
        tree.write(f"{chip}/in_current{channel}_input", milliamperes)
        tree.write(f"{chip}/in_power{channel}_input", milliwatts)
    return tree


@pytest.fixture
def server(tree: Tree) -> Tree:
    """Two packages, as kernel power/powercap/powercap.rst shows them, a platform, and a second view of package 0."""

    def zone(path: str, name: str, microjoules: int, span: int = 262143328850) -> None:
        tree.write(f"sys/class/powercap/{path}/name", name)
        tree.write(f"sys/class/powercap/{path}/energy_uj", microjoules)
        tree.write(f"sys/class/powercap/{path}/max_energy_range_uj", span)

    tree.write("sys/class/powercap/intel-rapl/enabled", 1)
    zone("intel-rapl:0", "package-0", 1_000_000)
    zone("intel-rapl:0:0", "core", 500_000)
    zone("intel-rapl:0:1", "dram", 2_000_000)
    zone("intel-rapl:1", "package-1", 262143328850 - 1_000_000)
    zone("intel-rapl:2", "psys", 9_000_000)
    zone("intel-rapl-mmio:0", "package-0", 1_000_000)
    return tree
