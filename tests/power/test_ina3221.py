"""Which watts a Jetson's rails are, module by module."""

import pytest

from hyperline.errors import InputError
from hyperline.power import find_sensors


def no_nvml():
    raise InputError("not installed")


def only_sensor(tree):
    found = find_sensors(tree.root, no_nvml)
    assert found.problems == ()
    (sensor,) = found.sensors
    return sensor


def total(sensor):
    values = dict(zip(sensor.rails, sensor.read(), strict=True))
    return sum(values[rail] for rail in sensor.total)


@pytest.mark.parametrize(
    ("board", "watts"),
    [
        ("orin_nano", 5.072 * 1.104),
        ("orin_nx", 19.104 * 0.320),
        ("xavier_nx", 5.008 * 0.900),
        ("xavier_nx_jetpack4", 4.507),
    ],
)
def test_a_module_with_a_rail_for_its_input_draws_what_that_rail_does(board, watts, request):
    sensor = only_sensor(request.getfixturevalue(board))
    assert sensor.rails == ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
    assert sensor.source == "ina3221" and sensor.counts == "watts"
    assert total(sensor) == pytest.approx(watts)


def test_an_agx_orin_draws_the_sum_of_three_rails_and_the_memory_within_one_of_them_is_not_added_again(agx_orin):
    sensor = only_sensor(agx_orin)
    assert sensor.rails == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO")
    assert total(sensor) == pytest.approx(19.872 * 0.200 + 19.864 * 0.040 + 4.968 * 0.640)


def test_sums_of_shunts_and_channels_without_a_wire_are_no_rails(agx_orin):
    assert not {"NC", "sum of shunt voltages"} & set(only_sensor(agx_orin).rails)


def test_a_rail_that_does_not_answer_gives_no_number(orin_nano):
    sensor = only_sensor(orin_nano)
    (orin_nano.root / "sys/class/hwmon/hwmon1/curr1_input").unlink()
    assert sensor.read() is None


def test_rails_that_no_guide_adds_up_are_named_and_not_added_up(tree):
    tree.ina3221(4, {1: ("CVB_ATX_12V", 12000, 500), 2: ("CVB_ATX_3V3", 3300, 100)})
    found = find_sensors(tree.root, no_nvml)
    assert found.sensors == ()
    assert "CVB_ATX_12V, CVB_ATX_3V3" in found.problems[0] and "no guide says" in found.problems[0]


def test_another_chip_on_the_same_bus_is_not_read(tree):
    tree.write("sys/class/hwmon/hwmon0/name", "ina219")
    tree.write("sys/class/hwmon/hwmon0/in1_input", 5000)
    assert find_sensors(tree.root, no_nvml).sensors == ()
