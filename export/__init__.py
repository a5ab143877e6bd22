"""Export the streaming step to ONNX and pack it into a bundle."""
