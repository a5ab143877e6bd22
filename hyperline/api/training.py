"""From a labelled scene to a run folder, and from there to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperline.bundle import Bundle, read_bundle
from hyperline.errors import InputError, require
from hyperline.scenes import Scene
from hyperline.splits import SplitKind, make_split

if TYPE_CHECKING:
    from hyperline.train.run import TrainedRun


def train_scene(
    scene: Scene,
    out: Path | str,
    *,
    model: str = "mambamoe",
    labels_per_class: int = 15,
    split_kind: SplitKind = "random",
    seed: int = 0,
    epochs: int | None = None,
    learning_rate: float | None = None,
    block_lines: str | int = "dynamic",
    ugcl: str = "corrected",
    spectral_expert: bool = True,
    temperature: bool = False,
    tile: int | None = None,
    invalid: str = "refuse",
    threads: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: Callable[[int, int, dict[str, float]], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> TrainedRun:
    """Train a classifier on a scene and write it to a folder; needs ``hyperline[train]``.

    Args:
        scene: with labels.
        out: the run folder, made if missing.
        model: a network of docs/models.md.
        labels_per_class: pixels of each class that train; the others judge.
        split_kind: ``random`` pixels, spatial ``blocks`` or ``halves`` of the scene with a guard band.
        seed: of split, weights and draws.
        epochs: passes over the scene; None as tuned.
        learning_rate: None as tuned.
        block_lines: lines of a block: ``dynamic`` serves every latency, ``full`` is the offline model.
        ugcl: corrective learning: ``corrected``, ``published`` or ``off``.
        spectral_expert: whether there is the shared spectral expert.
        temperature: fit a temperature, by an auxiliary training of half as many epochs.
        tile: side of a training tile, for scenes that do not fit.
        invalid: ``refuse`` pixels that hold NaN or infinities, or ``mask`` them.
        threads: of the CPU; None for all.
        resume: go on with an interrupted run.
        overwrite: replace the run that ``out`` holds.
        on_epoch: told each epoch that is done, of how many, and its curves.
        on_warning: told what of the split is not as asked.

    Returns:
        The run: ``path``, ``network``, ``record`` (run.json), ``class_names``.

    Raises:
        InputError: torch is not installed, the scene has no labels or cannot be used as asked, or ``out`` holds a run.
    """
    require("torch", "train")
    from hyperline.train.confidence import auxiliary_epochs
    from hyperline.train.models import network_config
    from hyperline.train.run import train_run, with_threads
    from hyperline.train.trainer import TrainConfig

    if scene.labels is None:
        raise InputError(f"{scene.name} has no labels to train on; give a label map with --labels PATH")
    split = make_split(split_kind, scene.labels, labels_per_class, seed, scene.class_names)
    if on_warning is not None:
        for warning in split.warnings:
            on_warning(warning)
    chosen: dict[str, Any] = {"epochs": epochs, "learning_rate": learning_rate, "tile": tile}
    config = TrainConfig(
        block_lines=block_lines,  # type: ignore[arg-type]
        ugcl=ugcl,  # type: ignore[arg-type]
        seed=seed,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    config = with_threads(config, threads)
    sizes: dict[str, Any] = {"bands": scene.bands, "classes": max(len(scene.class_names), int(scene.labels.max()))}
    if not spectral_expert:
        sizes["spectral_inner"] = 0
    total = config.epochs + (auxiliary_epochs(config.epochs) if temperature else 0)
    return train_run(
        scene,
        split,
        network_config(model, **sizes),
        config,
        Path(out),
        resume=resume,
        overwrite=overwrite,
        mask_invalid=invalid == "mask",
        temperature=temperature,
        on_epoch=None if on_epoch is None else lambda epoch, curves: on_epoch(epoch, total, curves),
    )


def export_run(run: Path | str, out: Path | str, block_lines: int = 8, scene: Scene | None = None) -> Bundle:
    """Export a trained run to a bundle, which is written whole and checked, or not at all; needs ``hyperline[train]``.

    Args:
        run: the run folder.
        out: the bundle to make or replace.
        block_lines: K, a multiple of 8: the latency of the streamed classification.
        scene: real lines to check the export on; None for those that the training left in ``run``.

    Returns:
        The bundle, as read back.

    Raises:
        InputError: something of the extra is not installed, or run, scene, block length or path cannot be used.
        HyperlineError: the graph differs from the network, or writing failed.
    """
    for module in ("torch", "safetensors", "onnx", "onnxscript"):
        require(module, "train")
    from hyperline.export.bundle import export_run as export

    return read_bundle(export(Path(run), Path(out), block_lines, scene))
