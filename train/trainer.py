"""Training: whole scenes or tiles, blocks of any length, resumable, repeatable to the bit."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from hyperline.disk import replace_file
from hyperline.errors import HyperlineError, InputError
from hyperline.scenes import Scene, Strips, measured_labels, valid_pixels
from hyperline.train.models import make_network
from hyperline.train.network import MULTIPLE, Network, NetworkConfig, check_block_lines, pad_to_multiple
from hyperline.train.teacher import shallow_opinions
from hyperline.train.ugcl import UgclVariant, balance_loss, scale_losses

BlockLines = Literal["dynamic", "full"] | int
# Dynamic block training draws from these, as streaming speech recognisers do; 0 is the whole scene. Blocks of 8,
# the default on board, come twice: that halved what they lose against the whole scene (bench/tuning.md).
DYNAMIC_BLOCK_LINES = (8, 8, 16, 0)

# Class probabilities (line, sample, class) of a strip, where there are any.
Opinions = Sequence[NDArray[np.float32] | None]

OnEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        epochs: passes over the strips.
        learning_rate: of AdamW, at the start; falls to 0 with power 0.9 (paper, section 4.1).
        weight_decay: of AdamW, on matrices only.
        block_lines: ``dynamic`` draws a length per step, ``full`` is the whole scene, or a fixed length.
        ugcl: variant of the corrective learning (train/ugcl.py).
        balance: weight of the load-balancing loss.
        smoothing: label smoothing.
        consistency: weight of the consistency loss on all pixels, reached over the first third of the epochs; 0
            leaves it out.
        shallow: share that shallow classifiers have in what that loss asks for (train/teacher.py); the averaged
            network has the rest.
        propagate: carry what shallow classifiers say along the strip, to pixels that look alike
            (train/propagation.py).
        average: decay per step of the moving average of the weights, which is what is kept.
        augment: flip and shift the scene at every step; the shift moves the block and pooling grids.
        tile: side of a training tile in pixels; strips no larger are seen whole, and several of them are gathered
            until an optimiser step holds about ``tile`` x ``tile`` pixels.
        seed: of weights, draws and augmentation.
        threads: CPU threads; a run repeats to the bit with the same number.
    """

    epochs: int = 60
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    block_lines: BlockLines = "dynamic"
    ugcl: UgclVariant = "corrected"
    balance: float = 0.01
    smoothing: float = 0.0
    consistency: float = 3.0
    shallow: float = 0.5
    propagate: bool = True
    average: float = 0.95
    augment: bool = True
    tile: int = 256
    seed: int = 0
    threads: int = 2

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


@dataclass
class TrainState:
    """A run in progress: what a checkpoint holds.

    Attributes:
        network: the weights being trained.
        average: their moving average.
        optimizer: AdamW over ``network``.
        epoch: epochs done.
        history: one list a curve, a value an epoch.
        steps: of the optimizer, done.
    """

    network: Network
    average: Network
    optimizer: torch.optim.AdamW
    epoch: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0


def start(strips: Strips, model: NetworkConfig, config: TrainConfig) -> TrainState:
    """Make a network for some strips: seeded weights, and the first layer fitted to the noise of all of them."""
    torch.manual_seed(config.seed)
    network = make_network(model)
    network.fit_first_layer(strips)
    return TrainState(network, copy.deepcopy(network).requires_grad_(False), make_optimizer(network, config))


