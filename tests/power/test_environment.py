"""What is known of a machine: this one, and Jetsons as their guides describe them."""

import json

import pytest

from hyperline.conditions import read_conditions, read_power_mode
from hyperline.environment import environment


def test_this_machine_is_described_and_json_takes_it():
    held = json.loads(json.dumps(environment(), allow_nan=False))
    assert held["hyperline"] and held["python"] and held["kernel"]
    assert {"numpy", "onnxruntime"} <= held["packages"].keys()
    assert held["cpu"]["usable"] >= 1 and held["memory"]["total_bytes"] > 2**28
    assert set(held["power"]) == {"sensors", "problems"}


def test_a_bare_root_gives_no_guesses(tmp_path):
    held = environment(tmp_path)
    assert held["os"] is held["board"] is held["jetson"] is held["cpu"]["model"] is None
    assert held["memory"] == {"total_bytes": None, "available_bytes": None, "swap_bytes": None}
    assert held["conditions"]["cpu_mhz"] is None and held["conditions"]["celsius"] == {}
    assert held["power"]["sensors"] == []


def test_a_jetson_is_known_by_board_release_power_mode_clocks_and_rails(orin_nano):
    held = environment(orin_nano.root)
    assert held["board"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert held["jetson"] == {"l4t": "36.4.3", "jetpack": "6.2+b77"}
    assert held["cpu"]["model"] == "Cortex-A78AE" and held["cpu"]["vector_features"] == ["asimd", "asimdhp", "asimddp"]
    conditions = held["conditions"]
    assert conditions["power_mode"] == "1 7W" and conditions["governor"] == "schedutil"
    assert conditions["cpu_mhz"] == pytest.approx((729.6, 730.0))
    assert conditions["cpu_mhz_limits"] == pytest.approx((729.6, 1510.4))
    assert conditions["gpu_mhz"] == {"17000000.gpu": 306.0}
    assert conditions["gpu_mhz_limits"] == {"17000000.gpu": pytest.approx((306.0, 624.75))}
    assert conditions["celsius"]["tj-thermal"] == pytest.approx(48.562) and "cv0-thermal" not in conditions["celsius"]
    (sensor,) = held["power"]["sensors"]
    assert sensor["source"] == "ina3221" and sensor["rails"] == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]


def test_a_jetson_that_is_held_back_says_by_what_and_a_fan_is_no_reason(orin_nano):
    assert read_conditions(orin_nano.root).throttled == ()
    orin_nano.write("sys/class/thermal/cooling_device2/cur_state", 1)
    orin_nano.write("sys/class/hwmon/hwmon3/oc3_event_cnt", 12)
    conditions = read_conditions(orin_nano.root)
    assert conditions.throttled == ("gpu-throttle-alert 1",)
    assert conditions.throttle_events == {"oc1": 0, "oc2": 0, "oc3": 12}


def test_a_power_mode_without_a_name_is_its_number(tree):
    assert read_power_mode(tree.root) is None
    tree.write("var/lib/nvpmodel/status", "pmode:0008")
    assert read_power_mode(tree.root) == "8"


def test_the_clock_of_a_virtual_machine_comes_from_cpuinfo(tree):
    tree.write("proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 2596.118\n\nprocessor\t: 1\ncpu MHz\t\t: 2600.000")
    assert read_conditions(tree.root).cpu_mhz == (2596.118, 2600.0)


def test_an_intel_package_that_was_too_hot_is_counted_once(tree):
    for cpu in (0, 1):
        tree.write(f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle/package_throttle_count", 7)
    assert read_conditions(tree.root).throttle_events == {"package_throttle": 7}
