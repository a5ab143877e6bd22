"""Where built engines are kept: one file for a model, a TensorRT, a GPU and a plugin.

An engine is code that runs, so it is built here and never fetched: a file that somebody else may have written is
refused, and one that changed on the disk is no hit.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hyperline import __version__
from hyperline.disk import disk_errors, replace_file
from hyperline.errors import InputError
from hyperline.machine import user_cache
from hyperline.runtime.tensorrt.build import BuiltEngine, Samples
from hyperline.runtime.tensorrt.toolkit import Toolkit


@dataclass(frozen=True)
class EngineKey:
    """All that decides whether an engine may be used.

    Attributes:
        model_sha256: of the bundle's ONNX file.
        tensorrt: version of TensorRT.
        gpu: name and compute capability.
        plugin_sha256: of our plugin library; None: built without.
        hyperline: version of hyperline, which rewrote the graph and set the builder.
    """

    model_sha256: str
    tensorrt: str
    gpu: str
    plugin_sha256: str | None
    hyperline: str = __version__

    @classmethod
    def of(cls, model: bytes, toolkit: Toolkit) -> EngineKey:
        """Make the key of a model on this machine."""
        digest = hashlib.sha256(model).hexdigest()
        return cls(digest, toolkit.trt.__version__, toolkit.gpu, toolkit.plugin_sha256)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class CachedEngine:
    """An engine as it lies in the cache.

    Attributes:
        path: its file.
        engine: as TensorRT reads it.
        samples: the widths that it was built for.
        found: it was there already.
    """

    path: Path
    engine: bytes
    samples: Samples
    found: bool


class EngineCache:
    """A folder of engines. A file is one line of JSON (samples, SHA-256) and the engine behind it."""

    def __init__(self, folder: Path | None = None) -> None:
        """Name the folder; by default hyperline's in the user's cache."""
        self.folder = folder or user_cache("engines")

    def path(self, key: EngineKey) -> Path:
        """Return where the engine of that key is or would be."""
        return self.folder / f"{key.digest}.engine"

    def find(self, key: EngineKey) -> CachedEngine | None:
        """Return the engine of that key; None where there is none, or a damaged one.

        Raises:
            InputError: somebody else may have written it, or it cannot be read.
        """
        path = self.path(key)
        data = _read_own(path)
        if data is None:
            return None
        header, _, engine = data.partition(b"\n")
        try:
            record = json.loads(header)
            samples = Samples(*record["samples"])
            intact = record["sha256"] == hashlib.sha256(engine).hexdigest()
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return CachedEngine(path, engine, samples, found=True) if intact else None

    def find_or_build(self, key: EngineKey, samples: Samples, build: Callable[[bytes], BuiltEngine]) -> CachedEngine:
        """Return the engine of that key for those samples, built if need be; it replaces one for other samples.

        Args:
            key: what it is for.
            samples: the widths that it must be built for.
            build: takes a timing cache, perhaps empty.

        Raises:
            InputError: the folder cannot be used.
            HyperlineError: the build failed, or the disk did; no file is left then.
        """
        found = self.find(key)
        if found and found.samples == samples:
            return found
        with disk_errors(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What TensorRT learns of a GPU's speed serves every model.
        learnt = replace(key, model_sha256="", plugin_sha256=None)
        timing = self.folder / f"{learnt.digest}.timing"
        built = build(_read_own(timing) or b"")
        header = {
            "samples": [samples.minimum, samples.optimum, samples.maximum],
            "sha256": hashlib.sha256(built.engine).hexdigest(),
        }
        path = self.path(key)
        replace_file(path, json.dumps(header).encode() + b"\n" + built.engine)
        replace_file(timing, built.timing_cache)
        return CachedEngine(path, built.engine, samples, found=False)


def _read_own(path: Path) -> bytes | None:
    """Read a file that nobody but this user (or root) may have written; None where there is none."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (os.getuid(), 0) or status.st_mode & stat.S_IWOTH:
                raise InputError(
                    f"{path} may have been written by somebody else, and an engine is code that runs; delete it and "
                    "build again: hyperline build"
                )
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
