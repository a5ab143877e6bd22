"""Findings on machines that are not this one, by what their /proc and /sys say."""

import pytest

from hyperline.doctor import clock, disk, machine, network


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def examined(root):
    return {finding.subject: finding for finding in machine.examine_machine(root)}


JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
    "var/lib/dpkg/status": "Package: nvidia-jetpack\nStatus: install ok installed\nVersion: 6.2+b77\n",
    "var/lib/nvpmodel/status": "pmode:0002",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=2 NAME=MAXN_SUPER >",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "729600",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "729600",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1728000",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "51250",
}


def test_a_jetson_is_told_by_its_release_and_power_mode(tmp_path):
    write(tmp_path, JETSON)
    found = examined(tmp_path)
    assert "Jetson Orin Nano" in found["GPU"].detail and "JetPack 6.2+b77" in found["GPU"].detail
    assert "L4T 36.4.3" in found["GPU"].detail
    assert found["power mode"].detail == "nvpmodel 2 MAXN_SUPER"
    assert found["heat"].ok and "51 °C at cpu-thermal" in found["heat"].detail


def test_a_governor_that_saves_power_comes_with_its_fix(tmp_path):
    write(tmp_path, JETSON)
    clocks = examined(tmp_path)["clocks"]
    assert not clocks.ok
    assert "730 of 730 to 1728, governor schedutil" in clocks.detail.replace("730 to 730 MHz", "730")
    assert "jetson_clocks" in clocks.fix
    write(tmp_path, {"sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "performance"})
    assert examined(tmp_path)["clocks"].ok


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"sys/class/thermal/thermal_zone0/temp": "97000"}, "97 °C at cpu-thermal"),
        (
            {
                "sys/class/thermal/cooling_device3/type": "cpu-throttle-alert",
                "sys/class/thermal/cooling_device3/cur_state": 1,
            },
            "held back by cpu-throttle-alert",
        ),
    ],
)
def test_a_hot_machine_comes_with_its_fix(tmp_path, files, says):
    write(tmp_path, JETSON | files)
    heat = examined(tmp_path)["heat"]
    assert not heat.ok and says in heat.detail and heat.fix


def test_a_machine_that_says_nothing_gets_no_guess(tmp_path):
    found = examined(tmp_path)
    assert found["clocks"].ok and "no governor" in found["clocks"].detail
    assert "no temperature is shown" in found["heat"].detail
    assert "power mode" not in found
    assert not found["power sensors"].ok and "no power sensor" in found["power sensors"].detail


@pytest.mark.parametrize(("held", "ok"), [(212992, False), (16777216, True)])
def test_a_short_receive_buffer_comes_with_its_fix(tmp_path, held, ok):
    write(tmp_path, {"proc/sys/net/core/rmem_max": held})
    finding = network.examine_receive_buffer(tmp_path)
    assert finding.ok == ok
    assert (finding.fix is None) == ok


def test_a_disk_is_measured_and_left_as_it_was(tmp_path):
    finding = disk.examine_disk(tmp_path / "strip")
    assert "MB/s written and synced" in finding.detail
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", full)
    finding = disk.examine_disk(tmp_path)
    assert not finding.ok and "No space left" in finding.detail and "make room" in finding.fix


@pytest.mark.parametrize(("answer", "error_us", "ok"), [(0, 1500, True), (0, 400_000, False), (5, 16_000_000, False)])
def test_a_clock_is_right_if_the_kernel_says_so(monkeypatch, answer, error_us, ok):
    class Library:
        @staticmethod
        def adjtimex(pointer):
            pointer._obj.maxerror = error_us
            return answer

    monkeypatch.setattr(clock.ctypes, "CDLL", lambda *_, **__: Library)
    finding = clock.examine_clock()
    assert finding.ok == ok
    assert (finding.fix is None) == ok


def test_a_sender_that_is_not_there_is_said(unused_port=9):
    finding = network.examine_source(f"tcp://127.0.0.1:{unused_port}")
    assert not finding.ok and "start the sender" in finding.fix


def test_a_sender_that_listens_is_reached():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        finding = network.examine_source(f"tcp://127.0.0.1:{server.getsockname()[1]}")
    assert finding.ok and finding.detail == "a sender answers"


def test_a_scene_is_read():
    finding = network.examine_source("/nowhere.npz")
    assert not finding.ok and "/nowhere.npz" in finding.detail + finding.subject