def train(
    state: TrainState,
    strips: Strips,
    config: TrainConfig,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Network:
    """Train to ``config.epochs`` and return the averaged network, in evaluation mode.

    Args:
        state: from `start` or `load_checkpoint`; it is advanced.
        strips: cubes of the same bands with their training labels; labels that a scene itself holds are not looked at.
        config: how to train.
        checkpoint: written now and then and at the end; None writes none.
        on_epoch: told the epoch just done and its curves.

    Raises:
        InputError: no strip has a training label.
        HyperlineError: the loss is no longer finite.
    """
    strips = [(scene, measured_labels(scene, labels)) for scene, labels in strips]
    if not any(labels.any() for _, labels in strips):
        raise InputError("no training strip has a labelled pixel with a measurement; give labels to at least one")
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    # Every tensor here is written before it is read; filling it first would cost a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    every = max(1, config.epochs // 10)
    opinions = _opinions(state.network, strips, config)
    state.network.train()
    while state.epoch < config.epochs:
        # Every epoch draws from its own seed: a resumed run goes on as if it had never stopped.
        rng = np.random.default_rng([config.seed, state.epoch])
        torch.manual_seed(int(rng.integers(2**62)))
        curves = _train_epoch(state, strips, opinions, config, rng)
        for name, value in curves.items():
            state.history.setdefault(name, []).append(value)
        state.epoch += 1
        if checkpoint and (state.epoch % every == 0 or state.epoch == config.epochs):
            save_checkpoint(checkpoint, state)
        if on_epoch:
            on_epoch(state.epoch, curves)
    return state.average.eval()


def _opinions(network: Network, strips: Strips, config: TrainConfig) -> Opinions:
    """Ask the shallow classifiers, where they have a say."""
    if not config.consistency or not config.shallow:
        return [None for _ in strips]
    return shallow_opinions(strips, network.config.classes, config.seed, config.propagate)


def _train_epoch(
    state: TrainState, strips: Strips, opinions: Opinions, config: TrainConfig, rng: np.random.Generator
) -> dict[str, float]:
    rate = config.learning_rate * (1 - state.epoch / config.epochs) ** 0.9
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    sums: dict[str, float] = {}
    tiles = _tiles(strips, config.tile, rng)
    steps = sum(tile.ends_step for tile in tiles)
    for tile in tiles:
        lines, valid, target = _cut(*strips[tile.strip], tile.window)
        told = opinions[tile.strip]
        opinion = torch.from_numpy(told[tile.window]) if told is not None else lines.new_zeros(*valid.shape, 0)
        block_lines = _draw_block_lines(config.block_lines, rng)
        if config.augment:
            lines, valid, target, opinion = _augment((lines, valid, target, opinion), rng)
        lines, valid = pad_to_multiple(lines, valid, block_lines)
        prediction = state.network(lines, valid, block_lines or lines.shape[0])
        height, width = target.shape
        losses = scale_losses(
            tuple(scores[:height, :width] for scores in prediction.logits),
            target,
            config.ugcl,
            config.smoothing,
        )
        loss = torch.stack(losses).sum()
        curves = {f"scale {i}": one for i, one in enumerate(losses)}
        if prediction.routing:
            curves["balance"] = balance_loss(prediction.routing, prediction.active)
            loss = loss + config.balance * curves["balance"]
        if config.consistency:
            curves["consistency"] = _consistency_loss(
                state, lines, valid, opinion, config.shallow, prediction.logits[0]
            )
            loss = loss + config.consistency * min(1.0, 3 * state.epoch / config.epochs) * curves["consistency"]
        if not torch.isfinite(loss):
            raise HyperlineError(
                f"the loss is {loss.item()} at epoch {state.epoch + 1}; lower --learning-rate, "
                "or look for extreme values in the scene"
            )
        (tile.share * loss).backward()
        for name, value in ({"loss": loss} | curves).items():
            sums[name] = sums.get(name, 0.0) + tile.share * value.item() / steps
        if tile.ends_step:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), 10.0)
            state.optimizer.step()
            state.optimizer.zero_grad()
            _average(state, config.average)
            state.steps += 1
    return sums | {"learning rate": rate}


