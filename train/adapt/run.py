"""An adapted run: trained on a new scene from the weights of a run, while the answers on its old scenes hold."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyperline.classes import class_fault, renumbered
from hyperline.errors import InputError
from hyperline.match import match_run, recorded_selection, require_bands, require_units
from hyperline.metrics import Metrics
from hyperline.radiometry import fit_scene
from hyperline.scenes import Scene, Strips, scene_hash
from hyperline.splits import Split, held_out
from hyperline.train.adapt.anchors import draw_anchors
from hyperline.train.adapt.growth import grow
from hyperline.train.adapt.null_space import FeatureCovariances, ProjectedUpdates, null_space
from hyperline.train.network import Network
from hyperline.train.run import STREAMED_BLOCK_LINES, TrainedRun, train_run, whole_scene_block_lines
from hyperline.train.trainer import (
    DYNAMIC_BLOCK_LINES,
    OnEpoch,
    TrainConfig,
    TrainState,
    make_optimizer,
    predict,
    predict_logits,
)

# Of the run before, in the record of the adapted one; with `strips`, none of them is judged by what it trained.
_PROVENANCE = (
    "hyperline",
    "torch",
    "created",
    "scene",
    "split",
    "strips",
    "selection",
    "model",
    "train",
    "offline",
    "streamed",
    "adapted",
)
# Scenes on which answers are to hold, each with the labels that taught the network to be adapted, (line, sample) class
# ids, 0 elsewhere; None where they are not known.
OldScenes = Sequence[tuple[Scene, NDArray[np.uint8] | None]]
# The steps of rows for new classes, which start from nothing: Mamba-CL's heads learn 50 times as fast as the rest.
_BOOST = 10.0


@dataclass(frozen=True)
class Adaptation:
    """How old answers are held.

    Attributes:
        share: the largest part of the energy of a layer's old features that its updates may touch; None lets every
            weight move freely.
        anchors: where classes are added and nothing is rehearsed, pixels of an old class whose answers are trained on;
            0 leaves them out.
        rehearse: train again on the labels of the old scenes that the run was trained with, and let shallow classifiers
            teach as in any training.
    """

    share: float | None = 0.01
    anchors: int = 15
    rehearse: bool = False


# By bench/adapt.py: with the old labels at hand nothing has to be held fast (docs/adapt.md).
HELD = Adaptation()
REHEARSED = Adaptation(share=None, rehearse=True)
PLAIN = Adaptation(share=None, anchors=0)


def adapt_config(seed: int, adaptation: Adaptation, **changes: Any) -> TrainConfig:
    """Return how to train an adaptation, as tuned; ``changes`` are fields of `TrainConfig`."""
    config = TrainConfig(epochs=30, seed=seed)
    # classifiers that see new classes alone would teach that there are no others
    return replace(config if adaptation.rehearse else replace(config, shallow=0.0), **changes)


def adapt_run(
    base: TrainedRun,
    old: OldScenes,
    scene: Scene,
    split: Split,
    config: TrainConfig,
    adaptation: Adaptation,
    out: Path,
    *,
    overwrite: bool = False,
    mask_invalid: bool = False,
    on_epoch: OnEpoch | None = None,
) -> TrainedRun:
    """Adapt a run to a scene and write the folder of a whole run.

    Args:
        base: the run to start from; its folder is left as it is.
        old: scenes on which its answers are to hold, with the run's bands (`fit_to_run`); labels that a scene itself
            holds judge and do not teach.
        scene: the new scene, with the run's bands; its classes are named and numbered as the adapted network's: those
            of ``base``, then others (`hyperline.classes.merged_names`, `renumbered`).
        split: training and test pixels of its labels.
        config: how to train.
        adaptation: how old answers are held.
        out: the folder; made if missing.
        overwrite: replace a run that is there.
        mask_invalid: leave pixels that hold NaN or infinities out, instead of refusing the scene.
        on_epoch: told each epoch done and its curves.

    Raises:
        InputError: a scene does not show what the network was trained on, or the folder cannot be used.
    """
    names = base.class_names
    classes = max(len(names), len(scene.class_names), int(split.train.max()), int(split.test.max()))
    judges = []
    for one in (scene, *(one for one, _ in old)):
        require_same_sensor(one, base)
    for one, _ in old:
        judged = renumbered(one, names)
        if fault := class_fault(judged, names):
            raise InputError(f"{fault}; give labels in the model's numbering, or leave them out")
        judges.append(_Judge(judged, held_out(judged, base.record)[0], base.network, classes))

    def begin() -> tuple[TrainState, Strips]:
        return begin_adaptation(base.network, old, scene, split, classes, config, adaptation)

    def judge(network: Network) -> dict[str, Any]:
        provenance = {key: base.record[key] for key in _PROVENANCE if key in base.record}
        return {"adapted": asdict(adaptation) | {"from": provenance, "old": [one(network) for one in judges]}}

    return train_run(
        [(scene, split)],
        replace(base.network.config, classes=classes),
        config,
        out,
        selection=recorded_selection(base.record),
        overwrite=overwrite,
        mask_invalid=mask_invalid,
        begin=begin,
        earlier=[(one, taught) for one, taught in old if taught is not None],
        judge=judge,
        on_epoch=on_epoch,
    )


def begin_adaptation(
    network: Network,
    old: OldScenes,
    scene: Scene,
    split: Split,
    classes: int,
    config: TrainConfig,
    adaptation: Adaptation,
) -> tuple[TrainState, Strips]:
    """Make what `hyperline.train.trainer.train` adapts a network with.

    Args:
        network: trained; it is left as it is.
        old: scenes on which its answers are to hold.
        scene: the new scene; labels as for `adapt_run`.
        split: of its labels.
        classes: of the adapted network.
        config: how to train.
        adaptation: how old answers are held.

    Returns:
        The state, whose optimizer keeps to the null space of the old features; and the strips to train on.
    """
    if adaptation.rehearse and any(taught is None for _, taught in old):
        raise ValueError("an old scene without the labels that it taught cannot be rehearsed")
    torch.manual_seed(config.seed)
    logits = [predict_logits(network, one, STREAMED_BLOCK_LINES) for one, _ in old]
    # what no class of the old scene was ever given: at the start no old pixel gets a new class
    lowest = min((float(np.nanmin(one)) for one in logits if np.isfinite(one).any()), default=0.0)
    grown, fresh = grow(network, classes, lowest)
    state = TrainState(grown, copy.deepcopy(grown).requires_grad_(False), make_optimizer(grown, config))
    if adaptation.share is None:
        projectors = None
    else:
        sums = old_covariances(grown, [one for one, _ in old])
        projectors = {name: null_space(one, adaptation.share) for name, one in sums.items()}
    ProjectedUpdates(grown, projectors, fresh, _BOOST).attach(state.optimizer)

    labels = split.train
    strips: list[tuple[Scene, NDArray[np.uint8]]] = []
    digest = scene_hash(scene)
    for (one, taught), scores in zip(old, logits, strict=True):
        same = scene_hash(one) == digest
        taken = labels > 0 if same else np.zeros(scores.shape[:2], dtype=bool)
        if adaptation.rehearse and taught is not None:
            kept = taught
        elif fresh and adaptation.anchors:
            kept = draw_anchors(scores, taken, adaptation.anchors, config.seed)
        else:
            continue
        if same:
            labels = np.where(taken, labels, kept)
        else:
            strips.append((one, kept))
    return state, [(scene, labels), *strips]


def old_covariances(network: Network, old: Sequence[Scene]) -> dict[str, torch.Tensor]:
    """Sum up the inputs of every layer over some scenes, at every length of block that training draws.

    Returns:
        As `FeatureCovariances.sums`.
    """
    covariances = FeatureCovariances(network)
    with covariances:
        for scene in old:
            for block_lines in sorted(set(DYNAMIC_BLOCK_LINES)):
                predict(network, scene, block_lines or whole_scene_block_lines(scene))
    return covariances.sums


def fit_to_run(scene: Scene, base: TrainedRun) -> Scene:
    """Give a scene the bands of a run, as `hyperline evaluate` does, and say in its notes what was done.

    Args:
        scene: as read, in the run's units.
        base: the run.

    Returns:
        The scene; its wavelengths are those of the run where the run has any, so that the bands of a model stay what
        they were, however often it is adapted.

    Raises:
        InputError: other units, or bands that cannot be brought to the run's.
    """
    require_units(scene, scene.units, base.record)
    resampling = match_run(scene, base.path.name, base.network.config.bands, base.record)
    if resampling is not None:
        scene = replace(fit_scene(scene, resampling), notes=(*scene.notes, f"{scene.name}: {resampling}"))
    trained = base.record["scene"].get("wavelengths_nm")
    return scene if trained is None else replace(scene, wavelengths_nm=np.array(trained, np.float64))


def require_same_sensor(scene: Scene, base: TrainedRun) -> None:
    """Refuse a scene whose values are not what the network of a run was trained on.

    Raises:
        InputError: other bands, units or scale.
    """
    trained = base.record["scene"]
    require_bands(scene, base.path.name, base.network.config.bands, trained.get("wavelengths_nm"))
    require_units(scene, scene.units, base.record)
    if scene.scale != trained.get("scale", 1.0):
        raise InputError(
            f"{scene.name} stores values to be multiplied by {scene.scale:g}, the scene of {base.path.name} by "
            f"{trained.get('scale', 1.0):g}; store both in the same way"
        )


class _Judge:
    """Compares what networks say of an old scene, before and after."""

    def __init__(self, scene: Scene, truth: NDArray[np.uint8] | None, before: Network, classes: int) -> None:
        self.scene = scene
        self.truth = truth if truth is not None and truth.any() else None
        self.classes = classes
        self.block_lines = {"offline": whole_scene_block_lines(scene), "streamed": STREAMED_BLOCK_LINES}
        self.before = self._maps(before)

    def _maps(self, network: Network) -> dict[str, NDArray[np.uint8]]:
        return {mode: predict(network, self.scene, lines) for mode, lines in self.block_lines.items()}

    def _accuracy(self, maps: dict[str, NDArray[np.uint8]]) -> dict[str, Any] | None:
        if self.truth is None:
            return None
        return {
            mode: Metrics.from_maps(self.truth, found, self.classes).as_dict() | {"block_lines": self.block_lines[mode]}
            for mode, found in maps.items()
        }

    def __call__(self, after: Network) -> dict[str, Any]:
        """Return what run.json says of the scene: accuracies (null without labels), and the part of answers held."""
        maps = self._maps(after)
        valid = self.before["streamed"] > 0
        held = (maps["streamed"] == self.before["streamed"])[valid]
        return {
            "name": self.scene.name,
            "sha256": scene_hash(self.scene),
            "held": float(held.mean()) if held.size else 1.0,
            "before": self._accuracy(self.before),
            "after": self._accuracy(maps),
        }
