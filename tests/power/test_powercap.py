"""Energy counters of processors: which are added, and what happens when one begins anew."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from hyperline.errors import InputError
from hyperline.power import find_sensors

SPAN = 262143328850


def no_nvml():
    raise InputError("not installed")


def test_packages_and_their_memory_are_counted_and_nothing_twice(server):
    (sensor,) = find_sensors(server.root, no_nvml).sensors
    assert sensor.rails == ("package-0", "package-1", "package-0 dram") == sensor.total
    assert sensor.counts == "joules"


def test_a_counter_that_begins_anew_goes_on(server):
    (sensor,) = find_sensors(server.root, no_nvml).sensors
    assert sensor.read() == (0.0, 0.0, 0.0)
    server.write("sys/class/powercap/intel-rapl:0/energy_uj", 1_500_000)
    server.write("sys/class/powercap/intel-rapl:1/energy_uj", 250_000)  # 1 J before its end, then 0.25 J
    assert sensor.read() == pytest.approx((0.5, 1.25, 0.0))
    server.write("sys/class/powercap/intel-rapl:1/energy_uj", 750_000)
    assert sensor.read() == pytest.approx((0.5, 1.75, 0.0))


def test_a_counter_that_vanishes_gives_no_number(server):
    (sensor,) = find_sensors(server.root, no_nvml).sensors
    (server.root / "sys/class/powercap/intel-rapl:1/energy_uj").unlink()
    assert sensor.read() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_read_is_told_what_to_do(server):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        root = Path(name)
        root.chmod(0o755)
        shutil.copytree(server.root / "sys", root / "sys")
        for counter in root.glob("sys/class/powercap/*/energy_uj"):
            counter.chmod(0o400)
        os.seteuid(65534)
        try:
            found = find_sensors(root, no_nvml)
        finally:
            os.seteuid(0)
    assert found.sensors == ()
    assert "root alone" in found.problems[0] and "sudo chmod a+r" in found.problems[0]
