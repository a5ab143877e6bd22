"""The card: what travels with a model so that nobody has to guess how to run it.

``card.json`` is this data class as JSON. Whatever reads a bundle goes through it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# The names of the graph's fixed inputs and outputs (docs/bundle.md).
LINES_INPUT = "lines"
VALID_INPUT = "valid"
LABELS_OUTPUT = "labels"
CONFIDENCE_OUTPUT = "confidence"
LOGITS_OUTPUT = "logits"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StateTensor(_Frozen):
    """One tensor that the step carries from block to block; zeros at the start of a strip.

    Attributes:
        input: name of the graph input that takes the state.
        output: name of the graph output that gives the next state.
        shape: dimensions for samples = ``sample_multiple``; see ``sample_axis``.
        sample_axis: the axis of ``shape`` that grows in proportion to the samples.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    sample_axis: int

    def shape_for(self, samples: int, sample_multiple: int) -> tuple[int, ...]:
        """Return the shape for a line of ``samples`` samples, a multiple of ``sample_multiple``."""
        shape = list(self.shape)
        shape[self.sample_axis] = shape[self.sample_axis] * samples // sample_multiple
        return tuple(shape)


class Accuracy(_Frozen):
    """Accuracy as fractions on the labelled pixels not trained on (oa: overall, aa: mean over classes)."""

    oa: float
    aa: float
    kappa: float
    per_class: tuple[float | None, ...]
    pixels: int


class Card(_Frozen):
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
    """

    format: Literal[1] = 1
    name: str
    created: str
    hyperline: str
    block_lines: int = Field(gt=0)
    bands: int = Field(gt=0)
    sample_multiple: int = Field(gt=0)
    wavelengths_nm: tuple[float, ...] | None
    class_names: tuple[str, ...]
    scale: float
    nodata: float | None
    composite_bands: tuple[int, int, int]
    states: tuple[StateTensor, ...]
    training: dict[str, Any]
    offline: Accuracy | None
    streamed: Accuracy | None
    parity: dict[str, float]
