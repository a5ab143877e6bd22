"""Training on several strips of one sensor: what makes them one training, and how they judge it together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperline.bundle.card import BandSelection
from hyperline.classes import all_names, class_fault, merged_names, renumbered
from hyperline.errors import InputError
from hyperline.match import require_bands
from hyperline.metrics import Metrics, Reliability
from hyperline.scenes import Scene, scene_hash
from hyperline.splits import Split
from hyperline.train.confidence import labels_and_confidence
from hyperline.train.network import Network, NetworkConfig
from hyperline.train.run import CHECKPOINT, STREAMED_BLOCK_LINES, whole_scene_block_lines
from hyperline.train.trainer import Strips, TrainConfig, TrainState, load_checkpoint, predict_logits, start


def of_one_sensor(scenes: Sequence[Scene]) -> list[Scene]:
    """Give the classes of all strips the same numbers, and say in the notes of the first what it is trained with.

    Args:
        scenes: two or more, with labels.

    Raises:
        InputError: other bands, units or scale than the first, classes that cannot be matched, or a strip twice.
    """
    first = scenes[0]
    names = all_names(first.class_names, max(len(first.class_names), _highest(first)))
    for one in scenes[1:]:
        wavelengths = first.wavelengths_nm
        require_bands(one, first.name, first.bands, None if wavelengths is None else wavelengths.tolist())
        if (one.scale, one.units) != (first.scale, first.units):
            raise InputError(
                f"{one.name} holds {one.units or 'values'} in steps of {one.scale:g}, {first.name} "
                f"{first.units or 'values'} in steps of {first.scale:g}; store both in the same way"
            )
        names = merged_names(names, one)
    numbered = [renumbered(one, names) for one in scenes]
    for one in numbered:
        if fault := class_fault(one, names):
            raise InputError(f"{fault}; give every strip names of its classes, or numbers alone")
    hashes = [scene_hash(one) for one in numbered]
    if len(set(hashes)) < len(hashes):
        raise InputError("two of the strips are the same; give each once")
    # With the notes run.json is compared when a run is resumed: the other strips belong to it as much as the first.
    together = [
        f"trained together with {one.name} ({digest})" for one, digest in zip(numbered[1:], hashes[1:], strict=True)
    ]
    return [replace(numbered[0], class_names=names, notes=(*numbered[0].notes, *together)), *numbered[1:]]


class TrainingStrips:
    """The strips of one training; `begin` and `judge` are for `hyperline.train.run.train_run`."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        splits: Sequence[Split],
        model: NetworkConfig,
        config: TrainConfig,
        out: Path,
        selection: BandSelection | None,
    ) -> None:
        self._scenes, self._splits = scenes, splits
        self._model, self._config, self._out, self._selection = model, config, out, selection

    def begin(self) -> tuple[TrainState, Strips]:
        """Start the training, or go on with an interrupted one."""
        strips = [(one, split.train) for one, split in zip(self._scenes, self._splits, strict=True)]
        checkpoint = self._out / CHECKPOINT
        if checkpoint.exists():
            return load_checkpoint(checkpoint, self._model, self._config), strips
        return start(strips, self._model, self._config), strips

    def judge(self, network: Network) -> dict[str, Any]:
        """Say what run.json holds beside what a training on one strip leaves: accuracies are over all strips."""
        record: dict[str, Any] = {}
        if self._selection is not None:
            record["selection"] = self._selection.model_dump(mode="json")
        if len(self._scenes) > 1:
            fixed = self._config.block_lines
            streamed = fixed if isinstance(fixed, int) else STREAMED_BLOCK_LINES
            record["offline"] = self._accuracy(network, None)
            record["streamed"] = self._accuracy(network, streamed)
            record["strips"] = [_describe(one, split) for one, split in zip(self._scenes, self._splits, strict=True)]
        return record

    def _accuracy(self, network: Network, block_lines: int | None) -> dict[str, Any]:
        maps = []
        for one, split in zip(self._scenes, self._splits, strict=True):
            lines = block_lines or whole_scene_block_lines(one)
            found, confidence = labels_and_confidence(predict_logits(network, one, lines))
            maps.append((split.test.ravel(), found.ravel(), confidence.ravel()))
        truth, labels, sureness = (np.concatenate(parts) for parts in zip(*maps, strict=True))
        metrics = Metrics.from_maps(truth, labels, network.config.classes)
        sure = Reliability.from_maps(truth, labels, sureness)
        lines = block_lines or whole_scene_block_lines(self._scenes[0])
        return metrics.as_dict() | {"ece": sure.ece, "block_lines": lines}


def _describe(scene: Scene, split: Split) -> dict[str, Any]:
    described = {"name": scene.name, "sha256": scene_hash(scene), "lines": scene.lines, "samples": scene.samples}
    return {"scene": described, "split": split.as_dict()}


def _highest(scene: Scene) -> int:
    return 0 if scene.labels is None else int(scene.labels.max())
