"""The streaming step as one ONNX graph: a pure function of a block of lines and the carried states.

``(lines, valid, *states) -> (labels, confidence, logits, uncertainty, [experts,] *next_states)``, with the contract of
docs/bundle.md. MambaMoE is rewritten first (export/folded.py); other networks are traced as they stand
(export/traced.py). The two operators stay single nodes of domain ``hyperline``, each with a function body of standard
operators.

Shape letters: K lines in a block, W samples, C channels of the network.
"""

from __future__ import annotations

import ast
import copy
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperline import __version__
from hyperline.bundle.card import (
    CONFIDENCE_OUTPUT,
    EXPERTS_OUTPUT,
    LABELS_OUTPUT,
    LINES_INPUT,
    LOGITS_OUTPUT,
    UNCERTAINTY_OUTPUT,
    VALID_INPUT,
    Card,
    StateTensor,
)
from hyperline.export.arithmetic import step_arithmetic
from hyperline.export.folded import StepNetwork
from hyperline.export.step_ops import StepOps, SymbolicStepOps, TorchStepOps
from hyperline.export.traced import TracedStep
from hyperline.plugins import OPS_VERSION
from hyperline.plugins.fused_functions import drop_unread_states
from hyperline.plugins.onnx_functions import OPSET, add_functions
from hyperline.plugins.onnxruntime_ops import OPS_VERSION_KEY
from hyperline.train.models.mambamoe import MambaMoE
from hyperline.train.network import MULTIPLE, Network, check_block_lines
from hyperline.train.ops import Ops


