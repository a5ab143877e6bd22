"""Rates of the selective scan: our kernels beside torch and the ONNX Scan, on the same inputs.

    python bench/ops.py                 # a table for docs; needs hyperline[train] and the native library

A rate is state updates (sequences × steps × channels × states) a second. The call from Python and the making of its
outputs count, for all alike; for ours they are some 15 µs, which the smallest scans show. Contestants take turns, and
each keeps its best time: what else runs on the machine slows all of them, but not alike in every round. Two threads
need two idle cores; the load average is printed so that a reader can judge.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from timing import Run, best_seconds, processor

from hyperline.plugins.native import NativeLibrary, scan_inputs
from hyperline.plugins.onnx_functions import DOMAIN, OPS_VERSION, OPSET, add_functions
from hyperline.train.ops import TorchOps

NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias", "h0", "mask")


@dataclass(frozen=True)
class Shape:
    """A scan of the network at 1024 samples and 8 lines a block."""

    what: str
    sequences: int
    length: int
    channels: int
    states: int = 16
    masked: bool = False

    @property
    def updates(self) -> int:
        """State updates of one scan."""
        return self.sequences * self.length * self.channels * self.states


SHAPES = (
    Shape("the target", 1024, 8, 16),
    Shape("wholly masked", 1024, 8, 16, masked=True),
    Shape("along track, half scale", 512, 4, 16),
    Shape("cross track, half scale", 4, 512, 8),
    Shape("spectral expert, half scale", 2048, 8, 16),
    Shape("a training scene across track", 80, 80, 8),
)


def draw(shape: Shape) -> dict[str, np.ndarray]:
    """Inputs with step sizes spread over [0, 0.1] and decay rates 1 .. N."""
    rng = np.random.default_rng(0)
    S, L, D, N = shape.sequences, shape.length, shape.channels, shape.states
    normal = {name: rng.normal(size=size) for name, size in (("u", (S, L, D)), ("B", (S, L, N)), ("C", (S, L, N)))}
    step = rng.uniform(1e-4, 0.1, (S, L, D))
    arrays = normal | {
        "delta": np.log(np.expm1(step)),
        "A": -np.tile(np.arange(1.0, N + 1), (D, 1)),
        "D": np.ones(D),
        "delta_bias": np.zeros(D),
        "h0": rng.normal(size=(S, D, N)),
        "mask": np.full((1, 1), 0.0 if shape.masked else 1.0),
    }
    return {name: arrays[name].astype(np.float32) for name in NAMES}


def native_runs(library: NativeLibrary, arrays: dict[str, np.ndarray], threads: int) -> tuple[Run, Run]:
    """Our forward and backward."""
    inputs = scan_inputs(**arrays, reverse=False)
    grad_y = np.ones_like(arrays["u"])
    return (
        lambda: library.selective_scan(inputs, threads),
        lambda: library.selective_scan_backward(inputs, grad_y, threads),
    )


def torch_runs(arrays: dict[str, np.ndarray], threads: int) -> tuple[Run, Run]:
    """Torch's forward without a tape, and its backward alone."""
    tensors = [torch.from_numpy(arrays[name]) for name in NAMES]
    learned = [tensor.clone().requires_grad_() for tensor in tensors[:7]]
    tape, _ = TorchOps().selective_scan(*learned, *tensors[7:], False)
    grad_y = torch.ones_like(tape)

    def forward() -> None:
        torch.set_num_threads(threads)
        with torch.no_grad():
            TorchOps().selective_scan(*tensors, False)

    def backward() -> None:
        torch.set_num_threads(threads)
        torch.autograd.grad(tape, learned, grad_y, retain_graph=True)

    return forward, backward


def onnx_run(arrays: dict[str, np.ndarray], threads: int) -> Run:
    """The function body of standard operators in ONNX Runtime."""
    make = onnx.helper
    values = {
        name: make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape) for name, array in arrays.items()
    }
    node = make.make_node("SelectiveScan", list(NAMES), ["y", "h"], domain=DOMAIN, reverse=0)
    outputs = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("y", "h")]
    graph = make.make_graph([node], "scan", [values[name] for name in NAMES], outputs)
    opsets = [make.make_opsetid("", OPSET), make.make_opsetid(DOMAIN, OPS_VERSION)]
    model = add_functions(make.make_model(graph, opset_imports=opsets, ir_version=10))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, arrays)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="times that every contestant runs")
    rounds = parser.parse_args().rounds
    library = NativeLibrary()
    print(f"{processor()}, {os.cpu_count()} cores, {library.instruction_set}; load {os.getloadavg()[0]:.1f}; ", end="")
    print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}; best of {rounds}\n")
    columns = [f"{who}, {n}" for n in (1, 2) for who in ("ours", "torch", "ONNX Scan", "our gradients", "torch's")]
    print("G updates/s by", "threads; gradients are the backward pass alone, its recomputed states included\n")
    print(f"| scan (S × L × D × N) | {' | '.join(columns)} |")
    print("|" + "---|" * (1 + len(columns)))
    for shape in SHAPES:
        arrays = draw(shape)
        runs: list[Run] = []
        for threads in (1, 2):
            forward, backward = native_runs(library, arrays, threads)
            torch_forward, torch_backward = torch_runs(arrays, threads)
            runs += [forward, torch_forward, onnx_run(arrays, threads), backward, torch_backward]
        rates = [shape.updates / seconds / 1e9 for seconds in best_seconds(runs, rounds)]
        size = f"{shape.sequences} × {shape.length} × {shape.channels} × {shape.states}"
        print(f"| {shape.what} ({size}) | {' | '.join(f'{rate:.2f}' for rate in rates)} |", flush=True)


if __name__ == "__main__":
    main()
