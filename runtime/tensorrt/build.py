"""From a graph to a TensorRT engine: parse, set the range of samples, build. The same for TensorRT and TensorRT-RTX."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hyperline.bundle.card import LINES_INPUT, VALID_INPUT, Card
from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.tensorrt.toolkit import ErrorLog

if TYPE_CHECKING:
    import tensorrt


@dataclass(frozen=True)
class Samples:
    """The widths of lines that an engine takes, and the one that it is tuned for."""

    minimum: int
    optimum: int
    maximum: int

    @classmethod
    def parse(cls, text: str) -> Samples:
        """Read ``MIN:OPT:MAX``.

        Raises:
            InputError: it is not three whole numbers.
        """
        try:
            minimum, optimum, maximum = map(int, text.split(":"))
        except ValueError as error:
            raise InputError(f"--samples is {text!r}; it must be MIN:OPT:MAX, such as 8:1024:2048") from error
        return cls(minimum, optimum, maximum)

    @classmethod
    def usual(cls, card: Card) -> Samples:
        """Return what serves most sensors: any width up to 2048, tuned for 1024."""
        multiple = card.sample_multiple
        return cls(multiple, -(-1024 // multiple) * multiple, -(-2048 // multiple) * multiple)

    def check(self, card: Card, golden_samples: int) -> None:
        """Refuse what a model cannot take or could not be tested on.

        Args:
            card: of the model.
            golden_samples: width of the golden block, which every engine must classify before it flies.

        Raises:
            InputError: not in order, no multiples of the card's ``sample_multiple``, or without the golden width.
        """
        sizes, multiple = (self.minimum, self.optimum, self.maximum), card.sample_multiple
        if not 0 < self.minimum <= self.optimum <= self.maximum or any(size % multiple for size in sizes):
            raise InputError(
                f"samples {self} are not MIN <= OPT <= MAX in positive multiples of {multiple}, which {card.name} takes"
            )
        if not self.minimum <= golden_samples <= self.maximum:
            raise InputError(
                f"samples {self} leave out the {golden_samples} of the golden block, on which {card.name} is tested "
                f"before each flight; make MIN at most and MAX at least {golden_samples}"
            )

    def __str__(self) -> str:
        return f"{self.minimum}:{self.optimum}:{self.maximum}"


@dataclass(frozen=True)
class BuiltEngine:
    """An engine, serialised, and what TensorRT learnt of the GPU's speed on the way."""

    engine: bytes
    timing_cache: bytes


def input_shapes(card: Card, samples: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each input of the step for lines of ``samples`` samples."""
    block = (card.block_lines, samples)
    states = {state.input: state.shape_for(samples, card.sample_multiple) for state in card.states}
    return {LINES_INPUT: (*block, card.bands), VALID_INPUT: block, **states}


def build_engine(
    trt: Any,
    graph: bytes,
    card: Card,
    samples: Samples,
    timing_cache: bytes = b"",
    compute_capability: str | None = None,
) -> BuiltEngine:
    """Build an engine.

    Args:
        trt: the module ``tensorrt`` or ``tensorrt_rtx``.
        graph: ONNX, in a form that this parser takes; its types are the engine's precision.
        card: what the graph takes and gives.
        samples: widths to build for, which the model can take (``Samples.check``).
        timing_cache: of an earlier build by the same release on the same GPU; empty for none.
        compute_capability: for TensorRT-RTX, which needs no GPU to build then: the target, such as ``"SM86"``. None
            for the GPU here.

    Raises:
        HyperlineError: the parser or the builder refuses the graph.
    """
    log = ErrorLog(trt)
    builder: tensorrt.Builder = trt.Builder(log.logger)
    # What every release from 11 on does alone has no flag there, and flags change their numbers: go by the name.
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    _parse(trt.OnnxParser(network, log.logger), graph, card, trt.__version__)
    config = builder.create_builder_config()
    if compute_capability is not None:
        rtx: Any = config  # the types are TensorRT's own
        rtx.num_compute_capabilities = 1
        rtx.set_compute_capability(getattr(trt.ComputeCapability, compute_capability), 0)
    # FP32 means FP32: TF32 keeps ten bits of a product's factors, and the self-test would see it.
    if (tf32 := getattr(trt.BuilderFlag, "TF32", None)) is not None:
        config.clear_flag(tf32)
    config.add_optimization_profile(_profile(trt, builder, card, samples))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TensorRT-RTX measures nothing and says so
        # Of a cache that it cannot read (another release, another GPU) TensorRT makes an empty one.
        config.set_timing_cache(config.create_timing_cache(timing_cache), ignore_mismatch=False)
        engine = builder.build_serialized_network(network, config)
        learnt = config.get_timing_cache()
    if not engine:  # None, whatever its type says
        raise HyperlineError(
            f"TensorRT {trt.__version__} cannot build {card.name} for {samples} samples: {log.reason()}; -v shows its "
            "log, and a smaller MAX takes less memory"
        )
    return BuiltEngine(bytes(engine), bytes(learnt.serialize()) if learnt else b"")


def _parse(parser: Any, graph: bytes, card: Card, version: str) -> None:
    if parser.parse(graph):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        raise HyperlineError(f"TensorRT {version} cannot read the graph of {card.name}; export the bundle again")
    error = errors[0]
    more = f", and {len(errors) - 1} more behind it" if len(errors) > 1 else ""
    raise HyperlineError(
        f"TensorRT {version} cannot take node {error.node()}, {error.node_name() or 'unnamed'} "
        f"({error.node_operator() or 'no operator'}), of {card.name}{more}: {error.desc().strip()}; export the bundle "
        "again with this release, or update TensorRT"
    )


def _profile(trt: Any, builder: tensorrt.Builder, card: Card, samples: Samples) -> tensorrt.IOptimizationProfile:
    profile = builder.create_optimization_profile()
    shapes = [input_shapes(card, size) for size in (samples.minimum, samples.optimum, samples.maximum)]
    for name in shapes[0]:
        profile.set_shape(name, *(trt.Dims(shape[name]) for shape in shapes))
    return profile
