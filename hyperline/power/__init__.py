"""What a machine draws, where it has a sensor that says so: one file a kind of sensor."""

from hyperline.power.find import Found, find_sensors
from hyperline.power.meter import PowerMeter
from hyperline.power.sampler import PowerSampler
from hyperline.power.sensor import Sensor

__all__ = ["Found", "PowerMeter", "PowerSampler", "Sensor", "find_sensors"]
