"""Networks without a rewritten step: exported as they stand, with routers and states or without."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hyperline.calibration.half import half_model
from hyperline.calibration.int8 import int8_model
from hyperline.calibration.layers import find_layers
from hyperline.errors import HyperlineError
from hyperline.export.arithmetic import step_arithmetic
from hyperline.export.parity import check_parity
from hyperline.export.step import export_step
from hyperline.plugins.native import find_library
from hyperline.plugins.onnxruntime_ops import ORT_LIBRARY
from hyperline.train.first_layer import unlabelled
from hyperline.train.network import Network, NetworkConfig, Prediction, StateSpec, under
from hyperline.train.ops import TorchOps
from hyperline.train.ssm import Direction, SpatialExpert

K = 8


@dataclass(frozen=True)
class TinyConfig(NetworkConfig):
    """Which parts of a network there are."""

    channels: int = 16
    scans: bool = True
    router: bool = False


class Tiny(Network):
    """Two layers of a pixel, then, if asked for, two directions of scans, and a gate over them; two heads."""

    Config = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.ops = TorchOps()
        self.embed = nn.Linear(config.components, config.channels)
        self.norm = nn.LayerNorm(config.channels)
        directions = (Direction.ALONG_TRACK, Direction.CROSS_TRACK_REVERSE) if config.scans else ()
        self.scans = nn.ModuleDict(
            {one.value: SpatialExpert(self.ops, config.channels, 8, 4, one) for one in directions}
        )
        self.router = nn.Linear(config.channels, 2) if config.router else None
        self.heads = nn.ModuleList(nn.Linear(config.channels, config.classes) for _ in range(2))

    def state_specs(self):
        return [
            StateSpec(f"{name}.{key}", tuple(8 if n is None else n for n in shape), shape.index(None))
            for name, scan in self.scans.items()
            for key, shape in scan.state_shapes().items()
        ]

    def forward(self, lines, valid, block_lines, state=None):
        state = self.initial_state(valid.shape[1]) if state is None else state
        mask = valid.float().unflatten(0, (-1, block_lines))
        x = F.silu(self.norm(self.embed(self.components(lines)))).unflatten(0, (-1, block_lines)) * mask.unsqueeze(-1)
        following, routing, active = {}, (), ()
        gate = x.new_ones(x.shape[0], 2)
        if self.router is not None:
            routing = (self.router(x.mean((1, 2))),)
            gate, chosen = self.ops.expert_gate(routing[0], 1)
            active = (chosen,)
        for index, (name, scan) in enumerate(self.scans.items()):
            y, carried = scan(x, mask, under(state, name))
            x = x + y * gate[:, index, None, None, None]
            following |= {f"{name}.{key}": tensor for key, tensor in carried.items()}
        return Prediction(tuple(head(x).flatten(0, 1) for head in self.heads), following, routing, active)


CONFIGS = {
    "scans and a router": {"router": True},
    "scans alone": {},
    "no state": {"scans": False},
}


@pytest.fixture(params=CONFIGS, scope="module")
def tiny(request, scene):
    torch.manual_seed(2)
    network = Tiny(TinyConfig(bands=24, classes=3, components=8, **CONFIGS[request.param]))
    network.fit_first_layer(unlabelled(scene))
    return network.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def graph(tiny):
    return export_step(tiny, K, ("a", "b", "c"))


def test_the_graph_equals_the_network_over_widths_blocks_and_both_kinds_of_operators(tiny, graph, excerpt):
    parity = check_parity(tiny, graph.SerializeToString(), excerpt, K)
    assert parity.equal_labels == 1.0
    assert parity.pixels > 1000 * (1 if find_library(ORT_LIBRARY) is None else 2)
    assert (parity.max_expert_difference is not None) == tiny.config.router
    assert ("max_expert_difference" in parity.as_dict()) == tiny.config.router


def test_experts_are_given_where_there_is_a_router(tiny, graph):
    fixed = ["labels", "confidence", "logits", "uncertainty", *(["experts"] if tiny.config.router else [])]
    states = [f"next_state.{spec.name}" for spec in tiny.state_specs()]
    assert [output.name for output in graph.graph.output] == [*fixed, *states]
    states = [f"state.{spec.name}" for spec in tiny.state_specs()]
    assert [one.name for one in graph.graph.input] == ["lines", "valid", *states]


def test_a_graph_that_lost_its_experts_is_refused(tiny, graph, excerpt):
    if not tiny.config.router:
        pytest.skip("has none")
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    kept = [output for output in copy.graph.output if output.name != "experts"]
    del copy.graph.output[:]
    copy.graph.output.extend(kept)
    with pytest.raises(HyperlineError, match="does not run"):
        check_parity(tiny, copy.SerializeToString(), excerpt, K)


@pytest.mark.parametrize("value", [np.nan, 1e30])
def test_what_stands_in_an_invalid_pixel_changes_nothing(tiny, graph, excerpt, value):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    valid = excerpt.valid[:K]
    assert not valid.all()
    states = {f"state.{name}": tensor.numpy() for name, tensor in tiny.initial_state(valid.shape[1]).items()}
    spoilt = np.where(valid[..., None], excerpt.lines[:K], np.float32(value))
    clean, dirty = (
        session.run(None, {"lines": lines, "valid": valid, **states}) for lines in (excerpt.lines[:K], spoilt)
    )
    for one, other in zip(clean, dirty, strict=True):
        np.testing.assert_array_equal(one, other)


def test_scans_stay_operators_of_ours_and_what_only_trains_is_left_out(tiny, graph):
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count("SelectiveScan") == len(tiny.scans)
    assert kinds.count("ExpertGate") == int(tiny.config.router)
    assert not any(one.name.startswith("heads.1.") for one in graph.graph.initializer)


def test_arithmetic_counts_what_the_answer_needs(tiny):
    config = tiny.config
    pixels, arithmetic = K * 8, step_arithmetic(tiny, K)
    layers = config.bands * config.components + config.components * config.channels + config.channels * config.classes
    inner, rank, state = 8, 1, 4
    mixers = len(tiny.scans) * (
        config.channels * 2 * inner + 9 * inner + inner * (rank + 2 * state) + rank * inner + inner * config.channels
    )
    router = 2 * config.channels if config.router else 0
    assert arithmetic.multiply_adds == pixels * (layers + mixers) + router
    assert arithmetic.state_updates == pixels * len(tiny.scans) * inner * state


def logits_of(model, tiny, excerpt):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    states = {f"state.{name}": tensor.numpy() for name, tensor in tiny.initial_state(excerpt.valid.shape[1]).items()}
    return session.run(["logits"], {"lines": excerpt.lines[:K], "valid": excerpt.valid[:K], **states})[0]


def test_int8_takes_layers_with_a_bias_but_those_of_spectra_and_scans_and_runs(tiny, graph, excerpt):
    layers, floats = find_layers(graph)
    assert {layer.name for layer in layers} == {"heads.0"}
    reasons = {one.name: one.reason for one in floats}
    assert "spectra" in reasons["embed/Gemm"]
    for name in tiny.scans:
        assert "scan" in reasons[f"scans.{name}.x_proj/MatMul"] and "scan" in reasons[f"scans.{name}.dt_proj/MatMul"]
    exact = logits_of(graph.SerializeToString(), tiny, excerpt)
    ranges = {layer.name: 4.0 for layer in layers}
    rounded = logits_of(int8_model(graph, layers, ranges).SerializeToString(), tiny, excerpt)
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.ptp(exact)


def test_the_step_runs_in_fp16(tiny, graph, excerpt):
    exact = logits_of(graph.SerializeToString(), tiny, excerpt)
    half = logits_of(half_model(graph.SerializeToString()), tiny, excerpt)
    np.testing.assert_allclose(half, exact, atol=0.01 * np.ptp(exact))
