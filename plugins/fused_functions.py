"""What the step does in one pass over memory, as ONNX model-local functions of standard operators.

A runtime without our library inlines these bodies, and so does TensorRT, which fuses them on its own. ONNX Runtime
takes as many passes over memory as there are nodes; our kernels take one. Their meaning is
`hyperline.plugins.reference`, whose shape letters they share.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import onnx.numpy_helper
import onnx.parser

from hyperline.plugins import DOMAIN, FUSED_DOMAIN, OPS_VERSION

# The sum before a norm is a Sum, for ONNX Runtime would fuse Add and norm into a kernel that takes twice as long, on
# rows of 16 numbers, as the two apart.
_NORM = "LayerNormalization <axis: int = -1, epsilon: float = @epsilon>"
_BODIES = {
    "Norm <epsilon> (x, scale, bias) => (y)": f"y = {_NORM} (x, scale, bias)",
    "NormRelu <epsilon> (x, scale, bias, keep) => (y)": f"""
        normed = {_NORM} (x, scale, bias)
        rectified = Relu (normed)
        kept = Cast <to: int = 9> (keep)
        zero = Constant <value_float: float = 0.0> ()
        y = Where (kept, rectified, zero)""",
    "NormSilu <epsilon> (x, scale, bias) => (y)": f"""
        normed = {_NORM} (x, scale, bias)
        sigmoid = Sigmoid (normed)
        y = Mul (normed, sigmoid)""",
    "SumNormGated <epsilon> (x, scale, bias, addend, gate) => (y)": f"""
        sum = Sum (x, addend)
        normed = {_NORM} (sum, scale, bias)
        shape = Shape (gate)
        reshaped = Reshape (normed, shape)
        sigmoid = Sigmoid (gate)
        silu = Mul (gate, sigmoid)
        y = Mul (reshaped, silu)""",
    "CentredLinear (x, mean, weight, bias) => (y)": """
        centred = Sub (x, mean)
        product = MatMul (centred, weight)
        y = Add (product, bias)""",
    # B, C and the step size before its bias are one product, of which the scan reads parts in place.
    "ProjectedScan <reverse> (u, projected, A, D, delta_bias, h0, mask) => (y, h)": """
        channels = Shape <start: int = 0, end: int = 1> (A)
        states = Shape <start: int = 1, end: int = 2> (A)
        sizes = Concat <axis: int = 0> (channels, states, states)
        delta, B, C = Split <axis: int = -1> (projected, sizes)
        y, h = hyperline.SelectiveScan <reverse: int = @reverse> (u, delta, A, B, C, D, delta_bias, h0, mask)""",
    # Two sums, each over one axis: runtimes have a fast path for those, and none for two axes at once.
    "Pool (x, mask) => (y, coarse)": """
        axis_1 = Constant <value_ints: ints = [1]> ()
        axis_2 = Constant <value_ints: ints = [2]> ()
        two = Constant <value_ints: ints = [2]> ()
        rest = Constant <value_ints: ints = [-1]> ()
        column = Constant <value_ints: ints = [-1, 1]> ()
        none = Constant <value_float: float = 0.0> ()
        one = Constant <value_float: float = 1.0> ()
        lines = Shape <start: int = 0, end: int = 1> (mask)
        channels = Shape <start: int = 1, end: int = 2> (x)
        half = Div (lines, two)
        pairs_of_lines = Concat <axis: int = 0> (half, two, rest)
        pairs_of_marks = Concat <axis: int = 0> (half, rest, two)
        pairs_of_samples = Concat <axis: int = 0> (rest, two, channels)
        mask_lines = Reshape (mask, pairs_of_lines)
        marks = ReduceSum <keepdims: int = 0> (mask_lines, axis_1)
        marks_paired = Reshape (marks, pairs_of_marks)
        count = ReduceSum <keepdims: int = 0> (marks_paired, axis_2)
        x_lines = Reshape (x, pairs_of_lines)
        sums = ReduceSum <keepdims: int = 0> (x_lines, axis_1)
        sums_paired = Reshape (sums, pairs_of_samples)
        total = ReduceSum <keepdims: int = 0> (sums_paired, axis_1)
        at_least_one = Clip (count, one)
        divisor = Reshape (at_least_one, column)
        y = Div (total, divisor)
        any = Greater (count, none)
        coarse = Cast <to: int = 1> (any)""",
    "Decide (logits, valid) => (labels, confidence, uncertainty)": """
        one = Constant <value_int: int = 1> ()
        no_class = Constant <value_int: int = 0> ()
        none = Constant <value_float: float = 0.0> ()
        last = Constant <value_ints: ints = [-1]> ()
        index = ArgMax <axis: int = -1, keepdims: int = 0> (logits)
        number = Add (index, one)
        label = Where (valid, number, no_class)
        labels = Cast <to: int = 2> (label)
        softmax = Softmax <axis: int = -1> (logits)
        probability = ReduceMax <keepdims: int = 0> (softmax, last)
        confidence = Where (valid, probability, none)
        log_probability = LogSoftmax <axis: int = -1> (logits)
        terms = Mul (softmax, log_probability)
        negative_entropy = ReduceSum <keepdims: int = 0> (terms, last)
        classes = Shape <start: int = -1> (logits)
        count = Cast <to: int = 1> (classes)
        two = Constant <value_float: float = 2.0> ()
        at_least_two = Clip (count, two)
        greatest = Log (at_least_two)
        negative_share = Div (negative_entropy, greatest)
        share = Neg (negative_share)
        whole = Constant <value_float: float = 1.0> ()
        rounded = Clip (share, none, whole)
        uncertainty = Where (valid, rounded, none)""",
}


def fused_functions() -> list[onnx.FunctionProto]:
    """Return the bodies of the functions."""
    imports = f'"" : 18, "{DOMAIN}" : {OPS_VERSION}'
    return [
        onnx.parser.parse_function(f'<opset_import: [{imports}], domain: "{FUSED_DOMAIN}"> {head} {{ {body} }}')
        for head, body in _BODIES.items()
    ]


def expand_fused(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model with the functions' bodies in the place of their nodes, constants among the weights."""
    fused = [(function.domain, function.name) for function in model.functions if function.domain == FUSED_DOMAIN]
    expanded = onnx.inliner.inline_selected_functions(model, fused) if fused else model
    plain = onnx.ModelProto()
    plain.CopyFrom(expanded)
    graph = plain.graph
    constants = [node for node in graph.node if node.op_type == "Constant"]
    graph.initializer.extend(_value(node) for node in constants)
    kept = [node for node in graph.node if node.op_type != "Constant"]
    del graph.node[:]
    graph.node.extend(kept)
    for node in graph.node:
        node.name = node.name or f"{node.output[0]}/{node.op_type}"
    drop_unread_states(graph)
    return plain


def drop_unread_states(graph: onnx.GraphProto) -> None:
    """Leave out, in place, the last state of a scan that nobody reads: over the spectrum alone, 5 MB a block."""
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    unread = set()
    for node in graph.node:
        if node.op_type in ("SelectiveScan", "ProjectedScan") and node.output[1] not in read:
            unread.add(node.output[1])
            node.output[1] = ""
    kept = [info for info in graph.value_info if info.name not in unread]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _value(node: onnx.NodeProto) -> onnx.TensorProto:
    (attribute,) = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        return tensor
    whole = attribute.name in ("value_int", "value_ints")
    return onnx.numpy_helper.from_array(np.array(value, np.int64 if whole else np.float32), node.output[0])
