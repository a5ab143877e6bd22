"""Time the step at the full frame of a sensor in float32, INT8 and FP16, and show where the time goes.

    python bench/precisions.py [--samples 1024] [--bands 224] [--classes 16] [--threads 2] [--seconds 20]

The network has random weights and its INT8 ranges come from the golden block: speed depends on neither. The models take
turns block by block. The profile is onnxruntime's own, taken afterwards: median microseconds of each node, added up by
operator; it slows every node by a little.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import onnxruntime
from step import full_frame_bundle

from hyperline.bundle import Bundle
from hyperline.bundle.bundle import MODELS
from hyperline.calibration.half import half_model
from hyperline.calibration.int8 import int8_model
from hyperline.calibration.layers import find_layers
from hyperline.plugins.onnxruntime_ops import register_native_ops
from hyperline.runtime.bench import stepper, take_turns
from hyperline.runtime.engines import load_engine

_PROFILED_BLOCKS = 60
_SHOWN = 16
_RANGE = 8.0  # of every layer; the random network's activations stay below


def main() -> None:
    """Make the three models, time them and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--classes", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = full_frame_bundle(Path(folder) / "bench.hlb", options.bands, options.classes)
        graph = onnx.load_from_string(bundle.model())
        layers, _ = find_layers(graph)
        models = {
            "fp32": bundle.model(),
            "int8": int8_model(graph, layers, {layer.name: _RANGE for layer in layers}).SerializeToString(),
            "fp16": half_model(bundle.model()),
        }
        held = {**bundle.members, **{MODELS[name]: model for name, model in models.items()}}
        bundle = replace(bundle, members=MappingProxyType(held))
        engines = [load_engine("ort-cpu", models[name], bundle.card, options.threads, name) for name in models]
        times = take_turns([stepper(engine, bundle, options.samples) for engine in engines], options.seconds)
        milliseconds = {name: float(np.median(spent)) * 1e3 for name, spent in zip(models, times, strict=True)}
        print(f"{options.samples} samples × {options.bands} bands, {options.threads} threads, {len(times[0])} rounds\n")
        print("| model | ms a block | lines/s | times float32 | file, kB | of float32 |")
        print("|---|---|---|---|---|---|")
        for name, spent in milliseconds.items():
            size, of = len(models[name]), len(models["fp32"])
            print(
                f"| {name} | {spent:.2f} | {1e3 * bundle.card.block_lines / spent:.0f} | "
                f"{milliseconds['fp32'] / spent:.2f} | {size / 1e3:.0f} | {size / of:.0%} |"
            )
        profiles = {name: _profile(models[name], bundle, options, Path(folder)) for name in ("fp32", "int8")}
        _print_profiles(profiles)


def _profile(model: bytes, bundle: Bundle, options: argparse.Namespace, folder: Path) -> dict[str, tuple[int, float]]:
    """Return nodes and microseconds by operator."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    settings.enable_profiling = True
    settings.profile_file_prefix = str(folder / "profile")
    register_native_ops(settings)
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    golden, card = bundle.golden(), bundle.card
    columns = np.arange(options.samples) % golden["valid"].shape[1]
    feeds = {name: np.ascontiguousarray(golden[name][:, columns]) for name in ("lines", "valid")}
    for state in card.states:
        feeds[state.input] = np.zeros(state.shape_for(options.samples, card.sample_multiple), np.float32)
    for _ in range(_PROFILED_BLOCKS):
        session.run(None, feeds)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"])
    by_operator: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for (operator, _), spent in times.items():
        nodes, total = by_operator[operator]
        by_operator[operator] = nodes + 1, total + float(np.median(spent))
    return by_operator


def _print_profiles(profiles: Mapping[str, Mapping[str, tuple[int, float]]]) -> None:
    most = {
        name: max(profile.get(name, (0, 0.0))[1] for profile in profiles.values())
        for profile in profiles.values()
        for name in profile
    }
    print(f"\n| operator | {' | '.join(f'{name}: nodes | µs' for name in profiles)} |")
    print("|---" * (1 + 2 * len(profiles)) + "|")
    for operator in sorted(most, key=most.__getitem__, reverse=True)[:_SHOWN]:
        cells = [profile.get(operator, (0, 0.0)) for profile in profiles.values()]
        print(f"| {operator} | " + " | ".join(f"{nodes} | {spent:.0f}" for nodes, spent in cells) + " |")
    sums = [(sum(n for n, _ in profile.values()), sum(t for _, t in profile.values())) for profile in profiles.values()]
    print("| all | " + " | ".join(f"{nodes} | {spent:.0f}" for nodes, spent in sums) + " |")


if __name__ == "__main__":
    main()
