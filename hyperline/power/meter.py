"""What a machine draws now, for whoever looks at it from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hyperline.power.sensor import Sensor


class PowerMeter:
    """Gives watts, the total of some sensors; of those that count energy, the mean since the last look."""

    def __init__(self, sensors: Sequence[Sensor], clock: Callable[[], float] = time.perf_counter) -> None:
        """Take sensors that do not see the same power."""
        self._sensors, self._clock = tuple(sensors), clock
        self._before: dict[Sensor, tuple[float, float]] = {}  # when, and the joules then

    def __call__(self) -> float | None:
        """Return watts; None without sensors, where one does not answer, and at the first look at a counter."""
        watts = [self._watts(sensor) for sensor in self._sensors]
        known = [value for value in watts if value is not None]
        return sum(known) if watts and len(known) == len(watts) else None

    def _watts(self, sensor: Sensor) -> float | None:
        readings = sensor.read()
        if readings is None:
            return None
        total = sum(value for rail, value in zip(sensor.rails, readings, strict=True) if rail in sensor.total)
        if sensor.counts == "watts":
            return total
        now = self._clock()
        before = self._before.get(sensor)
        self._before[sensor] = now, total
        return (total - before[1]) / (now - before[0]) if before is not None and now > before[0] else None
