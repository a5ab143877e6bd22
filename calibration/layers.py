"""The layers of a step's graph that can run in INT8, and why the others stay in floating point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

from hyperline.bundle.card import LINES_INPUT


class Kind(str, Enum):
    """What a layer computes."""

    LINEAR = "linear"
    CONVOLUTION = "convolution"


class After(str, Enum):
    """What becomes of a layer's result, as the name of its INT8 function ends."""

    AS_IS = ""
    RELU = "Relu"
    ADD = "Add"
    SILU = "Silu"
    GELU = "Gelu"


@dataclass(frozen=True)
class Layer:
    """A layer that can run in INT8.

    Attributes:
        name: of the layer in the network, such as ``refine.0.first``.
        kind: what it computes.
        inputs: the activations that it multiplies: one tensor, or the past line and the block of a convolution.
        output: the tensor that it gives.
        weight: (I, O) of a linear layer, (O, I, 3, 3) of a convolution.
        weight_name: the initializer that holds it, perhaps transposed.
        bias: the tensor that it adds.
        after: what becomes of the sum.
        residual: the tensor that is added then, of the shape of the output, for ``After.ADD``.
        nodes: names of the nodes that it takes the place of.
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    output: str
    weight: NDArray[np.float32]
    weight_name: str
    bias: str
    after: After
    residual: str | None
    nodes: tuple[str, ...]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one pixel of its output."""
        return self.weight.size

    @property
    def input_axis(self) -> int:
        """Axis of the weight over which it sums."""
        return 0 if self.kind is Kind.LINEAR else 1

    @property
    def reads(self) -> tuple[str, ...]:
        """All tensors that it reads but its weight."""
        return (*self.inputs, self.bias, *([] if self.residual is None else [self.residual]))


@dataclass(frozen=True)
class FloatLayer:
    """A product that stays in floating point whatever the budget.

    Attributes:
        name: of its node.
        reason: why.
    """

    name: str
    reason: str


def find_layers(model: onnx.ModelProto) -> tuple[list[Layer], list[FloatLayer]]:
    """Find every matrix product and convolution of a step.

    Args:
        model: the ONNX file of a bundle, float32.

    Returns:
        Those that can run in INT8, and those that cannot, in the graph's order.
    """
    return _Finder(model).find()


# Its input is the spectra themselves: the difference between two materials can be a hundredth of a per cent of their
# brightness, which the noise-whitening map brings out and 8 bits would drop before it.
_SPECTRA = "takes the spectra themselves, whose differences are finer than 8 bits"
_SCAN = "makes the step size, B or C of a scan, whose state keeps every error"
_ROUTER = "decides which experts see a block"
_VARIABLE = "its weights depend on the block"
_DEPTHWISE = "depthwise: nine products a channel, less than the quantisation costs"
_LINEAR_STEPS = ("CentredLinear", "Gemm", "MatMul", "Sub", "Add", "Mul", "Where")
# Where a scan reads what its step size, B and C are made of.
_SCAN_PLACES = {"ProjectedScan": (1,), "SelectiveScan": (1, 3, 4)}
_LAYOUT_STEPS = ("Reshape", "Unsqueeze", "Squeeze", "Transpose")


