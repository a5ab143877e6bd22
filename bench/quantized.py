"""Times of the INT8 layers in ONNX Runtime: our operators beside its float32 layers and its own fused INT8.

    python bench/quantized.py           # a table for docs; needs the native library and onnx

The shapes are those of the network at 1024 samples and 8 lines a block. Float32 is a Gemm, or a Conv with Relu of
lines that already stand channel-first, as ONNX Runtime's own kernels like them best. The body is what ONNX Runtime
makes of our function without our operator: it finds nothing to fuse there, and computes in float32 between the
roundings. Its INT8 is what it has at best: QuantizeLinear and QGemm, or QuantizeLinear, QLinearConv and
DequantizeLinear of lines that stand channel-first. Inputs and outputs are bound beforehand. Contestants take turns, and
each keeps its best time, as in bench/ops.py.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from timing import Run, best_seconds, processor

from hyperline.plugins import QUANTIZED_DOMAIN, QUANTIZED_VERSION
from hyperline.plugins.native_quantized import QuantizedLibrary
from hyperline.plugins.onnx_functions import OPSET
from hyperline.plugins.onnxruntime_ops import register_native_ops
from hyperline.plugins.quantized_functions import add_quantized_functions

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Layer:
    """A layer of so many inputs and outputs: over rows, or over lines and samples with a 3x3 neighbourhood."""

    pixels: tuple[int, ...]
    inputs: int
    outputs: int

    @property
    def convolves(self) -> bool:
        """Whether the pixels are lines and samples."""
        return len(self.pixels) == 2

    @property
    def name(self) -> str:
        """Its sizes, as the table gives them."""
        kind = "BlockConvRelu" if self.convolves else "Linear"
        return f"{kind} {' × '.join(map(str, self.pixels))} × {self.inputs} → {self.outputs}"


LAYERS = (
    Layer((8192,), 64, 128),
    Layer((2048,), 64, 256),
    Layer((2048,), 256, 64),
    Layer((2048,), 64, 64),
    Layer((2048,), 64, 48),
    Layer((2048,), 64, 44),
    Layer((2048,), 128, 64),
    Layer((2048,), 44, 64),
    Layer((8192,), 128, 16),
    Layer((512,), 64, 64),
    Layer((128,), 64, 64),
    Layer((4, 512), 64, 64),
    Layer((2, 256), 64, 64),
    Layer((1, 128), 64, 64),
)


def draw(layer: Layer) -> Arrays:
    """Activations of unit variance, and INT8 weights and scales that fit them."""
    rng = np.random.default_rng(0)
    neighbourhood = (3, 3) if layer.convolves else ()
    weight = (layer.outputs, layer.inputs) if layer.convolves else (layer.inputs, layer.outputs)
    arrays = {
        "x": rng.normal(size=(*layer.pixels, layer.inputs)).astype(np.float32),
        "x_scale": np.array(4 / 127, np.float32),
        "weight": rng.integers(-127, 128, (*weight, *neighbourhood), np.int8),
        "weight_scale": np.full(layer.outputs, 1e-3, np.float32),
        "bias": rng.normal(size=layer.outputs).astype(np.float32),
    }
    if layer.convolves:
        arrays = {"past": rng.normal(size=(1, *arrays["x"].shape[1:])).astype(np.float32)} | arrays
    return arrays


def quantized_run(layer: Layer, arrays: Arrays, threads: int, native: bool) -> Run:
    """The INT8 layer, as our operator or as the function body."""
    op = "BlockConvRelu" if layer.convolves else "Linear"
    node = onnx.helper.make_node(op, list(arrays), ["y"], domain=QUANTIZED_DOMAIN)
    return _session_run([node], arrays, (*layer.pixels, layer.outputs), threads, native)


def float32_run(layer: Layer, arrays: Arrays, threads: int) -> Run:
    """The layer in float32."""
    make = onnx.helper.make_node
    weight, bias = arrays["weight"].astype(np.float32), arrays["bias"]
    if not layer.convolves:
        node = make("Gemm", ["x", "weight", "bias"], ["y"])
        shape = (*layer.pixels, layer.outputs)
        return _session_run([node], {"x": arrays["x"], "weight": weight, "bias": bias}, shape, threads, False)
    nodes = [
        make("Conv", ["x", "weight", "bias"], ["convolved"], kernel_shape=[3, 3], pads=[0, 1, 1, 1]),
        make("Relu", ["convolved"], ["y"]),
    ]
    shape = (1, layer.outputs, *layer.pixels)
    feeds = {"x": _channel_first(arrays), "weight": weight, "bias": bias}
    return _session_run(nodes, feeds, shape, threads, False)


def int8_run(layer: Layer, arrays: Arrays, threads: int) -> Run:
    """The layer on ONNX Runtime's INT8 kernels, with the unsigned activations that they prefer on x86."""
    make, scales = onnx.helper.make_node, arrays["x_scale"] * arrays["weight_scale"]
    feeds = arrays | {
        "x_zero": np.array(128, np.uint8),
        "weight_zero": np.zeros(layer.outputs, np.int8),
        "bias": np.rint(arrays["bias"] / scales).astype(np.int32),
    }
    quantize = make("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_uint8"])
    operands = ["x_uint8", "x_scale", "x_zero", "weight", "weight_scale", "weight_zero"]
    if not layer.convolves:
        product = make("QGemm", [*operands, "bias"], ["y"], domain="com.microsoft")
        return _session_run([quantize, product], feeds, (*layer.pixels, layer.outputs), threads, False)
    # an unsigned result whose zero is 0 is a ReLU
    feeds |= {"y_scale": np.array(0.04, np.float32), "y_zero": np.array(0, np.uint8), "x": _channel_first(feeds)}
    del feeds["past"]
    operands += ["y_scale", "y_zero", "bias"]
    nodes = [
        quantize,
        make("QLinearConv", operands, ["y_uint8"], kernel_shape=[3, 3], pads=[0, 1, 1, 1]),
        make("DequantizeLinear", ["y_uint8", "y_scale", "y_zero"], ["y"]),
    ]
    return _session_run(nodes, feeds, (1, layer.outputs, *layer.pixels), threads, False)


