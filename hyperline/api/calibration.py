"""A faster model for a bundle, within an accuracy budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hyperline.bundle import Bundle, read_bundle
from hyperline.bundle.bundle import MODELS, add_members
from hyperline.errors import InputError, require
from hyperline.machine import cpus, user_cache
from hyperline.scenes import Scene

if TYPE_CHECKING:
    from hyperline.calibration.calibrate import FineTune


@dataclass(frozen=True)
class Calibrated:
    """A bundle that has got a model of another precision.

    Attributes:
        report: what `calibration/PRECISION.json` in the bundle says (docs/calibration.md).
        files: the report's page and picture.
        unsigned: whether the bundle was signed: it has changed, and is not any more.
    """

    report: dict[str, Any]
    files: tuple[Path, Path]
    unsigned: bool


def calibrate_bundle(
    path: Path | str,
    scene: Scene,
    precision: str,
    *,
    budget: float | None = None,
    class_budget: float | None = None,
    agreement: float | None = None,
    method: str = "auto",
    qat: int = 0,
    run: Path | str | None = None,
    seed: int = 0,
    report: Path | str | None = None,
    seconds: float = 4.0,
    samples: int | None = None,
    threads: int | None = None,
    on_step: Callable[[str], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Calibrated:
    """Add a faster model to a bundle that loses at most the budget on real lines, or leave the bundle as it is.

    Needs ``hyperline[calibrate]``. An interrupted search goes on where it was.

    Args:
        path: the bundle, which is replaced.
        scene: real lines of the sensor, corrected; labels help, and are not needed.
        precision: ``fp16`` or ``int8``.
        budget: points of overall accuracy that it may lose; None for 0.3 (int8) or 0.05 (fp16).
        class_budget: points that any one class may lose; None for 5 or 30 times the budget.
        agreement: per cent of the labels that must stay as they are; None for 99 or 99.9.
        method: where INT8 inputs saturate: ``minmax``, ``percentile``, ``mse``, ``entropy``; ``auto`` tries all.
        qat: epochs of fine-tuning where the budget asks for it; needs ``run`` and ``hyperline[train]``.
        run: folder of the run that was exported, for ``qat``.
        seed: of ``qat``.
        report: folder of the report; None for that of the bundle.
        seconds: to measure the speed; 0 for not.
        samples: of a line for that; None for those of the scene.
        threads: of the CPU; None for all.
        on_step: told what is being done.
        on_warning: told what is doubtful about the lines.

    Raises:
        InputError: bundle, lines or options cannot be used, or something of the extra is not installed.
        HyperlineError: no model keeps the budget; the bundle is as it was.
    """
    path = Path(path)
    bundle, folder = read_asked(path, qat, run, report)
    from hyperline.calibration.calibrate import BUDGETS, Settings, calibrate
    from hyperline.calibration.lines import read_lines
    from hyperline.calibration.report import write_report
    from hyperline.calibration.search import Budget

    warn = on_warning or (lambda text: None)
    say = on_step or (lambda text: None)
    threads = threads or cpus()
    usual = BUDGETS[precision]
    points = usual.points if budget is None else budget
    allowed = Budget(
        points,
        points * usual.class_points / usual.points if class_budget is None else class_budget,
        usual.agreement if agreement is None else agreement / 100,
    )
    lines = read_lines(scene, bundle.card)
    for warning in lines.warnings:
        warn(f"{lines.name}: {warning}")
    if not lines.truth.any():
        warn(f"{lines.name} has no labels to judge by: every label that changes counts as lost")
    settings = Settings(
        precision=precision,
        budget=allowed,
        method=method,
        threads=threads,
        cache=user_cache("calibration"),
        on_step=say,
    )
    if run is not None:
        settings.fine_tune = _fine_tune(Path(run), bundle, qat, seed, threads)
    variant = calibrate(bundle, lines, settings)
    candidate = replace(bundle, members=MappingProxyType({**bundle.members, MODELS[precision]: variant.model}))
    say("the self-test, and the speed of both models in turns")
    speed = _speed(candidate, precision, samples or lines.samples, threads, seconds)
    if speed is not None:
        variant.report["speed"] = speed
    files = write_report(folder, path.stem, variant, bundle.card.class_names)
    text = json.dumps(variant.report, sort_keys=True)
    unsigned = add_members(path, {MODELS[precision]: variant.model, f"calibration/{precision}.json": text.encode()})
    return Calibrated(variant.report, files, unsigned)


def read_asked(
    path: Path, qat: int = 0, run: Path | str | None = None, report: Path | str | None = None
) -> tuple[Bundle, Path]:
    """Refuse what cannot be done, before any line is read; arguments as for `calibrate_bundle`.

    Returns:
        The bundle, and the folder of the report.

    Raises:
        InputError: bundle or options cannot be used, or something of the extra is not installed.
    """
    bundle = read_bundle(path)
    if (qat > 0) != (run is not None):
        raise InputError("--qat EPOCHS and --run RUN go together: fine-tuning starts from the trained network")
    folder = path.parent if report is None else Path(report)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; make it, or choose another with --report DIR")
    require("onnx", "calibrate")
    require("matplotlib", "calibrate")
    return bundle, folder


def _fine_tune(run_dir: Path, bundle: Bundle, epochs: int, seed: int, threads: int) -> FineTune:
    require("torch", "train")
    import onnx

    from hyperline.calibration.finetune import fine_tune
    from hyperline.train.models.mambamoe import MambaMoE
    from hyperline.train.run import load_run

    network, model = load_run(run_dir).network, onnx.load_from_string(bundle.model())
    if not isinstance(network, MambaMoE):
        raise InputError(f"{run_dir} holds a {type(network).__name__}; fine-tuning is for mambamoe: leave it out")
    return lambda layers, ranges, lines: (
        fine_tune(network, model, bundle.card, layers, ranges, lines, epochs=epochs, seed=seed, threads=threads).tensors
    )


def _speed(bundle: Bundle, precision: str, samples: int, threads: int, seconds: float) -> dict[str, Any] | None:
    """Load both models, test the new one, and time them in turns."""
    import numpy as np

    from hyperline.runtime.bench import stepper, take_turns
    from hyperline.runtime.engines import load_engine, self_test

    engines = [load_engine("ort-cpu", bundle.model(one), bundle.card, threads, one) for one in ("fp32", precision)]
    self_test(engines[1], bundle.golden())
    if not seconds:
        return None
    times = take_turns([stepper(engine, bundle, samples) for engine in engines], seconds)
    before, after = (bundle.card.block_lines / float(np.median(spent)) for spent in times)
    return {
        "engine": engines[0].name,
        "native_ops": engines[1].native_ops,
        "samples": samples,
        "threads": threads,
        "fp32": before,
        precision: after,
        "ratio": after / before,
    }