class StreamingStep(nn.Module):
    """A trained MambaMoE, rewritten, as the step that a runtime calls for each block.

    The noise-whitening map and the first learned layer become one matrix where that saves multiplications: not for
    many bands, since the components between the two are few. The mean spectrum is subtracted before: folded into the
    bias too, it would be the difference of two large float32 sums.
    """

    mean: Tensor
    first: Tensor
    first_bias: Tensor

    def __init__(self, network: MambaMoE, block_lines: int, ops: Ops | None = None) -> None:
        super().__init__()
        self.ops: StepOps = SymbolicStepOps() if ops is None else TorchStepOps(ops)
        self.network = StepNetwork(network, self.ops)
        self.block_lines = block_lines
        self.state_names = tuple(spec.name for spec in network.state_specs())
        self.register_buffer("mean", network.mnf_mean.clone())
        projection, weight = network.mnf_projection.T.double(), network.stem.weight.detach().double()
        self.stem: nn.Linear | None = None
        if projection.numel() + weight.numel() < weight.shape[0] * projection.shape[1]:
            padding = -projection.shape[0] % 16  # matrix products run in vectors; what is made of a zero is zero
            first, bias = F.pad(projection, (0, 0, 0, padding)), None
            self.stem = _linear(F.pad(weight, (0, padding)), network.stem.bias)
        else:
            first, bias = weight @ projection, network.stem.bias
        self.register_buffer("first", first.T.float().contiguous())  # (bands, outputs)
        self.register_buffer("first_bias", first.new_zeros(len(first)).float() if bias is None else bias.detach())

    def forward(self, lines: Tensor, valid: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Classify one block.

        Args:
            lines: (K, W, bands) float32; what stands in a pixel that is not valid is never looked at.
            valid: (K, W) bool.
            states: one tensor a carried state, in the order of the network's `state_specs`.

        Returns:
            labels (K, W) uint8; confidence (K, W), the softmax of the label; logits (K, W, classes); uncertainty
            (K, W), the entropy of the softmax as a share of its maximum; experts (scales, experts), the weights that
            the routers give; and the next states. Labels, confidence and uncertainty are 0 where not valid.
        """
        stem = self.ops.centred_linear(lines.flatten(0, 1), self.mean, self.first, self.first_bias)  # (K W, …)
        if self.stem is not None:
            stem = self.stem(stem)
        logits, experts, following = self.network(stem, valid, dict(zip(self.state_names, states, strict=True)))
        logits = logits.unflatten(0, (self.block_lines, -1))
        labels, confidence, uncertainty = self.ops.decide(logits, valid)
        return labels, confidence, logits, uncertainty, experts, *following.values()


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data = weight.float()
    if bias is not None:
        layer.bias.data = bias.detach().clone()
    return layer


def state_tensors(network: Network) -> tuple[StateTensor, ...]:
    """Describe the carried states as the card does, in the graph's order."""
    return tuple(
        StateTensor(
            input=f"state.{spec.name}",
            output=f"next_state.{spec.name}",
            shape=spec.shape,
            sample_axis=spec.sample_axis,
        )
        for spec in network.state_specs()
    )


def untrained_card(
    network: Network,
    block_lines: int,
    class_names: Sequence[str],
    wavelengths_nm: Sequence[float] | None = None,
    composite_bands: tuple[int, int, int] = (0, 0, 0),
) -> Card:
    """Return the card of a network that nothing was recorded of: made up, to be timed, tested or broken.

    Args:
        network: whatever ``export_step`` takes.
        block_lines: K, as exported with.
        class_names: name of class 1, 2, …
        wavelengths_nm: one a band, or None where the sensor says none.
        composite_bands: red, green and blue of its pictures, from 0.
    """
    return Card(
        name="untrained",
        created="2026-01-01T00:00:00+00:00",
        hyperline=__version__,
        block_lines=block_lines,
        bands=network.config.bands,
        sample_multiple=MULTIPLE,
        wavelengths_nm=None if wavelengths_nm is None else tuple(wavelengths_nm),
        class_names=tuple(class_names),
        scale=1.0,
        nodata=None,
        composite_bands=composite_bands,
        states=state_tensors(network),
        training={},
        offline=None,
        streamed=None,
        parity={},
    )


def export_step(network: Network, block_lines: int, class_names: Sequence[str]) -> onnx.ModelProto:
    """Export the streaming step of a trained network.

    Args:
        network: the trained network, float32; it is left as it is.
        block_lines: K, a multiple of 8.
        class_names: name of class 1, 2, …; goes into the metadata.

    Returns:
        A checked model of opset 18 without external data, whose sample axis is dynamic.

    Raises:
        InputError: ``block_lines`` is not a positive multiple of 8.
    """
    check_block_lines(block_lines)
    arithmetic = step_arithmetic(network, block_lines)
    network = copy.deepcopy(network).eval()
    step = (
        StreamingStep(network, block_lines) if isinstance(network, MambaMoE) else TracedStep(network, block_lines)
    ).eval()
    states = state_tensors(network)

    # Any size above 1 would do here: torch.export treats a size of 1 as a constant.
    eighths = 3
    samples = eighths * MULTIPLE
    lines = torch.zeros(block_lines, samples, network.config.bands)
    valid = torch.ones(block_lines, samples, dtype=torch.bool)
    initial = tuple(torch.zeros(state.shape_for(samples, MULTIPLE)) for state in states)
    eighth = torch.export.Dim("eighth_samples", min=1)
    dynamic_states = tuple(
        {} if state.sample_axis is None else {state.sample_axis: state.shape[state.sample_axis] * eighth}
        for state in states
    )
    dynamic_shapes = {
        "lines": {1: MULTIPLE * eighth},
        "valid": {1: MULTIPLE * eighth},
        **({"states": dynamic_states} if states else {}),  # an argument that is not given must not be named
    }
    fixed = [LABELS_OUTPUT, CONFIDENCE_OUTPUT, LOGITS_OUTPUT, UNCERTAINTY_OUTPUT]
    with _quiet(), torch.no_grad():
        if len(step(lines, valid, *initial)) > len(fixed) + len(states):
            fixed.append(EXPERTS_OUTPUT)
        program = torch.onnx.export(
            step,
            (lines, valid, *initial),
            dynamo=True,
            optimize=True,
            opset_version=OPSET,
            dynamic_shapes=dynamic_shapes,
            input_names=[LINES_INPUT, VALID_INPUT, *(state.input for state in states)],
            output_names=[*fixed, *(state.output for state in states)],
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = add_functions(program.model_proto)
    _make_readable(model)
    drop_unread_states(model.graph)
    onnx.helper.set_model_props(
        model,
        {
            OPS_VERSION_KEY: str(OPS_VERSION),
            "hyperline.block_lines": str(block_lines),
            "hyperline.bands": str(network.config.bands),
            "hyperline.sample_multiple": str(MULTIPLE),
            "hyperline.multiply_adds": str(arithmetic.multiply_adds),
            "hyperline.state_updates": str(arithmetic.state_updates),
            "hyperline.class_names": json.dumps(list(class_names), ensure_ascii=False),
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter from the user: its own deprecations, and libraries that we do not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _make_readable(model: onnx.ModelProto) -> None:
    """Name nodes and weights after the layer that they belong to, and drop the exporter's notes.

    The notes hold stack traces with the paths of the machine that exported: nobody else's business, and
    different on every machine, so that equal networks would give unequal files.
    """
    graph = model.graph
    weights = {tensor.name: _layer(tensor.name) for tensor in graph.initializer}
    for tensor in graph.initializer:
        tensor.name = weights[tensor.name]
    counts: Counter[str] = Counter()
    layer = ""
    for node in graph.node:
        scopes = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.name_scopes")
        if scopes:  # a node that the optimizer made has none and belongs where its neighbour does
            layer = _layer(ast.literal_eval(scopes)[-2])
        name = f"{layer}/{node.op_type}" if layer else node.op_type
        counts[name] += 1
        node.name = name if counts[name] == 1 else f"{name}.{counts[name]}"
        node.input[:] = [weights.get(value, value) for value in node.input]
    noted = (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, model)
    for item in noted:
        del item.metadata_props[:]
    kept = [info for info in graph.value_info if info.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    graph.name = "hyperline_step"
    model.producer_name = "hyperline"
    model.producer_version = __version__


def _layer(name: str) -> str:
    """Drop the wrapper's own prefix from the name of a layer or weight."""
    return name.removeprefix("network.")
