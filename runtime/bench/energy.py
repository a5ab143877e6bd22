"""Joules a line: what the sensors saw in a run, less what the machine draws with nothing to do."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hyperline.power import Found, PowerSampler, Sensor, find_sensors
from hyperline.runtime.bench.report import Energy, Power


@dataclass(frozen=True)
class Meter:
    """The sensors that count for an engine, and the machine's power at rest.

    Attributes:
        sensors: that are read.
        idle_watts: of their sum; 0 without sensors.
        power: the same for the report.
    """

    sensors: tuple[Sensor, ...]
    idle_watts: float
    power: Power

    def sampler(self) -> PowerSampler:
        """Return what reads the sensors while something runs."""
        return PowerSampler(self.sensors)

    def energy(self, sampler: PowerSampler, start: float, end: float, lines: int, samples: int) -> Energy | None:
        """Return what a run took; None without sensors.

        Args:
            sampler: that ran all the while.
            start: of the run, ``time.perf_counter`` seconds.
            end: of the run.
            lines: classified in that time.
            samples: of a line.
        """
        drawn = sampler.drawn(start, end)
        if drawn is None:
            return None
        net = drawn.joules - self.idle_watts * drawn.seconds
        per_line = net / lines if net > 0 else None
        return Energy(
            source=" + ".join(dict.fromkeys(sensor.source for sensor in self.sensors)),
            covers=" + ".join(dict.fromkeys(sensor.covers for sensor in self.sensors)),
            watts=drawn.watts,
            idle_watts=self.idle_watts,
            joules_per_line=per_line,
            joules_per_pixel=None if per_line is None else per_line / samples,
            joules_per_line_with_idle=drawn.joules / lines,
            rails=drawn.rails,
            readings=drawn.readings,
            failed_readings=sampler.failures,
            sampling_share=sampler.processor_seconds / (time.perf_counter() - sampler.began),
        )


def make_meter(engines: tuple[str, ...], idle_seconds: float, found: Found | None = None) -> Meter:
    """Find the sensors and watch the machine at rest.

    Args:
        engines: that will run; where all run on the CPU, a GPU's board has no part in it.
        idle_seconds: how long to watch; 0: do not measure power.
        found: the sensors; None: those of this machine.

    Raises:
        HyperlineError: a sensor does not answer.
    """
    if not idle_seconds:
        return Meter((), 0.0, Power(asked=False, sensors=(), idle_seconds=0.0, problems=()))
    found = found or find_sensors()
    on_gpu = any(engine != "ort-cpu" for engine in engines)
    sensors = tuple(sensor for sensor in found.sensors if on_gpu or not sensor.on_gpu)
    power = Power(
        asked=True,
        sensors=tuple(sensor.source for sensor in sensors),
        idle_seconds=idle_seconds if sensors else 0.0,
        problems=found.problems,
    )
    if not sensors:
        return Meter((), 0.0, power)
    with PowerSampler(sensors) as sampler:
        start = time.perf_counter()
        time.sleep(idle_seconds)
        drawn = sampler.drawn(start, start + idle_seconds)
    assert drawn is not None
    return Meter(sensors, drawn.watts, power)
