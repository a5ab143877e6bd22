"""The streaming step in FP16, strongly typed: the graph says what every tensor is, and no runtime may choose.

FP16 are the products with weights, what scans read and write, and all that stands between: what costs memory and
multiplications. Float32 stays what needs its range or digits: the spectra up to the first norm, norms, softmax, sums,
the path from a norm to a router's decision or to the logits, and what is carried from block to block.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from hyperline.bundle.card import LINES_INPUT, LOGITS_OUTPUT
from hyperline.errors import HyperlineError
from hyperline.plugins.fused_functions import expand_fused
from hyperline.plugins.onnx_functions import add_functions

_FULL, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16


class _Rule(Enum):
    """Which of an operator's numbers are FP16."""

    HALF = "all"
    FULL = "none"
    FOLLOW = "all where it reads an FP16 activation, unless that takes more casts"
    SCAN = "u, delta, B, C and y"


_SCAN_HALF_INPUTS = (0, 1, 3, 4)

_RULES = {
    operator: rule
    for rule, operators in (
        (_Rule.HALF, "Conv Gemm MatMul"),
        (_Rule.FULL, "AveragePool Cast ConstantOfShape Erf Exp ExpertGate LayerNormalization Log LogSoftmax"),
        (_Rule.FULL, "ReduceMax ReduceMean ReduceSum Softmax Softplus Sqrt TopK"),
        (_Rule.FOLLOW, "Add ArgMax Clip Concat Div Expand Flatten Gather GatherElements Greater Identity Max Min"),
        (_Rule.FOLLOW, "Mul Neg Pad Pow Relu Reshape ScatterElements Shape Sigmoid Slice Split Squeeze Sub Sum Tanh"),
        (_Rule.FOLLOW, "Tile Transpose Unsqueeze Where"),
        (_Rule.SCAN, "SelectiveScan"),
    )
    for operator in operators.split()
}


