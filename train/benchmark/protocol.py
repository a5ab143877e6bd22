"""The protocol file: what is compared, on which scenes and splits, and what may be concluded from it.

name = "Indian Pines"
role = "reported"                       # or "tuning": settings were chosen on it, and it proves nothing

[[experiment]]
title = "Random pixels"
scene = "indian-pines"                  # or a path, from the protocol's folder; labels = "PATH" where it has none
split = "random"                        # random | blocks | halves
labels_per_class = 15
seeds = 10
block_lines = 8                         # K of the streamed column
models = ["mambamoe", "svm-mnf"]        # the first is what the others are compared with
epochs = 60                             # left out: as tuned
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hyperline.errors import InputError
from hyperline.splits import SplitKind
from hyperline.train.benchmark.contestants import CONTESTANTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Role = Literal["tuning", "reported"]


class _Experiment(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str
    scene: str
    labels: str | None = None
    split: SplitKind
    labels_per_class: int = Field(ge=1)
    guard: int | None = Field(default=None, ge=0)
    seeds: int = Field(ge=1, le=1000)
    epochs: int | None = Field(default=None, ge=1)
    block_lines: int = Field(default=8, ge=8, multiple_of=8)
    models: list[str] = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    role: Role
    experiment: list[_Experiment] = Field(min_length=1)


@dataclass(frozen=True)
class Experiment:
    """Models on one scene and kind of split.

    Attributes:
        title: in the report.
        scene: as `read_scene` takes it.
        labels: label map of a scene that holds none.
        split: kind of split.
        labels_per_class: training pixels of a class.
        guard: width of the guard band in pixels; None for that of the split.
        seeds: 0 up to this number: of split, weights and draws.
        epochs: of the networks; None as tuned.
        block_lines: K of the streamed figures.
        models: names in `CONTESTANTS`; the first is what the others are compared with.
    """

    title: str
    scene: str
    labels: str | None
    split: SplitKind
    labels_per_class: int
    guard: int | None
    seeds: int
    epochs: int | None
    block_lines: int
    models: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """What a protocol file says.

    Attributes:
        name: of the protocol.
        role: whether its scenes served to choose settings, or are reported on.
        experiments: in order.
    """

    name: str
    role: Role
    experiments: tuple[Experiment, ...]


def read_protocol(path: Path) -> Protocol:
    """Read a protocol file.

    Raises:
        InputError: it is not there, no TOML, or says something that does not exist; with the place.
    """
    try:
        held = _File.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give a protocol file (.toml)") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {place}: {first['msg']}; docs/benchmark.md describes protocol files") from error
    return Protocol(held.name, held.role, tuple(_experiment(path, one) for one in held.experiment))


def narrowed(protocol: Protocol, seeds: int | None, models: Sequence[str]) -> Protocol:
    """Return a part of a protocol.

    Args:
        protocol: the whole.
        seeds: the first so many of each experiment; None for all.
        models: these alone; none for all.

    Raises:
        InputError: the protocol has no such model.
    """
    unknown = [name for name in models if all(name not in one.models for one in protocol.experiments)]
    if unknown:
        raise InputError(f"{protocol.name} has no model {unknown[0]!r}")
    experiments = [
        replace(
            one,
            seeds=min(seeds or one.seeds, one.seeds),
            models=tuple(name for name in one.models if not models or name in models),
        )
        for one in protocol.experiments
    ]
    return replace(protocol, experiments=tuple(one for one in experiments if one.models))


def _experiment(path: Path, held: _Experiment) -> Experiment:
    unknown = [name for name in held.models if name not in CONTESTANTS]
    if unknown:
        raise InputError(
            f"{path}: {held.title}: no model is called {unknown[0]!r}; there are: {', '.join(CONTESTANTS)}"
        )
    if len(set(held.models)) < len(held.models):
        raise InputError(f"{path}: {held.title}: a model is named twice")
    values: dict[str, Any] = dict(held)
    values["models"] = tuple(held.models)
    for key in ("scene", "labels"):
        if values[key] is not None:
            values[key] = _from_folder(path.parent, values[key])
    return Experiment(**values)


def _from_folder(folder: Path, spec: str) -> str:
    """Resolve a path that stands in a protocol from the folder of the protocol; the name of a scene stays."""
    path = Path(spec)
    known = path.suffix == "" and not (folder / path).exists()
    return spec if known or path.is_absolute() else str(folder / path)
