"""What a layer costs on this machine in float32 and in INT8, each timed alone, in turns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from hyperline.calibration.int8 import int8_model
from hyperline.calibration.layers import Layer
from hyperline.calibration.stream import open_session

_ROUNDS = 15


@dataclass(frozen=True)
class Cost:
    """Milliseconds of a layer in one block.

    Attributes:
        float32: as it stands in the float32 graph.
        int8: as it would stand in the INT8 graph.
    """

    float32: float
    int8: float

    @property
    def saved(self) -> float:
        """What INT8 saves; negative where it costs."""
        return self.float32 - self.int8


def layer_costs(
    model: onnx.ModelProto, layers: Iterable[Layer], shapes: Mapping[str, tuple[int, ...]], threads: int
) -> dict[str, Cost]:
    """Time layers alone in onnxruntime; layers of equal shape are timed once.

    Args:
        model: the float32 graph.
        layers: of `find_layers`.
        shapes: of every tensor that a layer reads or adds, by name.
        threads: of onnxruntime.
    """
    known: dict[tuple[object, ...], Cost] = {}
    costs = {}
    for layer in layers:
        inputs = [name for name in layer.reads if name in shapes]
        form = (layer.kind, layer.weight.shape, layer.after, *(shapes[name] for name in inputs))
        if form not in known:
            known[form] = _time(model, layer, {name: shapes[name] for name in inputs}, threads)
        costs[layer.name] = known[form]
    return costs


def _time(model: onnx.ModelProto, layer: Layer, shapes: Mapping[str, tuple[int, ...]], threads: int) -> Cost:
    alone = _alone(model, layer, shapes)
    generator = np.random.default_rng(0)
    feeds = {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    sessions = [open_session(one, threads) for one in (alone, int8_model(alone, [layer], {layer.name: 4.0}))]
    times: list[list[float]] = [[], []]
    for _ in range(_ROUNDS):
        for spent, session in zip(times, sessions, strict=True):
            start = time.perf_counter()
            session.run(None, feeds)
            spent.append(time.perf_counter() - start)
    # The least: what else runs on the machine only ever adds.
    return Cost(*(min(spent) * 1e3 for spent in times))


def _alone(model: onnx.ModelProto, layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """Cut a layer out of its graph."""
    nodes = [node for node in model.graph.node if node.name in layer.nodes]
    read = {name for node in nodes for name in node.input}
    rank = len(shapes[layer.inputs[-1]])
    make = onnx.helper
    graph = make.make_graph(
        nodes,
        "layer",
        [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [make.make_tensor_value_info(layer.output, onnx.TensorProto.FLOAT, [None] * rank)],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    opsets = [entry for entry in model.opset_import if entry.domain == ""]
    return make.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
