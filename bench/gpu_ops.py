"""Time the CUDA kernels against the bytes they must move, plain torch, and mamba-ssm's kernel where it is installed.

usage: python bench/gpu_ops.py [--library libhyperline_cuda.so]

Prints a Markdown table for the GPU at hand. Every kernel is checked against torch before it is timed. A time is the
least of 7 samples, each a CUDA graph of 50 launches (torch, where a step is a launch: of one call). Arrays stay in L2
from launch to launch where they fit, as they do in the pipeline, where the layer before has just written them; the rate
in GB/s can therefore exceed that of the memory, which a device-to-device copy in the first line shows.

mamba-ssm has no initial state, no mask, and wants channels before steps: it gets contiguous arrays in its own layout
and does that much less.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hyperline.errors import HyperlineError
from hyperline.plugins.native_cuda import CudaLibrary
from hyperline.train.ops import TorchOps

LAUNCHES, SAMPLES = 50, 7


@dataclass(frozen=True)
class Workload:
    """A scan of the step at 1024 samples and blocks of 8 lines."""

    name: str
    S: int
    L: int
    D: int
    N: int = 16
    history: bool = False

    @property
    def updates(self) -> int:
        """State updates."""
        return self.S * self.L * self.D * self.N

    def moved_bytes(self, dtype: torch.dtype) -> int:
        """Bytes that must move once: u, delta, y; B, C; A, h0 and h."""
        steps = self.S * self.L * (3 * self.D + 2 * self.N) * dtype.itemsize
        return steps + 4 * self.D * self.N * (1 + (self.S if self.history else 1) + self.S)


WORKLOADS = (
    Workload("along track", 1024, 8, 16, history=True),
    Workload("along track, quarter scale", 256, 2, 16, history=True),
    Workload("across track, 16 channels", 8, 1024, 16),
    Workload("across track, 4 channels", 8, 1024, 4),
    Workload("over the spectrum", 8192, 8, 16),
)


def seconds(run: Callable[[], object], launches: int = LAUNCHES) -> float:
    """Return the time of one call, as a CUDA graph of several replays it."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(launches):
            run()
    graph.replay()
    times = []
    for _ in range(SAMPLES):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e-3 / launches)
    return min(times)


def scan_inputs(workload: Workload, dtype: torch.dtype) -> dict[str, Tensor]:
    """Draw inputs on the GPU; step sizes lie around 0.02."""
    generator = torch.Generator("cuda").manual_seed(1)

    def normal(*shape: int, kind: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cuda").to(kind)

    S, L, D, N = workload.S, workload.L, workload.D, workload.N
    return {
        "u": normal(S, L, D, kind=dtype),
        "delta": (normal(S, L, D) - 4).to(dtype),
        "A": -torch.arange(1, N + 1, device="cuda", dtype=torch.float32).repeat(D, 1),
        "B": normal(S, L, N, kind=dtype),
        "C": normal(S, L, N, kind=dtype),
        "D": normal(D),
        "delta_bias": normal(D),
        "h0": normal(S, D, N) if workload.history else torch.zeros(1, D, N, device="cuda"),
        "mask": torch.ones(1, 1, device="cuda"),
    }


def native(library: CudaLibrary, inputs: dict[str, Tensor]) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return the native scan as a call without arguments."""
    y = torch.empty_like(inputs["u"])
    h = torch.empty(inputs["u"].shape[0], *inputs["A"].shape, device="cuda")

    def run() -> tuple[Tensor, Tensor]:
        stream = torch.cuda.current_stream().cuda_stream
        library.selective_scan(**inputs, reverse=False, y=y, h=h, stream=stream)
        return y, h

    return run


def mamba(inputs: dict[str, Tensor]) -> Callable[[], object] | None:
    """Return mamba-ssm's scan of the same sizes, or None where it is not installed."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    u, delta, B, C = (inputs[name].transpose(1, 2).contiguous() for name in ("u", "delta", "B", "C"))
    A, D, bias = inputs["A"], inputs["D"], inputs["delta_bias"]
    return lambda: selective_scan_fn(u, delta, A, B, C, D, delta_bias=bias, delta_softplus=True, return_last_state=True)


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--library", type=Path, help="another build of libhyperline_cuda.so")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no NVIDIA GPU, or a torch without CUDA: nothing to time")
    try:
        library = CudaLibrary(arguments.library)
    except HyperlineError as error:
        sys.exit(str(error))

    device = torch.cuda.get_device_properties(0)
    source = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy = 2 * source.numel() / seconds(lambda: target.copy_(source))
    print(f"{device.name}, {device.multi_processor_count} multiprocessors, torch {torch.__version__}; ", end="")
    print(f"device-to-device copy {copy * 1e-9:.0f} GB/s\n")
    plain = TorchOps()
    print("| scan | S × L × D | type | µs | GB/s | of the copy | G updates/s | torch µs | mamba-ssm µs |")
    print("|---|---|---|---|---|---|---|---|---|")
    for workload in WORKLOADS:
        for dtype in (torch.float32, torch.float16):
            inputs = scan_inputs(workload, dtype)
            run = native(library, inputs)
            y, h = run()
            exact = {name: tensor.float() for name, tensor in inputs.items()}
            expected_y, expected_h = plain.selective_scan(**exact, reverse=False)
            tolerance = 1e-3 if dtype == torch.float32 else 2e-2  # tests/gpu holds them to less
            torch.testing.assert_close(y.float(), expected_y, rtol=tolerance, atol=tolerance)
            torch.testing.assert_close(h, expected_h, rtol=tolerance, atol=tolerance)

            time = seconds(run)
            rate = workload.moved_bytes(dtype) / time
            with torch.no_grad():
                torch_time = seconds(lambda inputs=exact: plain.selective_scan(**inputs, reverse=False), launches=1)
            other = mamba(inputs)
            mamba_time = f"{seconds(other) * 1e6:.1f}" if other else "not installed"
            print(
                f"| {workload.name} | {workload.S} × {workload.L} × {workload.D} | {str(dtype).split('.')[1]} "
                f"| {time * 1e6:.1f} | {rate * 1e-9:.0f} | {rate / copy:.2f} | {workload.updates / time * 1e-9:.1f} "
                f"| {torch_time * 1e6:.0f} | {mamba_time} |"
            )


if __name__ == "__main__":
    main()
