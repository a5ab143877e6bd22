"""A strip of an archive classified once more, wherever a worker is free."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperline.bundle import read_bundle
from hyperline.disk import disk_errors
from hyperline.errors import InputError
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip
from hyperline.scenes import read_scene
from hyperline.sensor import read_correction


@dataclass(frozen=True)
class Job:
    """One strip.

    Attributes:
        bundle: file of the model.
        sha256: that the bundle must have.
        strip: file of the strip.
        out: folder of its run; a run that it holds is replaced, once the new one is whole.
        engine, precision: as of `run_strip`.
        radiometry: correction of the sensor, for raw lines.
    """

    bundle: str
    sha256: str
    strip: str
    out: str
    engine: str
    precision: str
    radiometry: str | None


def reprocess_strip(job: Job) -> dict[str, Any]:
    """Classify the strip on one thread, as fast as it can be read, into a folder that is put in place when it is whole.

    A worker that was given up for lost may still be at it: each attempt has a folder of its own.

    Returns:
        What summary.json says.

    Raises:
        InputError: the strip cannot be read or does not fit, or the bundle is another than the one asked for.
        HyperlineError: the engine or the disk failed.
    """
    bundle = read_bundle(Path(job.bundle))
    if bundle.sha256 != job.sha256:
        raise InputError(f"{job.bundle} is another bundle on this worker; put the same file there")
    out = Path(job.out)
    attempt = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    try:
        summary = run_strip(
            bundle,
            SceneSource(read_scene(job.strip)),
            attempt,
            engine=job.engine,
            precision=job.precision,
            threads=1,
            feed=False,
            correction=None if job.radiometry is None else read_correction(Path(job.radiometry)),
        )
        with disk_errors(out):
            if out.exists():
                shutil.rmtree(out)
            attempt.replace(out)
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
    return summary.as_dict()
