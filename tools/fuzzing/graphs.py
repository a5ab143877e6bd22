"""The ONNX model of a bundle that is intact otherwise, into onnxruntime and through the self-test before a flight.

A bundle's hashes and signature stand before this: only who may sign can put a damaged graph here. What a parser of
somebody else's makes of one is told, not promised (docs/bundle.md).
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from random import Random

import numpy as np
import onnx

from fuzzing.damage import EXTREMES, damage_bytes
from fuzzing.target import Case, Refusal, Target, attempt
from hyperline.bundle import Bundle, encode_golden, write_bundle
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines.engine import self_test
from hyperline.runtime.engines.ort_cpu import OrtCpuEngine

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "fuzz" / "step.hlb"
MODEL = "model.onnx"
BLOCK, SAMPLES, BANDS, CLASSES = 8, 16, 8, 3


class Graphs(Target):
    """The exported step of a small network."""

    name = "graphs"
    accepted = "flies"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if not CACHE.is_file():  # in another process, for torch would be part of this one's memory
            subprocess.run([sys.executable, "-m", "fuzzing.graphs"], cwd=ROOT / "tools", check=True)
        bundle = Bundle.open(CACHE)
        self.card, self.golden, self.model = bundle.card, bundle.golden(), bundle.model()

    def originals(self) -> Iterator[Case]:
        """Give the model."""
        yield Case((), {MODEL: self.model})

    def make(self, random: Random) -> Case:
        """Damage the bytes, or the graph that they mean."""
        if random.random() < 0.5:
            graph = onnx.ModelProto.FromString(self.model)
            done = [_damage_graph(graph, random) for _ in range(random.choice((1, 1, 2)))]
            return Case(tuple(done), {MODEL: graph.SerializeToString()})
        data = bytearray(self.model)
        done = [damage_bytes(data, random, (self.model,)) for _ in range(random.choice((1, 1, 2, 4)))]
        return Case(tuple(done), {MODEL: bytes(data)})

    def check(self, case: Case) -> str:
        """Load the model and fly the golden block."""
        with redirect_stdout(io.StringIO()), _silence():
            return self._fly(case)

    def _fly(self, case: Case) -> str:
        engine = attempt(lambda: OrtCpuEngine(case.files[MODEL], self.card, threads=1))
        if isinstance(engine, Refusal):
            return "refused: not loaded" if "cannot load" in engine.message else "refused: another graph"
        flown = attempt(lambda: self_test(engine, self.golden))
        if isinstance(flown, Refusal):
            return "refused: self-test" if "self-test" in flown.message else "refused: step failed"
        return "flies"


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what onnxruntime says on its own out of the log."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _damage_graph(model: onnx.ModelProto, random: Random) -> str:
    nodes, weights = model.graph.node, model.graph.initializer
    kind = random.choice(("operator", "wire", "drop", "attribute", "dimension", "type", "cut weights", "cycle"))
    node = random.choice(nodes)
    if kind == "operator":
        node.op_type = random.choice(nodes).op_type
    elif kind == "wire" and node.input:
        node.input[random.randrange(len(node.input))] = random.choice(random.choice(nodes).output)
    elif kind == "drop":
        nodes.remove(node)
    elif kind == "attribute":
        values = [
            one
            for each in nodes
            for one in each.attribute
            if one.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS)
        ]
        value = random.choice(values)
        number = random.choice((-1, 2, *EXTREMES)) % 2**63 * random.choice((1, -1))
        if value.type == onnx.AttributeProto.INT:
            value.i = number
        elif value.ints:
            value.ints[random.randrange(len(value.ints))] = number
    elif kind == "dimension":
        weight = random.choice([one for one in weights if one.dims])
        weight.dims[random.randrange(len(weight.dims))] = random.choice((0, 1, 2, *EXTREMES)) % 2**63
    elif kind == "type":
        random.choice(weights).data_type = random.randrange(24)
    elif kind == "cut weights":
        weight = random.choice(weights)
        weight.raw_data = weight.raw_data[: random.randrange(len(weight.raw_data) + 1)]
    else:
        early, late = random.choice(nodes[: len(nodes) // 2]), random.choice(nodes[len(nodes) // 2 :])
        if early.input and late.output:
            early.input[0] = late.output[0]
    return f"graph {kind}"


def _export() -> None:
    """Export an untrained network, with what it says of one block as golden output."""
    import torch

    from hyperline.export.step import export_step, untrained_card
    from hyperline.train.models.mambamoe import MambaMoE, MambaMoEConfig

    torch.manual_seed(0)
    network = MambaMoE(MambaMoEConfig(bands=BANDS, classes=CLASSES, components=4, channels=16)).eval()
    names = tuple(f"class {number}" for number in range(1, CLASSES + 1))
    model = export_step(network, BLOCK, names).SerializeToString(deterministic=True)
    card = untrained_card(network, BLOCK, names, composite_bands=(2, 1, 0))
    generator = np.random.default_rng(0)
    lines, valid = generator.normal(0, 1, (BLOCK, SAMPLES, BANDS)).astype(np.float32), np.ones((BLOCK, SAMPLES), bool)
    engine = OrtCpuEngine(model, card, threads=1)
    engine.reset(SAMPLES)
    outputs = engine.step(Block(lines, valid, BLOCK))
    golden = {"lines": lines, "valid": valid, "labels": outputs.labels, "logits": outputs.logits}
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(CACHE, {"card.json": card.to_json(), MODEL: model, **encode_golden(golden)})


if __name__ == "__main__":
    _export()
