"""From a bundle and real lines to a variant of its model that keeps an accuracy budget.

The first half of the lines sets the ranges and drives the search; the second half, streamed with the state that the
first left behind, judges what came out. Nothing is measured on lines that set a range.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hyperline import __version__
from hyperline.bundle import Bundle
from hyperline.bundle.card import Card
from hyperline.calibration.costs import Cost, layer_costs
from hyperline.calibration.equalise import smooth, smoothing_factors
from hyperline.calibration.half import half_model
from hyperline.calibration.int8 import int8_model, with_tensors
from hyperline.calibration.layers import FloatLayer, Kind, Layer, find_layers
from hyperline.calibration.lines import Lines
from hyperline.calibration.observers import METHODS, Observer
from hyperline.calibration.search import Assignment, Budget, Found, Loss, Mode, Trials, search
from hyperline.calibration.stream import Answer, stream
from hyperline.errors import HyperlineError, InputError
from hyperline.metrics import Metrics

# What a variant may lose where the user does not say: points of accuracy, points of a class, agreement.
BUDGETS = {"fp16": Budget(0.05, 1.5, 0.999), "int8": Budget(0.3, 1.5, 0.99)}
# The search keeps a stricter budget where the second half of the lines did not bear out the first.
_STRICTNESS = (1.0, 0.5, 0.25, 0.0)
# A channel this many times the median of its tensor leaves the others less than four bits.
OUTLIER = 8.0
# Shares of the calibration lines after which the ranges are looked at, to see whether they still move.
_SNAPSHOTS = (0.25, 0.5, 0.75, 1.0)

FineTune = Callable[[list[Layer], Mapping[str, float], Lines], Mapping[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Variant:
    """A model of another precision, and how it came to be.

    Attributes:
        model: the ONNX file.
        report: plain numbers and names; ``calibration/PRECISION.json`` of the bundle (docs/calibration.md).
        reference: class map of the float32 model over the strip (line, sample).
        labels: class map of the variant.
        truth: (line, sample) class ids that judged, 0 where there are none.
    """

    model: bytes
    report: dict[str, Any]
    reference: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    truth: NDArray[np.uint8]


@dataclass
class Settings:
    """How to calibrate.

    Attributes:
        precision: ``fp16`` or ``int8``.
        budget: what the variant may lose.
        method: how ranges are chosen, of `METHODS`; ``auto`` takes the one that disturbs the logits least.
        threads: of onnxruntime.
        cache: folder where measurements are kept; None for nowhere.
        fine_tune: makes new weights for layers whose INT8 form loses too much; None to do without.
        on_step: called with what is being done, and how many trials were measured.
    """

    precision: str
    budget: Budget
    method: str = "auto"
    threads: int = 1
    cache: Path | None = None
    fine_tune: FineTune | None = None
    on_step: Callable[[str], None] = field(default=lambda what: None)


def calibrate(bundle: Bundle, lines: Lines, settings: Settings) -> Variant:
    """Make a variant of a bundle's model that keeps a budget.

    Args:
        bundle: with a float32 model; it is left as it is.
        lines: of `read_lines`.
        settings: precision, budget and the rest.

    Raises:
        HyperlineError: no variant keeps the budget, or a model does not run.
    """
    return _Calibration(bundle, lines, settings).run()


@dataclass
class _Seen:
    """What the float32 model did on the strip."""

    answer: Answer
    observers: dict[str, Observer]
    steps: dict[str, Observer]
    states: dict[str, Observer]
    shapes: dict[str, tuple[int, ...]]
    snapshots: list[dict[str, float]]


class _Calibration:
    def __init__(self, bundle: Bundle, lines: Lines, settings: Settings) -> None:
        self.bundle, self.lines, self.settings = bundle, lines, settings
        self.card: Card = bundle.card
        self.model = onnx.load_from_string(bundle.model())
        block = self.card.block_lines
        count = len(lines.valid)
        self.half = max(block, count // 2 // block * block)
        if self.half >= count:
            raise InputError(
                f"{lines.name} has {count} lines, {self.card.name} takes blocks of {block}: half of the lines judge "
                f"the result, so there must be at least {2 * block}"
            )
        self.valid = lines.valid[:, : lines.samples]
        self.first = self.valid & (np.arange(count) < self.half)[:, None]
        self.second = self.valid & ~self.first
        for name, where in (("first", self.first), ("second", self.second)):
            if not where.any():
                raise InputError(f"{lines.name} has no valid pixel in the {name} half of its lines")

    def run(self) -> Variant:
        return self._fp16() if self.settings.precision == "fp16" else self._int8()

    # ---------------------------------------------------------------------------------------------------------- fp16

    def _fp16(self) -> Variant:
        settings = self.settings
        settings.on_step("float32 over all lines")
        reference = self._stream(self.model)
        settings.on_step("FP16 over all lines")
        model = onnx.load_from_string(half_model(self.bundle.model()))
        answer = self._stream(model)
        loss = self._loss(reference, answer, self.second)
        if not settings.budget.holds(loss):
            raise HyperlineError(f"FP16 loses more than the budget allows: {_compare(loss, settings.budget)}")
        return self._variant(model, reference, answer, loss, {})

    # ---------------------------------------------------------------------------------------------------------- int8

    def _int8(self) -> Variant:
        settings = self.settings
        layers, floats = find_layers(self.model)
        if not layers:
            raise HyperlineError(f"{self.card.name} has no layer that can run in INT8")
        settings.on_step("ranges over the first half of the lines")
        seen = self._observe(layers)
        ranges, method = self._ranges(layers, seen)
        settings.on_step("the time of each layer")
        costs = layer_costs(self.model, layers, seen.shapes, settings.threads)
        graph = _Graph(self.model, layers, ranges, {name: one.of_channel for name, one in seen.observers.items()})
        found, answer, loss = self._find(graph, costs, seen, "")
        tuned = False
        if settings.fine_tune is not None and (found is None or Mode.FLOAT in found.assignment.values()):
            settings.on_step("fine-tuning the quantised layers")
            weights = settings.fine_tune(layers, ranges, self._half_of_lines())
            other = graph.with_weights(weights)
            again, other_answer, other_loss = self._find(other, costs, seen, "tuned")
            if again is not None and (found is None or _saved(again, costs) > _saved(found, costs)):
                found, answer, loss, graph, tuned = again, other_answer, other_loss, other, True
        if found is None or answer is None or loss is None:
            raise HyperlineError(
                f"no INT8 model of {self.card.name} keeps the budget of {settings.budget.points:g} points: the float32 "
                f"model itself loses 0 of the {int(self.second.sum())} pixels judged, and no budget can ask for less"
            )
        return self._variant(
            graph.quantised(found.assignment),
            seen.answer,
            answer,
            loss,
            self._int8_report(layers, floats, graph, seen, costs, found, method, tuned),
        )

    def _find(
        self, graph: _Graph, costs: Mapping[str, Cost], seen: _Seen, form: str
    ) -> tuple[Found | None, Answer | None, Loss | None]:
        """Search on the first half of the lines, judge on the second; stricter where the second disagrees."""
        settings = self.settings
        part = self._half_of_lines()

        def measure(assignment: Assignment) -> Loss:
            answer = stream(graph.quantised(assignment), self.card, part, settings.threads)
            return self._loss(seen.answer, answer, self.first)

        trials = Trials(measure, self._cache_file(graph, form))
        saved = {name: cost.saved for name, cost in costs.items()}
        for factor in _STRICTNESS:
            found = search(
                saved,
                graph.can_smooth,
                trials,
                settings.budget.scaled(factor),
                lambda: settings.on_step(f"search: {trials.measured} trials, {trials.found} known"),
            )
            if not found.inside:
                continue
            answer, loss = self._judge(graph, found.assignment, seen)
            if settings.budget.holds(loss):
                return found, answer, loss
        if not found.inside:
            return None, None, None
        # What the first half cannot see: the quieter half of the layers, a quarter, at last none.
        quiet = sorted(
            (name for name, mode in found.assignment.items() if mode is not Mode.FLOAT),
            key=lambda name: found.alone[name].logits,
        )
        while True:
            quiet = quiet[: len(quiet) // 2]
            kept = {name: mode if name in quiet else Mode.FLOAT for name, mode in found.assignment.items()}
            answer, loss = self._judge(graph, kept, seen)
            if settings.budget.holds(loss):
                return replace(found, assignment=kept, loss=trials(kept)), answer, loss
            if not quiet:
                return None, None, None

    def _judge(self, graph: _Graph, assignment: Assignment, seen: _Seen) -> tuple[Answer, Loss]:
        answer = self._stream(graph.quantised(assignment))
        return answer, self._loss(seen.answer, answer, self.second)

    def _cache_file(self, graph: _Graph, form: str) -> Path | None:
        folder = self.settings.cache
        if folder is None:
            return None
        digest = hashlib.sha256(self.bundle.model())
        for tensor in (self.lines.values, self.lines.valid, self.lines.truth):
            digest.update(np.ascontiguousarray(tensor[: self.half]).data)
        digest.update(json.dumps([__version__, form, sorted(graph.ranges.items())]).encode())
        for layer in graph.layers.values():
            digest.update(np.ascontiguousarray(layer.weight).data)
        return folder / f"{digest.hexdigest()[:32]}.json"

    def _observe(self, layers: list[Layer]) -> _Seen:
        """Stream all lines through the float32 model and watch the first half."""
        scans = [node for node in self.model.graph.node if node.op_type == "ProjectedScan"]
        biases = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}
        read = [name for layer in layers for name in layer.reads if name not in biases]
        deltas = [node.input[1] for node in scans]
        states = [state.output for state in self.card.states if state.output.endswith(".scan")]
        seen = _Seen(
            Answer(np.empty(0, np.uint8), np.empty(0, np.float32)),
            {layer.name: Observer() for layer in layers},
            {node.name.rpartition("/")[0]: Observer() for node in scans},
            {name: Observer() for name in states},
            {},
            [],
        )
        blocks = self.half // self.card.block_lines
        marks = {max(1, round(blocks * share)) for share in _SNAPSHOTS}
        inputs = {state.input for state in self.card.states}

        def look(index: int, tensors: Mapping[str, NDArray[Any]]) -> None:
            if index >= blocks:
                return
            seen.shapes.update({name: tensor.shape for name, tensor in tensors.items()})
            for layer in layers:
                seen.observers[layer.name].see(tensors[layer.inputs[-1]])
            for node, observer in zip(scans, seen.steps.values(), strict=True):
                bias = biases[node.input[4]]
                observer.see(np.logaddexp(0.0, tensors[node.input[1]][..., : len(bias)] + bias))
            for name, observer in seen.states.items():
                observer.see(tensors[name])
            if index + 1 in marks:
                seen.snapshots.append({name: one.range("minmax") for name, one in seen.observers.items()})

        tensors = [name for name in (*read, *deltas, *states) if name not in inputs]
        seen.answer = self._stream(self.model, tensors, look)
        samples = self.lines.valid.shape[1]
        for state in self.card.states:
            seen.shapes[state.input] = state.shape_for(samples, self.card.sample_multiple)
        return seen

    def _ranges(self, layers: list[Layer], seen: _Seen) -> tuple[dict[str, float], str]:
        """Choose where each layer's input saturates."""
        settings = self.settings
        part = self._half_of_lines()
        candidates = METHODS if settings.method == "auto" else (settings.method,)
        ranges = {
            method: {name: observer.range(method) for name, observer in seen.observers.items()} for method in candidates
        }
        if len(candidates) == 1:
            return ranges[settings.method], settings.method
        disturbance = {}
        for method, of_layer in ranges.items():
            settings.on_step(f"ranges by {method}")
            answer = stream(int8_model(self.model, layers, of_layer), self.card, part, settings.threads)
            disturbance[method] = self._loss(seen.answer, answer, self.first).logits
        best = min(disturbance, key=disturbance.__getitem__)
        return ranges[best], best

    def _int8_report(
        self,
        layers: list[Layer],
        floats: list[FloatLayer],
        graph: _Graph,
        seen: _Seen,
        costs: Mapping[str, Cost],
        found: Found,
        method: str,
        tuned: bool,
    ) -> dict[str, Any]:
        def why(name: str) -> str | None:
            if found.assignment[name] is not Mode.FLOAT:
                return None
            lost = found.alone[name]
            return (
                f"alone it changes {100 * (1 - lost.agreement):.2f} % of the labels and saves "
                f"{costs[name].saved:.3f} ms a block: the budget went to others"
            )

        return {
            "method": method,
            "fine_tuned": tuned,
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind.value,
                    "runs_in": found.assignment[layer.name].value,
                    "why_float": why(layer.name),
                    "range": graph.ranges[layer.name],
                    "largest": seen.observers[layer.name].largest,
                    "outlier": graph.outlier(layer.name),
                    "alone": asdict(found.alone[layer.name]),
                    "smoothed": asdict(found.smoothed[layer.name]) if layer.name in found.smoothed else None,
                    "milliseconds": asdict(costs[layer.name]),
                }
                for layer in layers
            ],
            "always_float": [asdict(one) for one in floats],
            "steps": [_extent(name, observer) for name, observer in seen.steps.items()],
            "states": [_extent(name, observer) for name, observer in seen.states.items()],
            "more_lines": _movement(seen.snapshots),
        }

    # -------------------------------------------------------------------------------------------------------- shared

    def _half_of_lines(self) -> Lines:
        part = slice(0, self.half)
        lines = self.lines
        return Lines(
            lines.values[part], lines.valid[part], lines.samples, lines.truth[part], lines.name, lines.warnings
        )

    def _stream(
        self,
        model: onnx.ModelProto,
        tensors: Iterable[str] = (),
        look: Callable[[int, Mapping[str, NDArray[Any]]], None] | None = None,
    ) -> Answer:
        return stream(model, self.card, self.lines, self.settings.threads, tensors, look)

    def _loss(self, reference: Answer, answer: Answer, where: NDArray[np.bool_]) -> Loss:
        rows = slice(0, len(answer.labels))
        return Loss.between(
            (reference.labels[rows], reference.logits[rows]),
            (answer.labels, answer.logits),
            self.lines.truth[rows],
            where[rows],
        )

    def _variant(
        self, model: onnx.ModelProto, reference: Answer, answer: Answer, loss: Loss, more: dict[str, Any]
    ) -> Variant:
        data = model.SerializeToString(deterministic=True)
        lines, settings = self.lines, self.settings
        truth = np.where(self.second, lines.truth, 0).astype(np.uint8)
        classes = len(self.card.class_names)
        accuracy = {
            name: Metrics.from_maps(truth, labels, classes).as_dict()
            for name, labels in (("fp32", reference.labels), (settings.precision, answer.labels))
            if truth.any()
        }
        report = {
            "format": 1,
            "hyperline": __version__,
            "precision": settings.precision,
            "model": self.card.name,
            "fp32_sha256": hashlib.sha256(self.bundle.model()).hexdigest(),
            "budget": asdict(settings.budget),
            "lines": {
                "scene": lines.name,
                "samples": lines.samples,
                "set_ranges": [0, self.half],
                "judged": [self.half, len(lines.valid)],
                "pixels_judged": int(self.second.sum()),
                "labelled_judged": int((truth > 0).sum()),
                "warnings": list(lines.warnings),
            },
            "loss": asdict(loss),
            "accuracy": accuracy,
            "bytes": {"fp32": len(self.bundle.model()), settings.precision: len(data)},
            **more,
        }
        return Variant(data, report, reference.labels, answer.labels, lines.truth)


