"""The two operators that no runtime has: selective scan and expert gate."""

# Where they stand in an ONNX file, and their version there; a change of meaning adds one.
DOMAIN = "hyperline"
OPS_VERSION = 1