def _consistency_loss(
    state: TrainState, lines: Tensor, valid: Tensor, opinion: Tensor, shallow: float, logits: Tensor
) -> Tensor:
    """Ask the streaming network for what the averaged one, and shallow classifiers, say with the whole scene in view.

    Unlabelled pixels are plentiful, and the averaged network sees past the block: mean teacher (Tarvainen
    and Valpola, arXiv 1703.01780), with the block length as the perturbation. Shallow classifiers see past it too.

    Args:
        state: holds the averaged network.
        lines: (T, W, bands), padded.
        valid: (T, W).
        opinion: (t, w, classes) of the lines before they were padded; no classes where there is none.
        shallow: its share.
        logits: (T, W, classes) of the network that is trained.
    """
    state.average.eval()
    with torch.no_grad():
        target = state.average(*pad_to_multiple(lines, valid, 0), -(-lines.shape[0] // MULTIPLE) * MULTIPLE)
    target = torch.softmax(target.logits[0][: lines.shape[0], : lines.shape[1]][valid], dim=-1)
    if opinion.shape[2]:
        height, width = opinion.shape[:2]
        target = (1 - shallow) * target + shallow * opinion[valid[:height, :width]]
    return torch.nn.functional.cross_entropy(logits[valid], target)


@torch.no_grad()
def _average(state: TrainState, decay: float) -> None:
    # Early on the average should follow quickly, or it keeps the random start.
    decay = min(decay, (1 + state.steps) / (10 + state.steps))
    for kept, current in zip(state.average.parameters(), state.network.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)


def make_optimizer(network: Network, config: TrainConfig) -> torch.optim.AdamW:
    """Make AdamW over a network's parameters; its weight decay is for matrices only."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
    )


Window = tuple[slice, slice]


@dataclass(frozen=True)
class _Tile:
    """A window of a strip, and its part in an optimiser step.

    Attributes:
        strip: place of the strip in the list.
        window: lines and samples.
        share: its training pixels over those of the step: tiles weigh as they would in one scene.
        ends_step: whether the optimiser moves after it.
    """

    strip: int
    window: Window
    share: float
    ends_step: bool


def _tiles(strips: Strips, side: int, rng: np.random.Generator) -> list[_Tile]:
    """Cut strips into windows of at most ``side`` pixels a side that hold training pixels, in the order of an epoch.

    A strip larger than a tile is cut at a random offset each epoch, so that no pixel is always at an edge, and each of
    its windows is a step. Strips no larger are gathered until the next would bring a step above ``side`` squared
    pixels. No window spans two strips.
    """
    if side < MULTIPLE:
        raise InputError(f"a tile of {side} pixels is too small; use at least {MULTIPLE}")
    windows = [(index, one) for index, (_, labels) in enumerate(strips) for one in _windows(labels, side, rng)]
    steps: list[list[tuple[int, Window, int]]] = []
    gathered: list[tuple[int, Window, int]] = []
    pixels = 0
    for place in rng.permutation(len(windows)):
        index, window = windows[place]
        labels = strips[index][1]
        piece = (index, window, int((labels[window] > 0).sum()))
        if max(labels.shape) > side:
            steps.append([piece])
            continue
        if not gathered or pixels + labels.size > side**2:
            gathered, pixels = [], 0
            steps.append(gathered)
        gathered.append(piece)
        pixels += labels.size
    return [
        _Tile(index, window, count / sum(one for _, _, one in step), place == len(step))
        for step in steps
        for place, (index, window, count) in enumerate(step, start=1)
    ]


def _windows(labels: NDArray[np.uint8], side: int, rng: np.random.Generator) -> list[Window]:
    """Cut one strip; windows without a training pixel are left out."""
    cuts = []
    for size in labels.shape:
        offset = int(rng.integers(side)) if size > side else 0
        starts = sorted({0, *range(offset, size, side)})
        ends = [*starts[1:], size]
        cuts.append([slice(a, b) for a, b in zip(starts, ends, strict=True)])
    return [(rows, columns) for rows in cuts[0] for columns in cuts[1] if labels[rows, columns].any()]


def _cut(scene: Scene, labels: NDArray[np.uint8], window: Window) -> tuple[Tensor, Tensor, Tensor]:
    """Read one window: lines float32, valid bool, target int64."""
    raw = np.asarray(scene.cube[window])
    valid = valid_pixels(raw, scene.nodata)
    lines = np.where(valid[..., None], raw, 0).astype(np.float32)
    target = np.where(valid, labels[window], 0).astype(np.int64)
    return torch.from_numpy(lines), torch.from_numpy(valid), torch.from_numpy(target)


def _augment(maps: tuple[Tensor, ...], rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Flip maps (line, sample, …) along and across track, and shift them by up to one pooling cell with zeros."""
    axes = [axis for axis in (0, 1) if rng.random() < 0.5]
    above, left = (int(n) for n in rng.integers(MULTIPLE, size=2))
    return tuple(torch.nn.functional.pad(one.flip(axes), (*(0, 0) * (one.ndim - 2), left, 0, above, 0)) for one in maps)


def _draw_block_lines(block_lines: BlockLines, rng: np.random.Generator) -> int:
    """Return K, or 0 for the whole scene."""
    if block_lines == "dynamic":
        return int(rng.choice(DYNAMIC_BLOCK_LINES))
    if block_lines == "full":
        return 0
    check_block_lines(block_lines)
    return block_lines


def save_checkpoint(path: Path, state: TrainState) -> None:
    """Write a run in progress to a safetensors file, atomically."""
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in moments.items()}
    metadata = {"epoch": str(state.epoch), "history": json.dumps(state.history), "steps": str(state.steps)}
    replace_file(path, save({k: v.contiguous() for k, v in tensors.items()}, metadata))


def load_checkpoint(path: Path, model: NetworkConfig, config: TrainConfig) -> TrainState:
    """Read what `save_checkpoint` wrote.

    Raises:
        InputError: the file is damaged or belongs to another network.
    """
    network = make_network(model)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, key = name.split(".", 1)
            parts[part][key] = tensor
        network.load_state_dict(parts["network"])
        average = make_network(model).requires_grad_(False)
        average.load_state_dict(parts["average"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = tensor
        optimizer = make_optimizer(network, config)
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        epoch, steps = int(metadata["epoch"]), int(metadata["steps"])
        return TrainState(network, average, optimizer, epoch, json.loads(metadata["history"]), steps)
    except Exception as error:
        raise InputError(
            f"{path} is not a checkpoint of this network ({error}); start again with --overwrite"
        ) from error


def predict(network: Network, scene: Scene, block_lines: int = 0) -> NDArray[np.uint8]:
    """Classify a scene.

    Args:
        network: in evaluation mode.
        scene: any scene with the network's bands.
        block_lines: K; 0 takes the whole scene as one block.

    Returns:
        (line, sample) class ids, 0 where the pixel is not valid.

    Raises:
        InputError: the scene has another number of bands.
    """
    out = np.zeros((scene.lines, scene.samples), dtype=np.uint8)
    for window, valid, logits in _stream(network, scene, block_lines):
        out[window] = torch.where(valid, logits.argmax(-1) + 1, 0).numpy().astype(np.uint8)
    return out


def predict_logits(network: Network, scene: Scene, block_lines: int = 0) -> NDArray[np.float32]:
    """Score the classes of every pixel of a scene; arguments and errors as for `predict`.

    Returns:
        (line, sample, classes), of the finest head; NaN where the pixel is not valid.
    """
    out = np.full((scene.lines, scene.samples, network.config.classes), np.nan, np.float32)
    for window, valid, logits in _stream(network, scene, block_lines):
        out[window] = torch.where(valid.unsqueeze(-1), logits, torch.nan).numpy()
    return out


@torch.no_grad()
def _stream(network: Network, scene: Scene, block_lines: int) -> Iterator[tuple[Window, Tensor, Tensor]]:
    """Yield block by block the window, which of its pixels are valid, and the logits (line, sample, classes)."""
    if scene.bands != network.config.bands:
        raise InputError(
            f"{scene.name} has {scene.bands} bands, the network was trained on {network.config.bands}; "
            "select the same bands"
        )
    nothing = np.zeros((scene.lines, scene.samples), dtype=np.uint8)
    step = block_lines or math.ceil(scene.lines / MULTIPLE) * MULTIPLE
    state: dict[str, Tensor] | None = None
    for first in range(0, scene.lines, step):
        window = (slice(first, first + step), slice(None))
        lines, valid, _ = _cut(scene, nothing, window)
        padded, padded_valid = pad_to_multiple(lines, valid, step)
        prediction = network(padded, padded_valid, step, state)
        state = prediction.state
        yield window, valid, prediction.logits[0][: valid.shape[0], : valid.shape[1]]
