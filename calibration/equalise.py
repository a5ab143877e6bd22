"""Smoothing: move an outlier channel's range from the activation into the weights.

One channel a hundred times the others leaves them a single step of int8. Divided by a factor of its own before the
rounding, with the weights of that channel multiplied by it, every channel gets its share of the steps, and the product
stays the same (Xiao et al., SmoothQuant, arXiv 2211.10438, equation 4, with α = 1/2).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

from hyperline.calibration.layers import Kind, Layer


def smoothing_factors(layer: Layer, of_channel: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what each input channel is to be divided by.

    Args:
        layer: a linear layer.
        of_channel: (I,) largest magnitude of each input channel.

    Returns:
        (I,), sqrt(activation / weight), scaled so that their geometric mean is 1; 1 for a channel that is always 0.
    """
    of_weight = np.abs(layer.weight).max(axis=1).astype(np.float64)
    used = (of_channel > 0) & (of_weight > 0)
    factors = np.ones(len(of_channel))
    factors[used] = np.sqrt(of_channel[used] / of_weight[used])
    factors[used] /= np.exp(np.log(factors[used]).mean()) if used.any() else 1.0
    return factors.astype(np.float32)


def smooth(model: onnx.ModelProto, layer: Layer, factors: NDArray[np.float32]) -> tuple[onnx.ModelProto, Layer]:
    """Divide a linear layer's input by factors and multiply its weights by them.

    Args:
        model: the float32 graph; it is left as it is.
        layer: a linear layer of it.
        factors: (I,).

    Returns:
        The graph with one product more, and the layer as it stands in it; both compute what they did.
    """
    assert layer.kind is Kind.LINEAR
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    position = next(index for index, node in enumerate(graph.node) if node.name == layer.nodes[0])
    smoothed, inverse = f"{layer.name}.smoothed", f"{layer.name}.smoothing"
    graph.initializer.append(onnx.numpy_helper.from_array((1 / factors).astype(np.float32), inverse))
    node = onnx.helper.make_node("Mul", [layer.inputs[0], inverse], [smoothed], name=f"{layer.name}/Smooth")
    graph.node.insert(position, node)
    return changed, replace(layer, inputs=(smoothed,), weight=layer.weight * factors[:, None])
