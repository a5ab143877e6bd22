"""The two operators that no runtime has: selective scan and expert gate."""

# Where they stand in an ONNX file, and their version there; a change of meaning adds one.
DOMAIN = "hyperline"
OPS_VERSION = 1

# The same for the INT8 layers. A domain of its own: TensorRT has no plugins for them, it fuses their bodies.
QUANTIZED_DOMAIN = "hyperline.quantized"
QUANTIZED_VERSION = 1

# The same for norms with what stands around them.
FUSED_DOMAIN = "hyperline.fused"
FUSED_VERSION = 1
