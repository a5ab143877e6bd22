"""From labelled scenes to a run folder, and from there to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hyperline.bundle import Bundle, read_bundle
from hyperline.bundle.card import BandSelection
from hyperline.errors import InputError, require
from hyperline.radiometry import fit_scene
from hyperline.scenes import Scene
from hyperline.sensor import select_bands
from hyperline.splits import SplitKind, make_split

if TYPE_CHECKING:
    from hyperline.train.run import TrainedRun


def train_scene(
    scene: Scene | Sequence[Scene],
    out: Path | str,
    *,
    bands: Sequence[tuple[int, int]] | None = None,
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
    """Train a classifier on a scene, or on several strips of one sensor, and write it to a folder.

    Needs ``hyperline[train]``.

    Args:
        scene: with labels; of several, each gives labels to train and to judge by, and classes are matched by name.
        out: the run folder, made if missing.
        bands: ranges (first, behind the last) of those to use, ascending; None for all. What is left out is recorded in
            the run, so that later calls take lines with every band of the sensor.
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
        InputError: torch is not installed, a scene has no labels or cannot be used as asked, it lacks the bands, or
            ``out`` holds a run.
    """
    require("torch", "train")
    from hyperline.train.confidence import auxiliary_epochs
    from hyperline.train.models import network_config
    from hyperline.train.run import train_run, with_threads
    from hyperline.train.strips import of_one_sensor
    from hyperline.train.trainer import TrainConfig

    scenes = [scene] if isinstance(scene, Scene) else list(scene)
    several = len(scenes) > 1
    for one in scenes:
        if one.labels is None:
            raise InputError(f"{one.name} has no labels to train on; give a label map with --labels PATH")
    selection = None
    if bands is not None:
        scenes, selection = _selected(scenes, bands)
    if several:
        scenes = of_one_sensor(scenes)
    labels = [one.labels for one in scenes if one.labels is not None]
    splits = []
    for one, drawn in zip(scenes, labels, strict=True):
        splits.append(make_split(split_kind, drawn, labels_per_class, seed, one.class_names))
        if on_warning is not None:
            for warning in splits[-1].warnings:
                on_warning(f"{one.name}: {warning}" if several else warning)
    chosen: dict[str, Any] = {"epochs": epochs, "learning_rate": learning_rate, "tile": tile}
    config = TrainConfig(
        block_lines=block_lines,  # type: ignore[arg-type]
        ugcl=ugcl,  # type: ignore[arg-type]
        seed=seed,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    config = with_threads(config, threads)
    first = scenes[0]
    classes = max(len(first.class_names), *(int(drawn.max()) for drawn in labels))
    sizes: dict[str, Any] = {"bands": first.bands, "classes": classes}
    if not spectral_expert:
        sizes["spectral_inner"] = 0
    total = config.epochs + (auxiliary_epochs(config.epochs) if temperature else 0)
    return train_run(
        list(zip(scenes, splits, strict=True)),
        network_config(model, **sizes),
        config,
        Path(out),
        selection=selection,
        resume=resume,
        overwrite=overwrite,
        mask_invalid=invalid == "mask",
        temperature=temperature,
        on_epoch=None if on_epoch is None else lambda epoch, curves: on_epoch(epoch, total, curves),
    )


def _selected(scenes: list[Scene], ranges: Sequence[tuple[int, int]]) -> tuple[list[Scene], BandSelection]:
    """Take some bands of scenes of one sensor.

    Raises:
        InputError: they have no such bands, or another number of them, or fewer than two would be left.
    """
    try:
        selection = BandSelection(bands=scenes[0].bands, ranges=tuple(ranges))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"--bands: {fault}; {scenes[0].name} has {scenes[0].bands} bands") from error
    for scene in scenes:
        if scene.bands != selection.bands:
            raise InputError(f"{scene.name} has {scene.bands} bands, {scenes[0].name} has {selection.bands}")
    if selection.count < 2:
        raise InputError(f"--bands leaves {selection.count} band; a model needs at least 2")
    return [fit_scene(scene, select_bands(scene.bands, ranges)) for scene in scenes], selection


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
