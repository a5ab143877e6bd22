"""TensorRT on this machine: what is installed, how an engine is built, where it is kept."""
