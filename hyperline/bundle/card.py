"""The card: what travels with a model so that nobody has to guess how to run it.

``card.json`` is this data class as JSON. Whatever reads a bundle goes through it. A card may come from an
untrusted file, so every value has a limit; docs/bundle.md lists them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from hyperline.bundle.document import Document, Frozen, Text

# The names of the graph's fixed inputs and outputs (docs/bundle.md).
LINES_INPUT = "lines"
VALID_INPUT = "valid"
LABELS_OUTPUT = "labels"
CONFIDENCE_OUTPUT = "confidence"
LOGITS_OUTPUT = "logits"
UNCERTAINTY_OUTPUT = "uncertainty"
EXPERTS_OUTPUT = "experts"
# What models of before there were these outputs lack.
OPTIONAL_OUTPUTS = frozenset({UNCERTAINTY_OUTPUT, EXPERTS_OUTPUT})

# Some hundred times what the network carries; a line of 1280 samples then stays below 1.3 GiB.
MAX_STATE_BYTES_PER_SAMPLE = 1 << 20

# Fields that bundles of before there were these lack.
_LATER = frozenset({"confidence", "selection"})

Fraction = Annotated[float, Field(ge=0, le=1)]


class StateTensor(Frozen):
    """One tensor that the step carries from block to block; zeros at the start of a strip.

    Attributes:
        input: name of the graph input that takes the state.
        output: name of the graph output that gives the next state.
        shape: dimensions for samples = ``sample_multiple``; see ``sample_axis``.
        sample_axis: the axis of ``shape`` that grows in proportion to the samples, or None where none does.
    """

    input: Text
    output: Text
    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=1 << 20)], ...], Field(min_length=1, max_length=8)]
    sample_axis: Annotated[int, Field(ge=0)] | None

    @model_validator(mode="after")
    def _axis_exists(self) -> StateTensor:
        if self.sample_axis is not None and self.sample_axis >= len(self.shape):
            raise ValueError(f"sample_axis {self.sample_axis} is outside shape {self.shape}")
        return self

    def shape_for(self, samples: int, sample_multiple: int) -> tuple[int, ...]:
        """Return the shape for a line of ``samples`` samples, a multiple of ``sample_multiple``."""
        shape = list(self.shape)
        if self.sample_axis is not None:
            shape[self.sample_axis] = shape[self.sample_axis] * samples // sample_multiple
        return tuple(shape)


class Accuracy(Frozen):
    """Accuracy as fractions on the labelled pixels not trained on (oa: overall, aa: mean over classes)."""

    oa: Fraction
    aa: Fraction
    kappa: float = Field(ge=-1, le=1)
    per_class: tuple[Fraction | None, ...]
    pixels: int = Field(ge=1)


class UnknownScore(Frozen):
    """From which score on a pixel is unlike anything trained on, by the rate at which known pixels are called so.

    Attributes:
        score: ``energy``, -log Σ exp(logit).
        rates: of known pixels, rising; the first is the lowest that the pixels could tell.
        scores: threshold of each rate, falling.
        pixels: known pixels, labelled and not trained on, that the scores are of.
    """

    score: Literal["energy"]
    rates: Annotated[tuple[Fraction, ...], Field(min_length=2, max_length=64)]
    scores: tuple[float, ...]
    pixels: int = Field(ge=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> UnknownScore:
        if len(self.scores) != len(self.rates):
            raise ValueError(f"{len(self.scores)} scores for {len(self.rates)} rates")
        if any(low >= high for low, high in itertools.pairwise(self.rates)):
            raise ValueError("rates must rise")
        if any(high < low for high, low in itertools.pairwise(self.scores)):
            raise ValueError("scores must not rise")
        return self


class Confidence(Frozen):
    """What the confidence of a model is worth (docs/confidence.md).

    Attributes:
        temperature: that the logits were divided by; in the weights already.
        held_out_pixels: labels that it was fitted on; 0 where none was fitted.
        ece_before: expected calibration error without the temperature, on the labelled pixels not trained on,
            streamed; ece_after: with it.
        unknown: None where there were too few pixels to tell.
    """

    temperature: float = Field(gt=0)
    held_out_pixels: int = Field(ge=0)
    ece_before: Fraction
    ece_after: Fraction
    unknown: UnknownScore | None


class BandSelection(Frozen):
    """The bands of a sensor that a model takes, where those are not all.

    Attributes:
        bands: of the sensor's lines.
        ranges: (start, stop) of those that the model takes, ascending, stop not included.
    """

    bands: int = Field(ge=1, le=1 << 12)
    ranges: Annotated[tuple[tuple[int, int], ...], Field(min_length=1, max_length=1 << 12)]

    @model_validator(mode="after")
    def _is_consistent(self) -> BandSelection:
        end = 0
        for start, stop in self.ranges:
            if not end <= start < stop <= self.bands:
                raise ValueError(f"bands {start}:{stop}: ranges must ascend within 0:{self.bands}, no band twice")
            end = stop
        return self

    @property
    def count(self) -> int:
        """Bands that the model takes."""
        return sum(stop - start for start, stop in self.ranges)


class Card(Document):
    """What the runtime must know of a model.

    Attributes:
        name: the model's name, for people.
        created: UTC time of the export, ISO 8601.
        hyperline: version that wrote the bundle.
        block_lines: lines in a block (K); the graph's first dimension.
        bands: spectral bands of a line, in the order of ``wavelengths_nm``.
        sample_multiple: the graph takes any number of samples that is a multiple of this; pad with
            pixels whose ``valid`` is False.
        wavelengths_nm: band centres in nanometres, or None where the training scene had none.
        class_names: name of class 1, 2, …; class 0 is "no class".
        scale: the training scene's stored values times this are its physical units; a source whose
            scale differs is converted before the graph sees it.
        nodata: value that marks a pixel without measurement in the training scene, or None.
        composite_bands: band indices that make a red, green, blue picture.
        states: the carried state, in the graph's order.
        training: provenance (scene, its hash, split, seed, settings).
        offline: accuracy with the whole scene as one block, streamed: with ``block_lines``.
        parity: the export's own check of the ONNX graph against the trained network.
        confidence: what that of the model is worth; None in bundles of before it was measured. The JSON text leaves
            it out then.
        selection: which of the sensor's bands these are, where it has others; the JSON text leaves it out where they
            are all.
    """

    format: Literal[1] = 1
    name: Text
    created: Text
    hyperline: Text
    block_lines: int = Field(ge=1, le=1 << 16)
    bands: int = Field(ge=1, le=1 << 12)
    sample_multiple: int = Field(ge=1, le=1 << 10)
    wavelengths_nm: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] | None
    class_names: Annotated[tuple[Text, ...], Field(min_length=1, max_length=255)]
    scale: float = Field(gt=0)
    nodata: float | None
    composite_bands: tuple[int, int, int]
    states: Annotated[tuple[StateTensor, ...], Field(max_length=1024)]
    training: dict[str, Any]
    offline: Accuracy | None
    streamed: Accuracy | None
    parity: dict[Text, float]
    confidence: Confidence | None = None
    selection: BandSelection | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Card:
        for fault in self._faults():
            raise ValueError(fault)
        return self

    def _faults(self) -> Iterator[str]:
        if self.wavelengths_nm is not None and len(self.wavelengths_nm) != self.bands:
            yield f"{len(self.wavelengths_nm)} wavelengths_nm for {self.bands} bands"
        if self.selection is not None and self.selection.count != self.bands:
            yield f"selection takes {self.selection.count} bands; there are {self.bands}"
        for band in self.composite_bands:
            if not 0 <= band < self.bands:
                yield f"composite_bands names band {band}; the bands are 0 to {self.bands - 1}"
        for accuracy in (self.offline, self.streamed):
            if accuracy and len(accuracy.per_class) != len(self.class_names):
                yield f"accuracy of {len(accuracy.per_class)} classes; there are {len(self.class_names)}"
        names = {LINES_INPUT, VALID_INPUT, LABELS_OUTPUT, CONFIDENCE_OUTPUT, LOGITS_OUTPUT, *OPTIONAL_OUTPUTS}
        for name in (name for state in self.states for name in (state.input, state.output)):
            if name in names:
                yield f"two tensors are named {name!a}"
            names.add(name)
        if self.state_bytes(self.sample_multiple) > MAX_STATE_BYTES_PER_SAMPLE * self.sample_multiple:
            yield f"the states need more than {MAX_STATE_BYTES_PER_SAMPLE} bytes per sample"

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A bundle of before there was a confidence or a selection must be spelled as it was.
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name not in _LATER or value is not None}

    @property
    def provenance(self) -> dict[str, Any]:
        """`training` where it has the form of a run's record; empty where it is something else, as it may be."""
        forms = {"scene": dict, "split": dict, "adapted": dict, "strips": list}
        known = all(isinstance(self.training.get(name, form()), form) for name, form in forms.items())
        return self.training if known else {}

    def state_bytes(self, samples: int) -> int:
        """Return the bytes of all carried state, float32, for a multiple of ``sample_multiple`` samples."""
        shapes = (state.shape_for(samples, self.sample_multiple) for state in self.states)
        return 4 * sum(math.prod(shape) for shape in shapes)
