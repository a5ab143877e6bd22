"""The run folder: what a training leaves behind, and how it is read again.

RUN/model.safetensors       weights of the averaged network
RUN/run.json                scene, split, settings, curves and accuracy
RUN/split.npz               training and test pixels of the first strip, and by scene_hash the labels each scene taught
RUN/curves.png              losses and learning rate by epoch
RUN/checkpoint.safetensors  a run in progress; gone when the run is done
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save

from hyperline import __version__
from hyperline.bundle.card import BandSelection
from hyperline.classes import all_names
from hyperline.disk import disk_errors, replace_file
from hyperline.errors import InputError
from hyperline.machine import cpus
from hyperline.metrics import Metrics, Reliability
from hyperline.pictures import training_curves_picture
from hyperline.scenes import Scene, Strips, composite_bands, describe_invalid, scene_hash, valid_pixels
from hyperline.splits import Split
from hyperline.train.confidence import (
    HeldOut,
    answer_layer,
    divide_logits,
    held_out_temperature,
    labels_and_confidence,
    unknown_scores,
)
from hyperline.train.models import make_network, network_config, network_name
from hyperline.train.network import MULTIPLE, Network, NetworkConfig
from hyperline.train.trainer import (
    OnEpoch,
    TrainConfig,
    TrainState,
    load_checkpoint,
    predict_logits,
    start,
    train,
)

WEIGHTS = "model.safetensors"
RECORD = "run.json"
SPLIT = "split.npz"
EXCERPT = "excerpt.npz"
CURVES = "curves.png"
CHECKPOINT = "checkpoint.safetensors"

STREAMED_BLOCK_LINES = 8
# Three blocks of 32 lines, and enough samples to see every part of the network at work.
_EXCERPT_LINES, _EXCERPT_SAMPLES = 96, 128
# Above this many pixels a whole scene is no longer classified in one call; its blocks are this large instead.
_WHOLE_SCENE_PIXELS = 2**20


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Attributes:
        path: the folder.
        network: in evaluation mode.
        record: run.json.
    """

    path: Path
    network: Network
    record: dict[str, Any]

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for every class, whether the training scene had them or not."""
        return all_names(self.record["scene"]["class_names"], self.network.config.classes)


def train_run(
    strips: Sequence[tuple[Scene, Split]],
    model: NetworkConfig,
    config: TrainConfig,
    out: Path,
    *,
    selection: BandSelection | None = None,
    resume: bool = False,
    overwrite: bool = False,
    mask_invalid: bool = False,
    temperature: bool = False,
    begin: Callable[[], tuple[TrainState, Strips]] | None = None,
    earlier: Strips = (),
    judge: Callable[[Network], dict[str, Any]] | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainedRun:
    """Train on one strip or several and write the run folder.

    Args:
        strips: scenes, each with the training and test pixels of its labels; several are of one sensor and number
            their classes alike (`hyperline.train.strips.of_one_sensor`). Figures are over the test pixels of all.
        model: size of the network.
        config: how to train.
        out: the folder; made if missing.
        selection: which of the sensor's bands those of the strips are, or None for all.
        resume: go on with an interrupted run of the same strips and settings.
        overwrite: replace a run that is there.
        mask_invalid: leave pixels that hold NaN or infinities out, instead of refusing the scene.
        temperature: fit the temperature of the logits, by an auxiliary training (train/confidence.py).
        begin: makes what the training starts from, and the pixels that it sees; by default a new network, its first
            layer fitted to the strips, and their training pixels.
        earlier: scenes with the labels that they taught before ``begin``: kept with the run's own.
        judge: given the trained network, says what else goes into the record.
        on_epoch: told each epoch done and its curves; those of the auxiliary training are counted on.

    Raises:
        InputError: a scene or the folder cannot be used as asked, or the network takes no temperature.
    """
    scene, split = strips[0]
    faults = [left_out(one, mask_invalid) for one, _ in strips]
    record: dict[str, Any] = {
        "format": 1,
        "hyperline": __version__,
        "torch": torch.__version__,
        "scene": _describe(scene, [*scene.notes, *faults[0]]),
        "split": split.as_dict(),
        "model": {"name": network_name(model), **model.as_dict()},
        "train": config.as_dict(),
    }
    checkpoint = out / CHECKPOINT
    _claim(out, record, resume, overwrite)
    began = time.perf_counter()
    if temperature:
        answer_layer(make_network(model).eval())  # refused now, not after the training
    taught: Strips = [(one, pixels.train) for one, pixels in strips]
    if begin is not None:
        state, taught = begin()
    elif checkpoint.exists():
        state = load_checkpoint(checkpoint, model, config)
    else:
        state = start(taught, model, config)
    network = train(state, taught, config, checkpoint, on_epoch)

    block_lines = config.block_lines if isinstance(config.block_lines, int) else STREAMED_BLOCK_LINES
    truth = np.concatenate([pixels.test[pixels.test > 0] for _, pixels in strips])
    before = after = _test_logits(network, strips, block_lines)
    held = HeldOut(1.0, 0, 0)
    if temperature:

        def on_later_epoch(epoch: int, curves: dict[str, float]) -> None:
            if on_epoch:
                on_epoch(config.epochs + epoch, curves)

        held = held_out_temperature(taught, model, config, block_lines, on_later_epoch)
        divide_logits(network, held.temperature)
        after = _test_logits(network, strips, block_lines)
    offline, streamed = _judge(truth, _test_logits(network, strips, None)), _judge(truth, after)
    record |= {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - began, 1),
        "offline": offline | {"block_lines": whole_scene_block_lines(scene)},
        "streamed": streamed | {"block_lines": block_lines},
        "confidence": {
            "temperature": held.temperature,
            "held_out_pixels": held.pixels,
            "epochs": held.epochs,
            "ece_before": _reliability(truth, before).ece,
            "ece_after": streamed["ece"],
            "block_lines": block_lines,
            "unknown": unknown_scores(after[~np.isnan(after[:, 0])]),
        },
        "history": state.history,
    }
    if selection is not None:
        record["selection"] = selection.model_dump(mode="json")
    if len(strips) > 1:
        record["strips"] = [_describe_strip(*strip, fault) for strip, fault in zip(strips, faults, strict=True)]
    if judge is not None:
        record |= judge(network)
    replace_file(out / WEIGHTS, save(network.state_dict()))
    by_hash: dict[str, NDArray[np.uint8]] = {}
    for one, labels in (*earlier, *((one, pixels.train) for one, pixels in strips)):
        digest = scene_hash(one)
        by_hash[digest] = np.where(labels > 0, labels, by_hash.get(digest, labels))
    replace_file(out / SPLIT, _archive(train=split.train, test=split.test, **by_hash))
    replace_file(out / EXCERPT, _excerpt(scene))
    training_curves_picture(out / CURVES, state.history)
    # the record comes last: a folder with a run.json that says accuracy is a finished run
    _write_record(out, record)
    checkpoint.unlink(missing_ok=True)
    return TrainedRun(out, network, record)


def left_out(scene: Scene, mask_invalid: bool) -> list[str]:
    """Say which pixels a training leaves out.

    Args:
        scene: to train on.
        mask_invalid: whether pixels that hold NaN or infinities may be left out.

    Returns:
        A note, or none where every pixel is valid.

    Raises:
        InputError: there are such pixels, and they may not.
    """
    invalid = describe_invalid(scene)
    if invalid is None:
        return []
    if invalid.not_finite and not mask_invalid:
        raise InputError(f"{scene.name}: {invalid}; repair them, or leave them out with --invalid mask")
    return [f"left out: {invalid}"]


def _test_logits(
    network: Network, strips: Sequence[tuple[Scene, Split]], block_lines: int | None
) -> NDArray[np.float32]:
    """Score the test pixels of all strips, one strip after another.

    Args:
        network: trained.
        strips: as for `train_run`.
        block_lines: K; None classifies each strip whole.

    Returns:
        (pixels, classes), NaN where a pixel is not valid.
    """
    scores = []
    for scene, split in strips:
        logits = predict_logits(network, scene, block_lines or whole_scene_block_lines(scene))
        scores.append(logits[split.test > 0])
    return np.concatenate(scores)


def _judge(truth: NDArray[np.uint8], logits: NDArray[np.float32]) -> dict[str, Any]:
    metrics = Metrics.from_maps(truth, labels_and_confidence(logits)[0], logits.shape[-1])
    return metrics.as_dict() | {"ece": _reliability(truth, logits).ece}


def _reliability(truth: NDArray[np.uint8], logits: NDArray[np.float32]) -> Reliability:
    return Reliability.from_maps(truth, *labels_and_confidence(logits))


def load_run(path: Path) -> TrainedRun:
    """Read a finished run; the weights must fit the network exactly.

    Raises:
        InputError: the folder holds no finished run, or a damaged one.
    """
    record = read_record(path)
    if "offline" not in record:
        raise InputError(f"{path} holds an unfinished run; go on with: hyperline train … --out {path} --resume")
    try:
        model = dict(record["model"])
        name = model.pop("name", "mambamoe")  # runs of the first release do not say
        network = make_network(network_config(name, **model))
        network.load_state_dict(load_file(path / WEIGHTS))
    except Exception as error:
        raise InputError(f"{path / WEIGHTS} does not hold the network of {RECORD}: {error}") from error
    return TrainedRun(path, network.eval(), record)


def read_record(path: Path) -> dict[str, Any]:
    """Read run.json of a run folder, finished or not.

    Raises:
        InputError: there is none, or it is no JSON object.
    """
    try:
        record = json.loads((path / RECORD).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no run folder: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path / RECORD} is not a JSON object")
    return record


def taught_labels(run: TrainedRun, scene: Scene) -> NDArray[np.uint8] | None:
    """Return the labels of a scene that a run was trained with, in its numbering.

    Returns:
        (line, sample) class ids, 0 elsewhere; None where the run was not trained on the scene, or does not say.

    Raises:
        InputError: the file is missing or damaged.
    """
    digest = scene_hash(scene)
    try:
        with np.load(run.path / SPLIT, allow_pickle=False) as maps:
            # runs of the first release name the map of their one strip by its purpose alone
            alone = run.record["scene"]["sha256"] == digest and "strips" not in run.record
            name = digest if digest in maps else "train" if alone else None
            labels = None if name is None else np.asarray(maps[name], np.uint8)
    except Exception as error:
        raise InputError(f"{run.path / SPLIT} cannot be read: {error}") from error
    if labels is not None and labels.shape != (scene.lines, scene.samples):
        raise InputError(f"{run.path / SPLIT} holds labels of {labels.shape} pixels for {scene.name}, which has others")
    return labels


def _describe(scene: Scene, notes: list[str]) -> dict[str, Any]:
    wavelengths = scene.wavelengths_nm
    return {
        "name": scene.name,
        "sha256": scene_hash(scene),
        "lines": scene.lines,
        "samples": scene.samples,
        "bands": scene.bands,
        "class_names": list(scene.class_names),
        "wavelengths_nm": None if wavelengths is None else [float(w) for w in wavelengths],
        "scale": scene.scale,
        "units": scene.units,
        "nodata": scene.nodata,
        "composite_bands": list(composite_bands(scene, scene.bands)),
        "notes": notes,
    }


def _describe_strip(scene: Scene, split: Split, faults: list[str]) -> dict[str, Any]:
    described = {
        "name": scene.name,
        "sha256": scene_hash(scene),
        "lines": scene.lines,
        "samples": scene.samples,
        "notes": [*scene.notes, *faults],
    }
    return {"scene": described, "split": split.as_dict()}


def whole_scene_block_lines(scene: Scene) -> int:
    """Return the block that holds the whole scene, or the largest that fits memory where it does not."""
    most = max(MULTIPLE, _WHOLE_SCENE_PIXELS // scene.samples // MULTIPLE * MULTIPLE)
    return min(-(-scene.lines // MULTIPLE) * MULTIPLE, most)


def _claim(out: Path, record: dict[str, Any], resume: bool, overwrite: bool) -> None:
    """Make the folder ready for a run, or refuse; a fresh run leaves its settings there at once."""
    there = out.exists() and any(out.iterdir()) if out.is_dir() else out.exists()
    if there and not out.is_dir():
        raise InputError(f"{out} is a file; --out names a folder")
    if there and resume:
        earlier = read_record(out)
        if "offline" in earlier:
            raise InputError(f"{out} holds a finished run; there is nothing to resume")
        different = [
            name
            for name in ("scene", "split", "model", "train")
            if earlier.get(name) != json.loads(json.dumps(record[name]))
        ]
        if different:
            raise InputError(
                f"{out} was begun with another {' and '.join(different)}; resume with the settings in "
                f"{out / RECORD}, or start again with --overwrite"
            )
        return
    if there:
        if not overwrite:
            raise InputError(f"{out} is not empty; go on with --resume, or replace it with --overwrite")
        if not (out / RECORD).exists():
            raise InputError(f"{out} holds something else than a run; choose another folder")
        for name in (WEIGHTS, SPLIT, EXCERPT, CURVES, CHECKPOINT, RECORD):
            (out / name).unlink(missing_ok=True)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out).free
    if free < 2**26:
        raise InputError(f"{out} has {free >> 20} MiB free; a run needs 64")
    _write_record(out, record)


def _write_record(out: Path, record: dict[str, Any]) -> None:
    replace_file(out / RECORD, (json.dumps(record, indent=1) + "\n").encode())


def _archive(**arrays: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its own keyword is no array
    return file.getvalue()


def _excerpt(scene: Scene) -> bytes:
    """Keep lines from the first that holds a measurement, as they are, with their validity."""
    columns = slice(0, _EXCERPT_SAMPLES)
    first = next((i for i in range(scene.lines) if valid_pixels(scene.cube[i, columns], scene.nodata).any()), 0)
    lines = np.asarray(scene.cube[first : first + _EXCERPT_LINES, columns])
    return _archive(lines=lines, valid=valid_pixels(lines, scene.nodata))


def with_threads(config: TrainConfig, threads: int | None) -> TrainConfig:
    """Fill in the number of threads: all CPUs of this process where none is asked for."""
    return replace(config, threads=threads or cpus())
