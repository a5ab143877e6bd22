"""From a run folder to a bundle: the graph, its card and a golden block, checked before anything is written."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hyperline import __version__
from hyperline.bundle import Accuracy, Card, Confidence, encode_golden, write_bundle
from hyperline.bundle.bundle import CARD, MODELS
from hyperline.errors import InputError
from hyperline.export.excerpt import Excerpt, cut_excerpt, read_excerpt
from hyperline.export.parity import Parity, check_parity, classify, parity_lines
from hyperline.export.step import export_step, state_tensors
from hyperline.match import match_run, recorded_selection, require_units
from hyperline.radiometry import fit_scene
from hyperline.scenes import Scene
from hyperline.train.network import MULTIPLE, check_block_lines
from hyperline.train.run import EXCERPT, TrainedRun, load_run

# Enough for a self-test; at 200 bands and 8 lines it is 0.4 MB.
_GOLDEN_SAMPLES = 64


def export_run(run_dir: Path, out: Path, block_lines: int = 8, scene: Scene | None = None) -> Path:
    """Export a finished run as a bundle; it is written whole and checked, or not at all.

    Args:
        run_dir: the run folder.
        out: the bundle to make or replace.
        block_lines: K, a multiple of 8: lines in a block, the latency of the streamed classification.
        scene: real lines to check the graph on and to cut the golden block from; by default those that the
            training left in the run folder.

    Returns:
        ``out``.

    Raises:
        InputError: the run, the scene or its units, the block length or the path cannot be used.
        HyperlineError: the graph differs from the network, or writing failed.
    """
    check_block_lines(block_lines)
    if out.is_dir() or not out.parent.is_dir():  # said before half a minute of work, not after
        raise InputError(f"{out} cannot be written: it is a folder, or its folder does not exist")
    run = load_run(run_dir)
    excerpt = _excerpt(run, scene, parity_lines(block_lines))
    model = export_step(run.network, block_lines, run.class_names).SerializeToString(deterministic=True)
    parity = check_parity(run.network, model, excerpt, block_lines)
    card = _card(run, out.stem, block_lines, parity)
    golden = _golden(run, excerpt, block_lines)
    write_bundle(out, {MODELS["fp32"]: model, CARD: card.to_json(), **golden})
    return out


def _excerpt(run: TrainedRun, scene: Scene | None, lines: int) -> Excerpt:
    if scene is None:
        path = run.path / EXCERPT
        if not path.exists():
            raise InputError(f"{path} does not exist; give real lines to check the export on: --lines SCENE")
        excerpt, name = read_excerpt(path, lines), str(path)
    else:
        require_units(scene, scene.units, run.record)
        scene = fit_scene(scene, match_run(scene, run.path.name, run.network.config.bands, run.record))
        excerpt, name = cut_excerpt(scene, lines), scene.name
    bands = excerpt.lines.shape[2]
    if bands != run.network.config.bands:
        raise InputError(f"{name} has {bands} bands, the network takes {run.network.config.bands}")
    return excerpt


def _card(run: TrainedRun, name: str, block_lines: int, parity: Parity) -> Card:
    record, scene = run.record, run.record["scene"]
    streamed = record["streamed"]
    return Card(
        name=name,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        hyperline=__version__,
        block_lines=block_lines,
        bands=run.network.config.bands,
        sample_multiple=MULTIPLE,
        wavelengths_nm=scene["wavelengths_nm"],
        class_names=run.class_names,
        scale=scene["scale"],
        nodata=scene["nodata"],
        composite_bands=tuple(scene["composite_bands"]),
        states=state_tensors(run.network),
        training={key: record[key] for key in ("hyperline", "torch", "created", "seconds", "split", "model", "train")}
        # the scenes before and beside it, whose training pixels must not judge the bundle either
        | {key: record[key] for key in ("adapted", "strips") if key in record}
        | {
            "scene": {
                key: scene[key] for key in ("name", "sha256", "lines", "samples", "units", "notes") if key in scene
            }
        },
        offline=_accuracy(record["offline"]),
        # what was measured with another block length says nothing about this one
        streamed=_accuracy(streamed) if streamed["block_lines"] == block_lines else None,
        parity=parity.as_dict(),
        confidence=_confidence(record.get("confidence")),
        selection=recorded_selection(record),
    )


def _accuracy(metrics: dict[str, Any]) -> Accuracy:
    return Accuracy(**{name: metrics[name] for name in Accuracy.model_fields})


def _confidence(record: dict[str, Any] | None) -> Confidence | None:
    """Take over what run.json says; runs of before there was a temperature say nothing."""
    if record is None:
        return None
    return Confidence(**{name: record[name] for name in Confidence.model_fields})


def _golden(run: TrainedRun, excerpt: Excerpt, block_lines: int) -> dict[str, bytes]:
    """Make the golden block: real lines, and what the trained network itself says of them from zero state."""
    block = (slice(0, block_lines), slice(0, _GOLDEN_SAMPLES))
    lines, valid = excerpt.lines[block], excerpt.valid[block]
    answer = classify(run.network, lines, valid, block_lines)
    return encode_golden({"lines": lines, "valid": valid, "labels": answer.labels, "logits": answer.logits})
