"""From readings to joules."""

import threading
import time

import pytest

from hyperline.errors import HyperlineError
from hyperline.power import PowerSampler, Sensor, find_sensors


class Clockwork(Sensor):
    """Says what a function of the time says."""

    source = "clockwork"
    covers = "nothing"
    rails = ("whole", "part")
    total = ("whole",)

    def __init__(self, watts=None, joules=None):
        self.counts = "watts" if watts else "joules"
        self.says = watts or joules
        self.threads = set()

    def read(self):
        self.threads.add(threading.current_thread().name)
        value = self.says(time.perf_counter())
        return None if value is None else (value, value / 2)


def measure(sensor, seconds=0.3):
    with PowerSampler([sensor], hertz=100) as sampler:
        start = time.perf_counter()
        time.sleep(seconds)
        end = time.perf_counter()
        return sampler.drawn(start, end), end - start


def test_constant_power_times_time_is_the_energy_and_parts_are_not_added():
    drawn, seconds = measure(Clockwork(watts=lambda now: 12.0))
    assert drawn.joules == pytest.approx(12.0 * seconds)
    assert drawn.watts == pytest.approx(12.0) and drawn.rails == pytest.approx({"whole": 12.0, "part": 6.0})
    assert drawn.readings >= 10


def test_power_that_rises_is_integrated():
    began = time.perf_counter()
    drawn, seconds = measure(Clockwork(watts=lambda now: 100 * (now - began)))
    middle = 100 * (seconds / 2)
    assert drawn.joules == pytest.approx(middle * seconds, rel=0.05)


def test_a_counter_gives_its_difference_between_the_two_moments():
    drawn, _ = measure(Clockwork(joules=lambda now: 1e6 + 40 * now))
    assert drawn.watts == pytest.approx(40.0, rel=0.02)


def test_readings_are_taken_in_a_thread_of_their_own_and_their_cost_is_known():
    sensor = Clockwork(watts=lambda now: 1.0)
    with PowerSampler([sensor], hertz=100) as sampler:
        time.sleep(0.2)
    assert "hyperline-power" in sensor.threads
    assert 0 < sampler.processor_seconds < 0.1


def test_readings_that_fail_are_counted_and_the_others_stand():
    count = iter(range(10_000))
    sensor = Clockwork(watts=lambda now: None if next(count) % 3 == 1 else 5.0)
    with PowerSampler([sensor], hertz=100) as sampler:
        start = time.perf_counter()
        time.sleep(0.2)
        assert sampler.drawn(start, time.perf_counter()).watts == pytest.approx(5.0)
    assert sampler.failures > 0


def test_a_sensor_that_never_answers_is_an_error_and_no_number():
    with pytest.raises(HyperlineError, match="did not answer"):
        measure(Clockwork(watts=lambda now: None), seconds=0.05)


def test_without_a_sensor_there_is_no_thread_and_no_number():
    before = threading.active_count()
    with PowerSampler([]) as sampler:
        assert threading.active_count() == before
    assert sampler.drawn(0.0, 1.0) is None


def test_the_sensors_of_this_machine_measure_or_it_has_none():
    found = find_sensors()
    with PowerSampler(found.sensors) as sampler:
        start = time.perf_counter()
        time.sleep(0.3)
        drawn = sampler.drawn(start, time.perf_counter())
    assert (drawn is None) == (not found.sensors)
    assert drawn is None or drawn.watts > 0
