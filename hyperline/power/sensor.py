"""One interface for every power sensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal


class Sensor(ABC):
    """Measures one or several rails.

    Attributes:
        source: the kind of sensor, such as ``ina3221``.
        covers: what its total is the power of, for people.
        rails: names of what it measures, each once.
        total: the rails whose sum is the total; others are parts of these.
        counts: ``watts``, the power at a moment; or ``joules``, the energy since some moment, which only grows.
        on_gpu: whether it sees nothing but a GPU.
    """

    source: str
    covers: str
    rails: tuple[str, ...]
    total: tuple[str, ...]
    counts: Literal["watts", "joules"] = "watts"
    on_gpu: bool = False

    @abstractmethod
    def read(self) -> tuple[float, ...] | None:
        """Return what each rail says, in the order of ``rails``; None where the sensor does not answer now."""
