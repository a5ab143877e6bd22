"""Which expert served which block: the router's gate weights along the strip, a scale at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperline.pictures import class_colours
from hyperline.report.chart import Axis, Tick
from hyperline.report.inputs import Inputs
from hyperline.report.picture import css_colour, data_url
from hyperline.report.words import count, percent

# In the order of the router (`hyperline.train.ssm.Direction`): cross-track in blues, along-track in oranges.
EXPERTS = (
    ("cross-track →", (0, 114, 178)),
    ("cross-track ←", (86, 180, 233)),
    ("along-track, with the flight", (213, 94, 0)),
    ("along-track, against the flight", (240, 178, 60)),
)
_SCALES = ("a half", "a quarter", "an eighth")
_NOBODY = (128, 128, 128)
_MOST_COLUMNS = 1400
_ROWS = 60


@dataclass(frozen=True)
class Expert:
    """One expert of one scale.

    Attributes:
        served: share of the blocks that it was picked for.
        weight: its mean gate weight there.
    """

    name: str
    colour: str
    served: str
    weight: str


@dataclass(frozen=True)
class Scale:
    """One router.

    Attributes:
        title: of the scale.
        url: of the picture: a column a block, or some blocks; its parts are as high as the experts' weights.
        told: the same in words.
        experts: in the router's order.
    """

    title: str
    url: str
    told: str
    experts: tuple[Expert, ...]


@dataclass(frozen=True)
class Routing:
    """What the template shows."""

    scales: tuple[Scale, ...]
    ticks: tuple[Tick, ...]
    caption: str


def make(inputs: Inputs) -> Routing | None:
    """Read the gate weights of the strip; None where it has none."""
    raster = inputs.strip.experts if inputs.strip else None
    if raster is None or not raster.shape[0]:
        return None
    blocks = raster.shape[0]
    weights = np.nan_to_num(np.asarray(raster.read(0, blocks), np.float32)).clip(0, 1)  # (block, expert, scale)
    step = -(-blocks // _MOST_COLUMNS)
    scales = tuple(_scale(weights[..., scale], scale, step) for scale in range(weights.shape[2]))
    together = f" One column stands for {step} blocks." if step > 1 else ""
    served = bool(weights.any())
    caption = (
        f"{count(blocks)} blocks, the first on the left. The height of a colour is the gate weight of an expert, of "
        f"those that served the block.{together}"
        if served
        else "Nothing was classified, so no expert served."
    )
    return Routing(scales, tuple(Axis(0, blocks, write=count, whole=True).ticks(8)), caption)


def _scale(weights: NDArray[np.float32], scale: int, step: int) -> Scale:
    blocks, experts = weights.shape
    names = [name for name, _ in EXPERTS] if experts == len(EXPERTS) else [f"expert {n + 1}" for n in range(experts)]
    colours = (
        np.array([colour for _, colour in EXPERTS], np.uint8) if experts == len(EXPERTS) else class_colours(experts)
    )
    at = np.arange(0, blocks, step)
    mean = np.add.reduceat(weights, at, axis=0, dtype=np.float64)  # (column, expert)
    total = mean.sum(1, keepdims=True)
    ends = np.cumsum(mean / np.where(total > 0, total, 1), axis=1)
    height = (np.arange(_ROWS) + 0.5) / _ROWS
    owner = (height[:, None, None] > ends[None]).sum(-1).clip(0, experts - 1) + 1
    picture = np.where(total[:, 0] > 0, owner, 0).astype(np.uint8)
    busy = weights.any(axis=1)
    served = weights[busy] > 0
    rows = tuple(
        Expert(
            name,
            css_colour(colours[index]),
            percent(float(served[:, index].mean()) if len(served) else None),
            f"{weights[busy, index][served[:, index]].mean():.2f}" if served[:, index].any() else "–",
        )
        for index, name in enumerate(names)
    )
    of = f", at {_SCALES[scale]} of the resolution" if scale < len(_SCALES) else ""
    palette = np.concatenate([np.array([_NOBODY], np.uint8), colours])
    told = "; ".join(f"{one.name} served {one.served} of the blocks" for one in rows)
    return Scale(f"Scale {scale + 1}{of}", data_url(picture, palette), told, rows)
