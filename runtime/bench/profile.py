"""Where the time of a step goes: ONNX Runtime's profile of the graph that flies, node by node."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from hyperline.bundle import Bundle
from hyperline.errors import InputError
from hyperline.runtime.bench.report import Operator, Profile
from hyperline.runtime.bench.steps import stepper
from hyperline.runtime.engines.ort import OrtEngine
from hyperline.runtime.engines.ort_cpu import OrtCpuEngine

_BLOCKS = 60
_WARM_UP = 5
_LAYERS = 20
_KERNEL = "_kernel_time"


def profile_step(engine: str, bundle: Bundle, samples: int, precision: str, threads: int) -> Profile:
    """Profile the step.

    Args:
        engine: ``ort-cpu`` or ``ort-cuda``.
        bundle: the model.
        samples: of a line.
        precision: which of the bundle's models.
        threads: of the engine.

    Raises:
        InputError: the engine has no profiler that this reads.
    """
    if engine == "ort-cpu":
        kind: type[OrtEngine] = OrtCpuEngine
    elif engine == "ort-cuda":
        from hyperline.runtime.engines.ort_cuda import OrtCudaEngine

        kind = OrtCudaEngine
    else:
        raise InputError(
            f"{engine} has no profile here: ONNX Runtime's engines have one (ort-cpu, ort-cuda); TensorRT's is written "
            "by its own trtexec --dumpProfile"
        )
    with tempfile.TemporaryDirectory(prefix="hyperline-profile-") as folder:
        loaded = _profiling(kind, Path(folder))(bundle.model(precision), bundle.card, threads, precision=precision)
        step = stepper(loaded, bundle, samples)
        for _ in range(_WARM_UP + _BLOCKS):
            step()
        return summarise(json.loads(Path(loaded.end_profiling()).read_text()))


def summarise(events: Iterable[dict[str, Any]]) -> Profile:
    """Add up a profile.

    Args:
        events: of ONNX Runtime: an object for each time that a node ran, and others.
    """
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            times[event["args"]["op_name"], event["name"].removesuffix(_KERNEL)].append(1e-3 * event["dur"])
    # What first runs allocate and find out does not count, nor the interrupt that fell upon one block.
    medians = {node: float(np.median(spent[_WARM_UP:] or spent)) for node, spent in times.items()}
    total = sum(medians.values())
    operators: dict[str, list[float]] = defaultdict(list)
    layers: dict[str, list[float]] = defaultdict(list)
    for (operator, node), ms in medians.items():
        operators[operator].append(ms)
        # The export names nodes LAYER/OPERATOR; what onnxruntime made itself has a name of its own.
        layers[node.rpartition("/")[0] or node].append(ms)
    return Profile(
        blocks=max(0, max(map(len, times.values()), default=0) - _WARM_UP),
        nodes=len(medians),
        ms=total,
        operators=tuple(_rows(operators, total)),
        layers=tuple(_rows(layers, total)[:_LAYERS]),
    )


def _rows(groups: dict[str, list[float]], total: float) -> list[Operator]:
    """Return a row for each group, the most expensive first."""
    rows = [
        Operator(name=name, nodes=len(spent), ms=sum(spent), share=sum(spent) / total if total else 0.0)
        for name, spent in groups.items()
    ]
    return sorted(rows, key=lambda row: -row.ms)


def _profiling(kind: type[OrtEngine], folder: Path) -> Any:
    """Return the same kind of engine, whose sessions write profiles.

    A guarded engine makes two sessions, and the one that flies is the last: each gets a file of its own.
    """

    class Profiling(kind):  # type: ignore[misc, valid-type]
        def _options(self, native_ops: bool) -> onnxruntime.SessionOptions:
            options = super()._options(native_ops)
            self._made = getattr(self, "_made", 0) + 1
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / f"session{self._made}")
            return options

        def end_profiling(self) -> str:
            return str(self._session.end_profiling())

    return Profiling
