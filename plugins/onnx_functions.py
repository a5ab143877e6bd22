"""The two operators as ONNX model-local functions: a runtime without our library runs these bodies.

The bodies are written in ONNX's text syntax and use standard operators of opset 18 only. Their meaning is
`hyperline.plugins.reference`, whose shape letters they share.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx.parser

from hyperline.plugins import DOMAIN, FUSED_DOMAIN, FUSED_VERSION, OPS_VERSION
from hyperline.plugins.fused_functions import fused_functions

# The oldest opset that has all the bodies need (ReduceSum with an axes input, Shape with start and end) and that
# torch's exporter writes without converting; older runtimes on the device read it.
OPSET = 18

# softplus(x) = max(x, 0) + log1p(exp(-|x|)), and log1p(z) = 2 atanh(z / (2 + z)): exact to the last bits also
# for small steps, where log(1 + z) has none left.
#
# One body serves both directions: a Slice along the steps by (start, end, stride) = (0, far, 1) or
# (-1, -far, -1) is a no-op that the runtime removes, or a flip.
#
# u, delta, B, C and y may be FP16, and the arithmetic is float32 all the same. Where they are float32 a runtime removes
# the casts.
#
# A step's tensors are (D, N, S), sequences last: every broadcast then runs over a long contiguous axis. In ONNX
# Runtime on one core that took 3.4 ms for 1024 sequences of 8 steps, 16 channels and 16 states, against 6.1 ms
# with (S, D, N); for 4 sequences of 256 steps and 8 channels it lost, 1.7 ms against 1.1 ms.
_SELECTIVE_SCAN = """
<opset_import: ["" : 18], domain: "hyperline">
SelectiveScan <reverse> (u, delta, A, B, C, D, delta_bias, h0, mask) => (y, h)
{
    axis_0 = Constant <value_ints: ints = [0]> ()
    axis_1 = Constant <value_ints: ints = [1]> ()
    axis_2 = Constant <value_ints: ints = [2]> ()
    axis_last = Constant <value_ints: ints = [-1]> ()
    two = Constant <value_float: float = 2.0> ()
    one = Constant <value_ints: ints = [1]> ()
    far = Constant <value_ints: ints = [9223372036854775807]> ()
    backward = Constant <value_int: int = @reverse> ()
    backward_1d = Unsqueeze (backward, axis_0)
    start = Neg (backward_1d)
    minus_two_backward = Add (start, start)
    stride = Add (one, minus_two_backward)
    end = Mul (stride, far)

    u_full = Cast <to: int = 1> (u)
    delta_full = Cast <to: int = 1> (delta)
    B_full = Cast <to: int = 1> (B)
    C_full = Cast <to: int = 1> (C)

    raw = Add (delta_full, delta_bias)
    magnitude = Abs (raw)
    negative = Neg (magnitude)
    z = Exp (negative)
    z_plus_two = Add (z, two)
    ratio = Div (z, z_plus_two)
    half_log1p = Atanh (ratio)
    log1p = Add (half_log1p, half_log1p)
    positive = Relu (raw)
    softplus = Add (positive, log1p)
    mask_3d = Unsqueeze (mask, axis_last)
    step = Mul (softplus, mask_3d)
    drive = Mul (step, u_full)

    step_LDS = Transpose <perm: ints = [1, 2, 0]> (step)
    drive_LDS = Transpose <perm: ints = [1, 2, 0]> (drive)
    B_LNS = Transpose <perm: ints = [1, 2, 0]> (B_full)
    C_LNS = Transpose <perm: ints = [1, 2, 0]> (C_full)
    step_ordered = Slice (step_LDS, start, end, axis_0, stride)
    drive_ordered = Slice (drive_LDS, start, end, axis_0, stride)
    B_ordered = Slice (B_LNS, start, end, axis_0, stride)
    C_ordered = Slice (C_LNS, start, end, axis_0, stride)
    step_LD1S = Unsqueeze (step_ordered, axis_2)
    drive_LD1S = Unsqueeze (drive_ordered, axis_2)
    B_L1NS = Unsqueeze (B_ordered, axis_1)
    C_L1NS = Unsqueeze (C_ordered, axis_1)
    A_DN1 = Unsqueeze (A, axis_last)

    A_shape = Shape (A)
    sequences = Shape <start: int = 0, end: int = 1> (u)
    state_shape = Concat <axis: int = 0> (A_shape, sequences)
    h0_DNS = Transpose <perm: ints = [1, 2, 0]> (h0)
    h_start = Expand (h0_DNS, state_shape)

    h_end, read_ordered = Scan <num_scan_inputs: int = 4, body: graph =
        recurrence (h_before, step_t, drive_t, B_t, C_t) => (h_after, read_t)
        {
            rate = Mul (step_t, A_DN1)
            decay = Exp (rate)
            held = Mul (decay, h_before)
            added = Mul (drive_t, B_t)
            h_after = Add (held, added)
            weighted = Mul (h_after, C_t)
            read_t = ReduceSum <keepdims: int = 0> (weighted, axis_1)
        }
    > (h_start, step_LD1S, drive_LD1S, B_L1NS, C_L1NS)

    h = Transpose <perm: ints = [2, 0, 1]> (h_end)
    read_LDS = Slice (read_ordered, start, end, axis_0, stride)
    read = Transpose <perm: ints = [2, 0, 1]> (read_LDS)
    direct = Mul (D, u_full)
    y_full = Add (read, direct)
    y = CastLike (y_full, u)
}
"""

# TopK ranks the logits, not their softmax: two logits may differ where rounding makes their softmax equal.
# ONNX has TopK put the lower index first among equals.
_EXPERT_GATE = """
<opset_import: ["" : 18], domain: "hyperline">
ExpertGate <k> (logits) => (weights, active)
{
    axis_0 = Constant <value_ints: ints = [0]> ()
    axis_1 = Constant <value_ints: ints = [1]> ()
    kept = Constant <value_int: int = @k> ()
    kept_1d = Unsqueeze (kept, axis_0)
    kept_logits, kept_experts = TopK <axis: int = 1, largest: int = 1, sorted: int = 1> (logits, kept_1d)
    experts = Shape <start: int = 1, end: int = 2> (logits)
    off_on = Constant <value_floats: floats = [0.0, 1.0]> ()
    one_hot = OneHot <axis: int = -1> (kept_experts, experts, off_on)
    active = ReduceSum <keepdims: int = 0> (one_hot, axis_1)
    softmax = Softmax <axis: int = -1> (logits)
    weights = Mul (softmax, active)
}
"""


def functions() -> list[onnx.FunctionProto]:
    """Return the two operators as function bodies, ``SelectiveScan`` and ``ExpertGate``."""
    return [onnx.parser.parse_function(text) for text in (_SELECTIVE_SCAN, _EXPERT_GATE)]


def add_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model in which every node of our domains has a body to fall back on.

    Args:
        model: a model of opset 18 that may use ``hyperline.SelectiveScan``, ``hyperline.ExpertGate`` and the norms of
            domain ``hyperline.fused``.

    Returns:
        A copy with both functions and the import of domain ``hyperline``, and with those norms that it uses. Bodies of
        our domains that the model had before are replaced.
    """
    complete = onnx.ModelProto()
    complete.CopyFrom(model)
    set_functions(complete, DOMAIN, OPS_VERSION, functions())
    used = {node.op_type for node in model.graph.node if node.domain == FUSED_DOMAIN}
    set_functions(complete, FUSED_DOMAIN, FUSED_VERSION, [one for one in fused_functions() if one.name in used])
    return complete


def set_functions(model: onnx.ModelProto, domain: str, version: int, functions: Sequence[onnx.FunctionProto]) -> None:
    """Give a model, in place, these functions of a domain alone, and the import of the domain where there are any."""
    others = [function for function in model.functions if function.domain != domain]
    imports = [entry for entry in model.opset_import if entry.domain != domain]
    del model.functions[:], model.opset_import[:]
    model.functions.extend([*others, *functions])
    model.opset_import.extend(imports)
    if functions:
        model.opset_import.append(onnx.helper.make_opsetid(domain, version))
