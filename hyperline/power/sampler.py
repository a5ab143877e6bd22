"""Power sensors read by a thread of their own while something runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from typing_extensions import Self

from hyperline.errors import HyperlineError
from hyperline.power.sensor import Sensor

# INA3221 and GPUs measure anew every 10 to 100 ms. More often costs processor time and says nothing.
HERTZ = 20.0
_JOIN_SECONDS = 5.0


@dataclass(frozen=True)
class Drawn:
    """What was drawn between two moments.

    Attributes:
        seconds: between them.
        joules: in all.
        rails: mean watts of each rail.
        readings: of all sensors, within that time.
    """

    seconds: float
    joules: float
    rails: dict[str, float]
    readings: int

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.seconds


class _Trace:
    """The readings of one sensor."""

    def __init__(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self._times: list[float] = []
        self._values: list[tuple[float, ...]] = []
        self._lock = threading.Lock()
        self.failures = 0

    def take(self) -> None:
        before = time.perf_counter()
        values = self.sensor.read()
        if values is None:
            self.failures += 1
            return
        with self._lock:
            self._times.append((before + time.perf_counter()) / 2)  # reading a chip over I2C takes milliseconds
            self._values.append(values)

    def joules(self, start: float, end: float) -> tuple[dict[str, float], int]:
        """Return the energy of each rail between two moments, and how many readings lie there."""
        with self._lock:
            times, values = np.array(self._times), np.array(self._values).reshape(-1, len(self.sensor.rails))
        within = (times > start) & (times < end)
        if len(times) < 2 or times[0] > end or times[-1] < start:
            raise HyperlineError(
                f"the power sensor {self.sensor.source} did not answer while it was needed ({self.failures} readings "
                "failed); look at dmesg, or run without it: --no-power"
            )
        at = np.concatenate([[start], times[within], [end]])
        energy = {}
        for rail, column in zip(self.sensor.rails, values.T, strict=True):
            known = np.interp(at, times, column)
            if self.sensor.counts == "joules":
                energy[rail] = float(known[-1] - known[0])
            else:
                energy[rail] = float(np.sum(np.diff(at) * (known[1:] + known[:-1]) / 2))
        return energy, int(within.sum())


class PowerSampler:
    """Reads sensors from its start to its stop.

    Attributes:
        sensors: that it reads.
        processor_seconds: that the reading took so far: what measuring costs the measured.
        began: when it started, ``time.perf_counter`` seconds.
    """

    def __init__(self, sensors: Sequence[Sensor], hertz: float = HERTZ) -> None:
        """Take sensors.

        Args:
            sensors: to read; with none, no thread is started.
            hertz: how often.
        """
        self.sensors = tuple(sensors)
        self.processor_seconds = self.began = 0.0
        self._interval = 1 / hertz
        self._traces = [_Trace(sensor) for sensor in sensors]
        self._latest = 0.0  # when the latest round of readings began
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def failures(self) -> int:
        """Readings that a sensor did not give."""
        return sum(trace.failures for trace in self._traces)

    def __enter__(self) -> Self:
        self.began = time.perf_counter()
        if self.sensors:
            self._take()  # so that there is a reading before whatever is measured
            self._thread = threading.Thread(target=self._run, name="hyperline-power", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join(_JOIN_SECONDS)
            self._take()

    def drawn(self, start: float, end: float) -> Drawn | None:
        """Return what was drawn between two moments of ``time.perf_counter``; None without sensors.

        Power at the edges is interpolated between readings; energy is the integral of that line (trapezoids), or the
        difference of a counter.

        Raises:
            HyperlineError: a sensor did not answer.
        """
        if not self._traces:
            return None
        while self._thread is not None and self._thread.is_alive() and self._latest <= end:
            time.sleep(self._interval / 4)  # until a reading lies behind the end too
        joules, readings = 0.0, 0
        rails: dict[str, float] = {}
        for trace in self._traces:
            energy, count = trace.joules(start, end)
            joules += sum(energy[rail] for rail in trace.sensor.total)
            rails |= {rail: one / (end - start) for rail, one in energy.items()}
            readings += count
        return Drawn(end - start, joules, rails, readings)

    def _run(self) -> None:
        due = time.perf_counter()
        while not self._stop.is_set():
            began = time.thread_time()
            self._take()
            self.processor_seconds += time.thread_time() - began
            due = max(due + self._interval, time.perf_counter())
            self._stop.wait(due - time.perf_counter())

    def _take(self) -> None:
        began = time.perf_counter()
        for trace in self._traces:
            trace.take()
        self._latest = began