class _Finder:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.producer = {name: node for node in self.graph.node for name in node.output if name}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in self.graph.output}
        self.taken: set[str] = set()  # sums that belong to a layer already
        self.shapes = {
            value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in self.graph.value_info
        }

    def find(self) -> tuple[list[Layer], list[FloatLayer]]:
        layers: list[Layer] = []
        floats: list[FloatLayer] = []
        for node in self.graph.node:
            if node.op_type == "CentredLinear":
                floats.append(FloatLayer(node.name, _SPECTRA))
            if node.op_type not in ("Gemm", "MatMul", "Conv"):
                continue
            found = self._convolution(node) if node.op_type == "Conv" else self._linear(node)
            if isinstance(found, Layer):
                layers.append(found)
            else:
                floats.append(FloatLayer(node.name, found))
        return layers, floats

    def _linear(self, node: onnx.NodeProto) -> Layer | str:
        attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        if node.input[1] not in self.weights:
            return _ROUTER if self._feeds(node, "ExpertGate", depth=2) else _VARIABLE
        if self._makes(node.output[0], _SCAN_PLACES):
            return _SCAN
        if self._makes(node.output[0], {"ExpertGate": (0,)}):
            return _ROUTER
        if self._reads_spectra(node.input[0]):
            return _SPECTRA
        plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
        if node.op_type != "Gemm" or len(node.input) != 3 or not plain:
            return "a product of a form that is not known here"
        weight = onnx.numpy_helper.to_array(self.weights[node.input[1]])
        silu, gelu = self._silu(node), self._gelu(node)
        add, residual = (None, None) if silu or gelu else self._residual(node)
        after = silu or gelu or ([] if add is None else [add])
        return Layer(
            name=_layer_name(node),
            kind=Kind.LINEAR,
            inputs=(node.input[0],),
            output=[node, *after][-1].output[0],
            weight=np.ascontiguousarray(weight.T if attributes.get("transB", 0) else weight),
            weight_name=node.input[1],
            bias=node.input[2],
            after=After.SILU if silu else After.GELU if gelu else After.AS_IS if add is None else After.ADD,
            residual=residual,
            nodes=tuple(one.name for one in (node, *after)),
        )

    def _convolution(self, node: onnx.NodeProto) -> Layer | str:
        attributes: dict[str, Any] = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        if attributes.get("group", 1) != 1:
            return _DEPTHWISE
        if node.input[1] not in self.weights:
            return _VARIABLE
        # past and block -> Concat -> Unsqueeze -> Transpose -> this -> (Relu) -> Transpose -> Squeeze -> (Add)
        before = list(self._chain_up(node, ("Transpose", "Unsqueeze", "Concat")))
        relu = [one.op_type for one in self.consumers[node.output[0]]] == ["Relu"]
        after = list(self._chain_down(node, (*(("Relu",) if relu else ()), "Transpose", "Squeeze")))
        shaped = list(attributes.get("pads", ())) == [0, 1, 1, 1] and list(attributes["kernel_shape"]) == [3, 3]
        if len(before) != 3 or len(before[-1].input) != 2 or len(after) != 2 + relu or not shaped:
            return "a convolution of a form that is not known here"
        add, residual = (None, None) if relu else self._residual(after[-1])
        if add is not None:
            after.append(add)
        return Layer(
            name=_layer_name(node),
            kind=Kind.CONVOLUTION,
            inputs=tuple(before[-1].input),
            output=after[-1].output[0],
            weight=onnx.numpy_helper.to_array(self.weights[node.input[1]]),
            weight_name=node.input[1],
            bias=node.input[2],
            after=After.RELU if relu else After.AS_IS if add is None else After.ADD,
            residual=residual,
            nodes=tuple(one.name for one in (*before, node, *after)),
        )

    def _residual(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, str] | tuple[None, None]:
        """Return the sum that alone reads a node's result, and what it adds of the same shape."""
        result = node.output[0]
        below = self.consumers.get(result, [])
        if [one.op_type for one in below] != ["Add"] or result in self.outputs:
            return None, None
        others = [name for name in below[0].input if name != result]
        same = len(others) == 1 and result in self.shapes and self.shapes[result] == self.shapes.get(others[0])
        if not same or below[0].name in self.taken:
            return None, None
        self.taken.add(below[0].name)
        return below[0], others[0]

    def _silu(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return the Sigmoid and the product of v · sigmoid(v), where nothing else reads a node's result v."""
        result = node.output[0]
        below = {one.op_type: one for one in self.consumers.get(result, [])}
        if len(self.consumers.get(result, [])) != 2 or set(below) != {"Sigmoid", "Mul"} or result in self.outputs:
            return []
        gate, product = below["Sigmoid"], below["Mul"]
        if set(product.input) != {result, gate.output[0]} or gate.output[0] in self.outputs:
            return []
        return [gate, product] if len(self.consumers[gate.output[0]]) == 1 else []

    def _gelu(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return the nodes of v / 2 · (1 + tanh(0.79788 (v + 0.044715 v³))), where nothing else reads v or between."""
        result = node.output[0]
        below = {one.op_type: one for one in self.consumers.get(result, [])}
        if len(self.consumers.get(result, [])) != 3 or set(below) != {"Mul", "Pow", "Add"} or result in self.outputs:
            return []
        chain = [below["Pow"]]
        for kind in ("Mul", "Add", "Mul", "Tanh", "Add", "Mul"):
            readers = self.consumers.get(chain[-1].output[0], [])
            if [one.op_type for one in readers] != [kind] or chain[-1].output[0] in self.outputs:
                return []
            chain.append(readers[0])
        half = below["Mul"]
        ends = chain[2] is below["Add"] and set(chain[-1].input) == {half.output[0], chain[-2].output[0]}
        alone = len(self.consumers[half.output[0]]) == 1 and half.output[0] not in self.outputs
        constants = [self._constant(one) for one in (half, chain[0], chain[1], chain[3], chain[5])]
        if not ends or not alone or not np.allclose(constants, [0.5, 3.0, 0.044715, 0.7978846, 1.0], rtol=1e-5):
            return []
        return [half, *chain]

    def _constant(self, node: onnx.NodeProto) -> float:
        """Return the number that a node takes beside a tensor; NaN where it takes none."""
        held = [self.weights[name] for name in node.input if name in self.weights]
        array = onnx.numpy_helper.to_array(held[0]) if len(held) == 1 else np.empty(0)
        return float(array.reshape(-1)[0]) if array.size == 1 else float("nan")

    def _chain_up(self, node: onnx.NodeProto, kinds: tuple[str, ...]) -> Iterator[onnx.NodeProto]:
        for kind in kinds:
            above = self.producer.get(node.input[0])
            if above is None or above.op_type != kind or len(self.consumers[node.input[0]]) != 1:
                return
            yield above
            node = above

    def _chain_down(self, node: onnx.NodeProto, kinds: tuple[str, ...]) -> Iterator[onnx.NodeProto]:
        for kind in kinds:
            below = self.consumers[node.output[0]]
            if [one.op_type for one in below] != [kind]:
                return
            yield below[0]
            node = below[0]

    def _feeds(self, node: onnx.NodeProto, kind: str, depth: int) -> bool:
        below = self.consumers.get(node.output[0], [])
        return any(one.op_type == kind or (depth > 1 and self._feeds(one, kind, depth - 1)) for one in below)

    def _makes(self, name: str, places: Mapping[str, tuple[int, ...]]) -> bool:
        """Return whether nothing but layout stands between a tensor and one of these places of operators' inputs."""
        for below in self.consumers.get(name, []):
            if any(below.input[place] == name for place in places.get(below.op_type, ())):
                return True
            layout = below.op_type in (*_LAYOUT_STEPS, "Split", "Slice")
            if layout and any(self._makes(output, places) for output in below.output):
                return True
        return False

    def _reads_spectra(self, name: str) -> bool:
        """Return whether nothing but linear steps and layout stands between a tensor and the lines."""
        if name == LINES_INPUT:
            return True
        above = self.producer.get(name)
        if above is None or above.op_type not in (*_LINEAR_STEPS, *_LAYOUT_STEPS):
            return False
        return any(map(self._reads_spectra, above.input[1:] if above.op_type == "Where" else above.input))


def _layer_name(node: onnx.NodeProto) -> str:
    """Return the layer that a node belongs to; two products of one layer keep their numbers."""
    layer, _, kind = node.name.rpartition("/")
    _, _, number = kind.partition(".")
    return f"{layer}.{number}" if number else layer
