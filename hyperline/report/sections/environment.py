"""Environment: the machine and the software that the benches were measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hyperline.report.inputs import Inputs
from hyperline.report.words import plain

_DEEPEST = 6
_MOST_ROWS = 200


@dataclass(frozen=True)
class Machine:
    """One bench's environment, nested values with dotted names."""

    name: str
    rows: tuple[tuple[str, str], ...]


def make(inputs: Inputs) -> tuple[Machine, ...] | None:
    """Lay out the environments of the benches; None where none says any."""
    machines = tuple(
        Machine(name, tuple(_rows(bench.environment, "", 0))[:_MOST_ROWS])
        for name, bench in inputs.benches
        if bench.environment
    )
    return machines or None


def _rows(values: dict[str, Any], above: str, depth: int) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{above}{str(key).replace('_', ' ')}"
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from _rows(value, f"{name} · ", depth + 1) if value else iter([(name, "–")])
        elif isinstance(value, list) and any(isinstance(one, dict) for one in value) and depth < _DEEPEST:
            for number, one in enumerate(value, 1):
                label = f"{name} {number}"
                if isinstance(one, dict):
                    yield from _rows(one, f"{label} · ", depth + 1)
                else:
                    yield label, plain(one)
        elif isinstance(value, int) and name.endswith(" bytes"):
            yield name.removesuffix(" bytes"), f"{value / 2**30:.1f} GiB"
        else:
            yield name, plain(value)