def half_model(model: bytes) -> bytes:
    """Rewrite a bundle's float32 step in FP16.

    Inputs and outputs keep their names, types and shapes, and the metadata stays.

    Args:
        model: the ONNX file of a bundle's float32 step.

    Returns:
        A checked ONNX file, the same bytes for the same input.

    Raises:
        HyperlineError: ``model`` is no ONNX file, holds FP16 already, has an operator that no rule knows, or a weight
            beyond FP16's range.
    """
    try:
        step = onnx.load_from_string(model)
        # a bundle of an earlier release has bodies that take float32 alone
        step = onnx.shape_inference.infer_shapes(add_functions(expand_fused(step)), strict_mode=True)
    except Exception as error:  # protobuf and onnx share no base class
        reason = str(error).strip().partition("\n")[0]
        raise HyperlineError(
            f"the model is no ONNX file that can be read: {reason}; export the bundle again"
        ) from error
    _rewrite(step.graph)
    onnx.checker.check_model(step, full_check=True)
    return bytes(step.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class _Types:
    """The type of every floating-point tensor of a graph, and which types its readers want.

    Attributes:
        weights: names of the float32 initializers.
        half: names of the activations that a node writes in FP16.
        outputs: names of the graph's outputs, which are float32 whatever the node writes.
        reads: for each node, the type of each input, None where it is no floating-point number.
        readers: for each tensor, the types that nodes read it in.
    """

    weights: frozenset[str]
    half: frozenset[str]
    outputs: frozenset[str]
    reads: list[list[int | None]]
    readers: dict[str, set[int | None]]

    def name(self, tensor: str, type_: int | None) -> str:
        """Return what the tensor is called in that type: as before, unless that name stands for the other one."""
        if type_ is None:
            return tensor
        if tensor in self.weights:
            own = _FULL if _FULL in self.readers[tensor] else _HALF
        else:
            own = _HALF if tensor in self.half and tensor not in self.outputs else _FULL
        return tensor if type_ == own else f"{tensor}.{'half' if type_ == _HALF else 'full'}"


def _rewrite(graph: GraphProto) -> None:
    types = _types(graph)
    weights = [weight for tensor in graph.initializer for weight in _weights(tensor, types)]
    nodes = [cast for value in graph.input for cast in _casts(value.name, types)]
    for node, reads in zip(graph.node, types.reads, strict=True):
        node.input[:] = [types.name(name, type_) for name, type_ in zip(node.input, reads, strict=True)]
        casts = [cast for name in node.output for cast in _casts(name, types)]
        node.output[:] = [types.name(name, _HALF) if name in types.half else name for name in node.output]
        nodes += [node, *casts]
    for info in graph.value_info:
        if info.name in types.half:
            info.type.tensor_type.elem_type = _HALF
    rewritten = helper.make_graph(nodes, graph.name, graph.input, graph.output, weights, value_info=graph.value_info)
    graph.CopyFrom(rewritten)


def _types(graph: GraphProto) -> _Types:
    described = (*graph.value_info, *graph.input, *graph.output)
    elements = {info.name: info.type.tensor_type.elem_type for info in described}
    elements |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    if _HALF in elements.values():
        raise HyperlineError("the model holds FP16 already: give the float32 model of the bundle")
    weights = frozenset(tensor.name for tensor in graph.initializer if tensor.data_type == _FULL)
    outputs = frozenset(output.name for output in graph.output)
    full_nodes = _full_nodes(graph)
    half: set[str] = set()
    reads: list[list[int | None]] = []
    readers: defaultdict[str, set[int | None]] = defaultdict(set)
    for index, node in enumerate(graph.node):
        if node.op_type not in _RULES:
            raise HyperlineError(
                f"no rule says which type {node.op_type} ({node.name}) has in FP16: "
                "calibrate with the release of hyperline that exported the bundle, or export it again"
            )
        rule = _Rule.FULL if index in full_nodes else _RULES[node.op_type]
        if rule is _Rule.FOLLOW:
            halves = sum(name in half for name in node.input)
            carried = sum(name in outputs for name in node.output)
            rule = _Rule.HALF if halves and halves >= carried else _Rule.FULL
        if rule is _Rule.SCAN:
            wanted = [_HALF if place in _SCAN_HALF_INPUTS else _FULL for place in range(len(node.input))]
            half.add(node.output[0])
        else:
            wanted = [_HALF if rule is _Rule.HALF else _FULL] * len(node.input)
            if rule is _Rule.HALF:
                half |= {name for name in node.output if elements.get(name) == _FULL}
        reads.append(
            [type_ if elements.get(name) == _FULL else None for name, type_ in zip(node.input, wanted, strict=True)]
        )
        for name, type_ in zip(node.input, reads[-1], strict=True):
            readers[name].add(type_)
    return _Types(weights, frozenset(half), outputs, reads, readers)


def _full_nodes(graph: GraphProto) -> set[int]:
    """Return the places of the nodes that keep float32 for where they stand, whatever they are.

    - From the lines to the first norm: raw counts may be beyond FP16's 65504, and its steps at 4096 are 4, which may be
      all that tells two classes apart.
    - From a norm to a router: a mean over the block and a product of four columns, which decide for the whole block.
    - From the last norm to the logits: at 4 to 8 FP16 has steps of 1/256, and the best two classes of a pixel may tie.
    """
    full = set()
    reached = {LINES_INPUT}
    for index, node in enumerate(graph.node):
        if node.op_type != "LayerNormalization" and not reached.isdisjoint(node.input):
            full.add(index)
            reached.update(node.output)
    needed = {name for node in graph.node if node.op_type == "ExpertGate" for name in node.input} | {LOGITS_OUTPUT}
    for index, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "LayerNormalization" and not needed.isdisjoint(node.output):
            full.add(index)
            needed.update(node.input)
    return full


def _casts(name: str, types: _Types) -> Iterator[NodeProto]:
    """Yield the cast that an activation needs after it is written, if any."""
    written = _HALF if name in types.half else _FULL
    other = _FULL if written == _HALF else _HALF
    if other in types.readers.get(name, ()) or (written == _HALF and name in types.outputs):
        result = types.name(name, other)
        yield helper.make_node("Cast", [types.name(name, written)], [result], name=f"{name}/Cast", to=other)


def _weights(tensor: TensorProto, types: _Types) -> Iterator[TensorProto]:
    """Yield an initializer in the types that it is read in."""
    for type_ in sorted(types.readers.get(tensor.name, ()), key=str):
        if type_ != _HALF:
            yield tensor
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise HyperlineError(
                f"the weight {tensor.name} reaches {np.abs(values).max():.3g}, beyond FP16's 65504: "
                "use the int8 or float32 model, or train again"
            )
        yield numpy_helper.from_array(half, types.name(tensor.name, _HALF))
