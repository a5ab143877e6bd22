"""Time an epoch of training on a real scene by implementation of the selective scan, in turns.

    python bench/training.py [--scene indian-pines] [--rounds 5] [--threads 2]

``loop`` is the scan as PyTorch code usually has it, a Python loop that autograd records; ``torch`` is
hyperline.train.ops, which recomputes the states chunk by chunk; ``native`` is the library of plugins/cpu.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hyperline.scenes import read_scene
from hyperline.splits import random_split
from hyperline.train.models.mambamoe import MambaMoEConfig
from hyperline.train.native_ops import NativeOps, fastest_ops
from hyperline.train.ops import TorchOps
from hyperline.train.trainer import TrainConfig, start, train


class LoopOps(TorchOps):
    """The scan as a loop over its steps, left to autograd."""

    def selective_scan(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        delta_bias: Tensor,
        h0: Tensor,
        mask: Tensor,
        reverse: bool,
    ) -> tuple[Tensor, Tensor]:
        """Run a selective scan; see `TorchOps.selective_scan`."""
        step = F.softplus(delta + delta_bias) * mask.unsqueeze(-1)
        decay = torch.exp(step.unsqueeze(-1) * A)  # (S, L, D, N)
        drive = (step * u).unsqueeze(-1) * B.unsqueeze(2)
        length = u.shape[1]
        h, outputs = h0, [u] * length
        for t in reversed(range(length)) if reverse else range(length):
            h = decay[:, t] * h + drive[:, t]
            outputs[t] = (h * C[:, t, None]).sum(-1)
        return torch.stack(outputs, 1) + D * u, h.detach()


def main() -> None:
    """Train each contestant for an epoch in turn, after one that does not count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default="indian-pines")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    scene = read_scene(options.scene)
    strips = [(scene, random_split(scene.labels, 15, 0).train)]
    # Shallow teachers are fitted once a training; here every epoch is a training of its own.
    config = TrainConfig(epochs=options.rounds + 1, threads=options.threads, block_lines=8, shallow=0.0)
    model = MambaMoEConfig(bands=scene.bands, classes=int(scene.labels.max()))
    contestants = {"loop": LoopOps(), "torch": TorchOps()}
    if isinstance(native := fastest_ops(), NativeOps):
        contestants["native"] = native
    runs = {}
    for name, ops in contestants.items():
        state = start(strips, model, config)
        state.network.use_ops(ops)
        state.average.use_ops(ops)
        runs[name] = state, list[float]()
    for epoch in range(1, config.epochs + 1):
        for state, times in runs.values():
            began = time.perf_counter()
            train(state, strips, replace(config, epochs=epoch))
            times.append(time.perf_counter() - began)
    print(f"seconds an epoch, {scene.name}, blocks of 8 lines, {options.threads} threads; median of {options.rounds}")
    medians = {name: statistics.median(times[1:]) for name, (_, times) in runs.items()}
    for name, median in medians.items():
        times = runs[name][1][1:]
        against = "" if name == "loop" else f", {medians['loop'] / median:.1f} times the loop's speed"
        print(f"  {name:<7} {median:.3f} (from {min(times):.3f} to {max(times):.3f}){against}")


if __name__ == "__main__":
    main()
