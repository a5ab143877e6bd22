"""The INT8 graph of a step: chosen layers with int8 weights and quantised inputs, the rest as it was.

Weights are rounded to int8 with a scale for each output, activations with one for the tensor, both symmetric about 0.
A bias stays float32: it is added to the scaled sums.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

from hyperline.calibration.layers import Kind, Layer
from hyperline.plugins import QUANTIZED_DOMAIN
from hyperline.plugins.quantized_functions import add_quantized_functions

# int8 is used to ±127: with -128 too, the negative of a weight would have another error than the weight.
LARGEST = 127


def quantize_weight(weight: NDArray[np.float32], output_axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a weight to int8 with a scale for each output.

    Args:
        weight: any shape.
        output_axis: the axis of the outputs.

    Returns:
        The int8 weight, and the scales (outputs,), by which it comes near the weight again. An output whose weights are
        all zero has scale 1.
    """
    others = tuple(axis for axis in range(weight.ndim) if axis != output_axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / LARGEST, 1).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale.reshape(-1)


def int8_model(model: onnx.ModelProto, layers: list[Layer], ranges: Mapping[str, float]) -> onnx.ModelProto:
    """Put layers of a step's graph into INT8.

    Args:
        model: the float32 graph; it is left as it is.
        layers: those to change, of `find_layers` of this graph.
        ranges: by layer name, the largest magnitude of its input that is to be told apart; beyond, values saturate.

    Returns:
        The graph with the layers as functions of domain ``hyperline.quantized``, named after the layer.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    replaced = {name: layer for layer in layers for name in layer.nodes}
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    for node in graph.node:
        layer = replaced.get(node.name)
        if layer is None:
            nodes.append(node)
        elif node.name == layer.nodes[-1]:  # the last of its nodes, where all that it reads is there
            made, constants = _quantized(layer, ranges[layer.name])
            nodes.append(made)
            tensors += constants
    kept = [tensor for tensor in graph.initializer if tensor.name in _read(nodes)]
    gone = {name for node in graph.node if node.name in replaced for name in node.output} - {
        layer.output for layer in layers
    }
    infos = [info for info in graph.value_info if info.name not in gone]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *tensors])
    graph.value_info.extend(infos)
    add_quantized_functions(changed)
    onnx.checker.check_model(changed, full_check=True)
    return changed


def _quantized(layer: Layer, largest: float) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    weight, scale = quantize_weight(layer.weight, output_axis=1 - layer.input_axis)
    x_scale = np.array(largest / LARGEST if largest > 0 else 1.0, np.float32)
    names = [f"{layer.name}.{what}" for what in ("input_scale", "weight_int8", "weight_scale")]
    arrays = (x_scale, weight, scale)
    op = "Linear" if layer.kind is Kind.LINEAR else "BlockConv"
    residual = [] if layer.residual is None else [layer.residual]
    node = onnx.helper.make_node(
        op + layer.after.value,
        [*layer.inputs, *names, layer.bias, *residual],
        [layer.output],
        name=layer.name,
        domain=QUANTIZED_DOMAIN,
    )
    return node, [onnx.numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)]


def _read(nodes: list[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes for name in node.input}


def with_tensors(model: onnx.ModelProto, tensors: Mapping[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Return a graph with other values of some initializers, by name, in their shapes."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in tensors:
            tensor.CopyFrom(onnx.numpy_helper.from_array(tensors[tensor.name], tensor.name))
    return changed