def _channel_first(arrays: Arrays) -> np.ndarray:
    """The line before the block and its lines, (1, inputs, lines + 1, samples)."""
    lines = np.concatenate([arrays["past"], arrays["x"]])
    return np.ascontiguousarray(lines.transpose(2, 0, 1)[None])


def _session_run(
    nodes: list[onnx.NodeProto], arrays: Arrays, shape: tuple[int, ...], threads: int, native: bool
) -> Run:
    make, fed = onnx.helper, [name for name in ("past", "x") if name in arrays]
    graph = make.make_graph(
        nodes,
        "layer",
        [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, arrays[name].shape) for name in fed],
        [make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items() if name not in fed],
    )
    versions = {"": OPSET, QUANTIZED_DOMAIN: QUANTIZED_VERSION, "com.microsoft": 1}
    opsets = [make.make_opsetid(domain, version) for domain, version in versions.items()]
    model = make.make_model(graph, opset_imports=opsets, ir_version=10)
    add_quantized_functions(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if native:
        register_native_ops(options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name in fed:
        binding.bind_cpu_input(name, arrays[name])
    y = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
    binding.bind_ortvalue_output("y", y)

    def run(held: tuple[object, ...] = (arrays, y)) -> None:  # onnxruntime 1.21 keeps no bound memory alive
        session.run_with_iobinding(binding)

    return run


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="times that every contestant runs")
    rounds = parser.parse_args().rounds
    library = QuantizedLibrary()
    print(f"{processor()}, {os.cpu_count()} cores, {library.instruction_set}; load {os.getloadavg()[0]:.1f}; ", end="")
    print(f"onnxruntime {onnxruntime.__version__}; best of {rounds}, in µs; in brackets float32's time over ours\n")
    columns = [f"{who}, {n}" for n in (1, 2) for who in ("float32", "body", "its INT8", "ours")]
    print(f"| layer, threads | {' | '.join(columns)} |")
    print("|" + "---|" * (1 + len(columns)))
    for layer in LAYERS:
        arrays = draw(layer)
        runs: list[Run] = []
        for threads in (1, 2):
            runs += [float32_run(layer, arrays, threads), quantized_run(layer, arrays, threads, native=False)]
            runs += [int8_run(layer, arrays, threads), quantized_run(layer, arrays, threads, native=True)]
        times = [seconds * 1e6 for seconds in best_seconds(runs, rounds)]
        cells = []
        for float32, *others, ours in (times[:4], times[4:]):
            cells += [f"{microseconds:.0f}" for microseconds in (float32, *others)]
            cells.append(f"{ours:.0f} ({float32 / ours:.1f}×)")
        print(f"| {layer.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
