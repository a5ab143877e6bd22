"""What a machine draws now is what all its sensors say together, or nothing."""

import pytest

from hyperline.power import PowerMeter, Sensor


class Given(Sensor):
    source, covers, rails, total = "given", "nothing", ("whole", "part"), ("whole",)

    def __init__(self, counts, values):
        self.counts, self._values = counts, iter(values)

    def read(self):
        value = next(self._values)
        return None if value is None else (value, value / 2)


def test_power_is_added_and_parts_are_not():
    assert PowerMeter([Given("watts", [5.0]), Given("watts", [2.5])])() == 7.5


def test_energy_is_the_mean_power_since_the_last_look():
    meter = PowerMeter([Given("joules", [100.0, 130.0, 130.0])], clock=iter([1.0, 3.0, 4.0]).__next__)
    assert [meter(), meter(), meter()] == [None, pytest.approx(15.0), 0.0]


def test_a_sensor_that_does_not_answer_leaves_no_half_of_a_sum():
    meter = PowerMeter([Given("watts", [5.0, 5.0]), Given("watts", [None, 1.0])])
    assert [meter(), meter()] == [None, 6.0]


def test_no_sensor_is_no_number():
    assert PowerMeter([])() is None