class _Graph:
    """The float32 graph with its layers in both forms, plain and smoothed."""

    def __init__(
        self,
        model: onnx.ModelProto,
        layers: list[Layer],
        ranges: Mapping[str, float],
        of_channel: Mapping[str, NDArray[np.float64] | None],
    ) -> None:
        self.model = model
        self.layers = {layer.name: layer for layer in layers}
        self.ranges = dict(ranges)
        self.of_channel = of_channel
        self.can_smooth = {
            name for name, layer in self.layers.items() if layer.kind is Kind.LINEAR and self.outlier(name) > OUTLIER
        }

    def outlier(self, name: str) -> float:
        """Return how many times its median the largest channel of a layer's input is; 0 for nothing seen."""
        channels = self.of_channel[name]
        median = float(np.median(channels)) if channels is not None else 0.0
        return float(channels.max()) / median if channels is not None and median > 0 else 0.0

    def quantised(self, assignment: Assignment) -> onnx.ModelProto:
        """Return the graph of an assignment."""
        model, chosen, ranges = self.model, [], dict(self.ranges)
        for name, mode in assignment.items():
            layer = self.layers[name]
            if mode is Mode.SMOOTHED:
                channels = self.of_channel[name]
                assert channels is not None
                factors = smoothing_factors(layer, channels)
                model, layer = smooth(model, layer, factors)
                # as much of the smoothed extent as the range keeps of the plain one
                ranges[name] *= float((channels / factors).max() / channels.max())
            if mode is not Mode.FLOAT:
                chosen.append(layer)
        return int8_model(model, chosen, ranges)

    def with_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> _Graph:
        """Return the graph with other weights and biases, by initializer name."""
        model = with_tensors(self.model, weights)
        return _Graph(model, find_layers(model)[0], self.ranges, self.of_channel)


def _saved(found: Found, costs: Mapping[str, Cost]) -> float:
    return sum(costs[name].saved for name, mode in found.assignment.items() if mode is not Mode.FLOAT)


def _extent(name: str, observer: Observer) -> dict[str, Any]:
    return {
        "name": name,
        "low": observer.low,
        "high": observer.high,
        "percentile": observer.range("percentile"),
        "not_finite": observer.not_finite,
    }


def _movement(snapshots: list[dict[str, float]]) -> dict[str, Any]:
    """Say whether more lines would change the ranges: how far the largest values moved at last."""
    if len(snapshots) < 2:
        return {"grew": None, "layer": None}
    before, after = snapshots[-2:]
    growth = {name: after[name] / before[name] - 1 if before[name] else 0.0 for name in after}
    most = max(growth, key=growth.__getitem__)
    return {"grew": growth[most], "layer": most}


def _compare(loss: Loss, budget: Budget) -> str:
    return (
        f"{loss.points:.3f} points of accuracy (budget {budget.points:g}), {loss.worst_class:.2f} of the worst class "
        f"(budget {budget.class_points:g}), {loss.agreement:.3%} of the labels agree (at least {budget.agreement:.1%})"
    )
