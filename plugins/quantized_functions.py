"""The INT8 layers as ONNX model-local functions: explicit quantisation around standard operators.

A runtime without our library inlines these bodies and fuses the quantisation as it can; TensorRT does so always. Their
meaning is `hyperline.plugins.reference`, whose shape letters they share. All quantisation is symmetric: zero points
are 0, weights have a scale for each output, activations one for the tensor.
"""

from __future__ import annotations

import onnx
import onnx.parser

from hyperline.plugins import QUANTIZED_DOMAIN, QUANTIZED_VERSION
from hyperline.plugins.onnx_functions import set_functions

_LINEAR = """
<opset_import: ["" : 18], domain: "hyperline.quantized">
NAME (x, x_scale, weight, weight_scale, bias MORE) => (y)
{
    zero = Constant <value: tensor = int8 {0}> ()
    x_int8 = QuantizeLinear (x, x_scale, zero)
    x_rounded = DequantizeLinear (x_int8, x_scale, zero)
    weight_rounded = DequantizeLinear <axis: int = 1> (weight, weight_scale)
    product = MatMul (x_rounded, weight_rounded)
    sum = Add (product, bias)
    AFTER
}
"""

# The layout changes before the quantisation, so that nothing stands between it and the convolution.
_BLOCK_CONV = """
<opset_import: ["" : 18], domain: "hyperline.quantized">
NAME (past, x, x_scale, weight, weight_scale, bias MORE) => (y)
{
    axis_0 = Constant <value_ints: ints = [0]> ()
    zero = Constant <value: tensor = int8 {0}> ()
    lines = Concat <axis: int = 0> (past, x)
    image = Unsqueeze (lines, axis_0)
    planes = Transpose <perm: ints = [0, 3, 1, 2]> (image)
    planes_int8 = QuantizeLinear (planes, x_scale, zero)
    planes_rounded = DequantizeLinear (planes_int8, x_scale, zero)
    weight_rounded = DequantizeLinear <axis: int = 0> (weight, weight_scale)
    convolved = Conv <kernel_shape: ints = [3, 3], pads: ints = [0, 1, 1, 1]> (planes_rounded, weight_rounded, bias)
    RECTIFY
    out_image = Transpose <perm: ints = [0, 2, 3, 1]> (out_planes)
    sum = Squeeze (out_image, axis_0)
    AFTER
}
"""

# The form that ONNX Runtime fuses, and that the step is exported in.
_GELU = """
    half = Constant <value_float: float = 0.5> ()
    three = Constant <value_float: float = 3.0> ()
    cubic = Constant <value_float: float = 0.044715> ()
    root = Constant <value_float: float = 0.7978845834732056> ()
    one = Constant <value_float: float = 1.0> ()
    sum_half = Mul (sum, half)
    sum_cubed = Pow (sum, three)
    sum_cubic = Mul (sum_cubed, cubic)
    bent = Add (sum, sum_cubic)
    angle = Mul (bent, root)
    tanh = Tanh (angle)
    gate = Add (tanh, one)
    y = Mul (sum_half, gate)
"""
_AS_IS, _ADD = "y = Identity (sum)", "y = Add (sum, residual)"


def _linear(name: str, more: str = "", after: str = _AS_IS) -> str:
    return _LINEAR.replace("NAME", name).replace(" MORE", more).replace("AFTER", after)


def _block_conv(name: str, more: str = "", rectify: str = "Identity", after: str = _AS_IS) -> str:
    text = _BLOCK_CONV.replace("RECTIFY", f"out_planes = {rectify} (convolved)")
    return text.replace("NAME", name).replace(" MORE", more).replace("AFTER", after)


_TEXTS = (
    _linear("Linear"),
    _linear("LinearAdd", ", residual", after=_ADD),
    _linear("LinearSilu", after="gate = Sigmoid (sum) y = Mul (sum, gate)"),
    _linear("LinearGelu", after=_GELU),
    _block_conv("BlockConv"),
    _block_conv("BlockConvRelu", rectify="Relu"),
    _block_conv("BlockConvAdd", ", residual", after=_ADD),
)


def quantized_functions() -> list[onnx.FunctionProto]:
    """Return the bodies of the INT8 layers."""
    return [onnx.parser.parse_function(text) for text in _TEXTS]


def add_quantized_functions(model: onnx.ModelProto) -> None:
    """Give a model, in place, the bodies of the INT8 layers that its graph uses, and the import of their domain."""
    used = {node.op_type for node in model.graph.node if node.domain == QUANTIZED_DOMAIN}
    bodies = [one for one in quantized_functions() if one.name in used]
    set_functions(model, QUANTIZED_DOMAIN, QUANTIZED_VERSION, bodies)
