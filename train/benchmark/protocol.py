"""The protocol file: what is compared, on which scenes and splits, and what may be concluded from it.

name = "Indian Pines"
role = "reported"                       # or "tuning": settings were chosen on it, and it proves nothing

[[experiment]]
title = "Random pixels"
scene = "indian-pines"                  # or a path, from the protocol's folder; labels = "PATH" where it has none
split = "random"                        # random | blocks | halves | sites
labels_per_class = 15
seeds = 10
block_lines = 8                         # K of the streamed column
models = ["mambamoe", "svm-mnf"]        # the first is what the others are compared with
epochs = 60                             # left out: as tuned

[[experiment]]
title = "Another site"
scene = "plots.npz"                     # a collection of plots (hyperline/scenes/plots.py)
split = "sites"
train_site = "MLBS"
test_site = "OSBS"
classes = {Acer = ["ACRU", "ACSA3"], Nyssa = ["NYBI", "NYSY"]}    # left out: those of the file
labels_per_class = 15
seeds = 10
models = ["mambamoe", "weak-consistency"]

[[model]]                               # a model of this protocol alone, such as an ablation
name = "weak-consistency"
network = "mambamoe"
settings = {dropout = 0.3}              # of the network
train = {consistency = 1.0}             # of TrainConfig
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from hyperline.errors import InputError
from hyperline.scenes.indian_pines import NAME as INDIAN_PINES
from hyperline.splits import SplitKind
from hyperline.train.benchmark.contestants import CONTESTANTS, Contestant
from hyperline.train.models import NETWORKS
from hyperline.train.trainer import TrainConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Role = Literal["tuning", "reported"]
ExperimentSplit = SplitKind | Literal["sites"]

# What the benchmark itself says of a training.
_OWN_TRAIN_SETTINGS = ("seed", "threads")
_OWN_NETWORK_SETTINGS = ("bands", "classes")


class _Experiment(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str
    scene: str
    labels: str | None = None
    split: ExperimentSplit
    labels_per_class: int = Field(ge=1)
    guard: int | None = Field(default=None, ge=0)
    train_site: str | None = None
    test_site: str | None = None
    classes: dict[str, list[str]] | None = None
    seeds: int = Field(ge=1, le=1000)
    epochs: int | None = Field(default=None, ge=1)
    block_lines: int = Field(default=8, ge=8, multiple_of=8)
    models: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _sites_are_named(self) -> _Experiment:
        of_sites = [name for name in ("train_site", "test_site", "classes") if getattr(self, name) is not None]
        if self.split != "sites" and of_sites:
            raise ValueError(f"{of_sites[0]} goes with split = 'sites' alone")
        if self.split == "sites" and (self.train_site is None or self.test_site is None):
            raise ValueError("split = 'sites' needs train_site and test_site")
        if self.split == "sites" and (self.guard is not None or self.labels is not None):
            raise ValueError("a collection of plots has its own labels and no guard band; leave both out")
        if self.split == "sites" and self.train_site == self.test_site:
            raise ValueError("train_site and test_site are the same")
        return self


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    network: str
    title: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    role: Role
    note: str | None = None
    experiment: list[_Experiment] = Field(min_length=1)
    model: list[_Model] = Field(default_factory=list)


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
        models: by name, of `CONTESTANTS` or of the protocol; the first is what the others are compared with.
        train_site, test_site: of a split by sites.
        classes: what counts as one class of a collection of plots; None for its own classes.
    """

    title: str
    scene: str
    labels: str | None
    split: ExperimentSplit
    labels_per_class: int
    guard: int | None
    seeds: int
    epochs: int | None
    block_lines: int
    models: Mapping[str, Contestant]
    train_site: str | None = None
    test_site: str | None = None
    classes: Mapping[str, Sequence[str]] | None = None

    def missing(self) -> str | None:
        """Say what of the scene is not here, and where it should be; None where all is."""
        if self.scene == INDIAN_PINES:
            return None if find_spec("tensorly") else "tensorly, of pip install 'hyperline[demo]', is not installed"
        for spec in (self.scene, self.labels):
            # FILE:NAME chooses one array of a file
            if spec is not None and not any(Path(one).is_file() for one in (spec, spec.rpartition(":")[0])):
                return f"{spec} is not there"
        return None


@dataclass(frozen=True)
class Protocol:
    """What a protocol file says.

    Attributes:
        name: of the protocol.
        role: whether its scenes served to choose settings, or are reported on.
        experiments: in order.
        note: what the reader of the figures must know besides.
    """

    name: str
    role: Role
    experiments: tuple[Experiment, ...]
    note: str | None = None


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
    titles = [one.title for one in held.experiment]
    if len(set(titles)) < len(titles):
        raise InputError(f"{path}: two experiments have the same title; the report tells them apart by it")
    models = dict(CONTESTANTS)
    for one in held.model:
        if one.name in models:
            raise InputError(f"{path}: model {one.name!r} is there already; give it another name")
        models[one.name] = _contestant(path, one)
    return Protocol(held.name, held.role, tuple(_experiment(path, one, models) for one in held.experiment), held.note)


def narrowed(protocols: Sequence[Protocol], seeds: int | None, models: Sequence[str]) -> list[Protocol]:
    """Return a part of some protocols.

    Args:
        protocols: the whole.
        seeds: the first so many of each experiment; None for all.
        models: these alone; none for all.

    Raises:
        InputError: no protocol has such a model, or two are of one name.
    """
    names = [protocol.name for protocol in protocols]
    if len(set(names)) < len(names):
        raise InputError("two protocols have the same name; the report tells them apart by it")
    known = {name for protocol in protocols for one in protocol.experiments for name in one.models}
    unknown = [name for name in models if name not in known]
    if unknown:
        raise InputError(f"{', '.join(names)}: there is no model {unknown[0]!r}; there are: {', '.join(sorted(known))}")
    return [_narrowed(protocol, seeds, models) for protocol in protocols]


def _narrowed(protocol: Protocol, seeds: int | None, models: Sequence[str]) -> Protocol:
    experiments = [
        replace(
            one,
            seeds=min(seeds or one.seeds, one.seeds),
            models={name: held for name, held in one.models.items() if not models or name in models},
        )
        for one in protocol.experiments
    ]
    return replace(protocol, experiments=tuple(one for one in experiments if one.models))


def available(protocols: Sequence[Protocol]) -> tuple[list[Protocol], list[str]]:
    """Return what can be measured here, and a sentence for each experiment whose scene is missing."""
    here, skipped = [], []
    for protocol in protocols:
        reasons = {one.title: one.missing() for one in protocol.experiments}
        skipped += [f"{protocol.name}, {title}: {reason}" for title, reason in reasons.items() if reason is not None]
        held = tuple(one for one in protocol.experiments if reasons[one.title] is None)
        if held:
            here.append(replace(protocol, experiments=held))
    return here, skipped


def _experiment(path: Path, held: _Experiment, models: Mapping[str, Contestant]) -> Experiment:
    unknown = [name for name in held.models if name not in models]
    if unknown:
        raise InputError(f"{path}: {held.title}: no model is called {unknown[0]!r}; there are: {', '.join(models)}")
    if len(set(held.models)) < len(held.models):
        raise InputError(f"{path}: {held.title}: a model is named twice")
    values: dict[str, Any] = dict(held)
    values["models"] = {name: models[name] for name in held.models}
    for key in ("scene", "labels"):
        if values[key] is not None:
            values[key] = _from_folder(path.parent, values[key])
    return Experiment(**values)


def _contestant(path: Path, held: _Model) -> Contestant:
    """Check a model that a protocol describes against the settings that there are."""
    if held.network not in NETWORKS:
        raise InputError(
            f"{path}: model {held.name}: no network is called {held.network!r}; there are: {', '.join(NETWORKS)}"
        )
    where = f"{path}: model {held.name}"
    _check_settings(f"{where}: train", TrainConfig, held.train, {}, _OWN_TRAIN_SETTINGS)
    size = dict.fromkeys(_OWN_NETWORK_SETTINGS, 2)
    _check_settings(f"{where}: settings", NETWORKS[held.network].Config, held.settings, size, _OWN_NETWORK_SETTINGS)
    return Contestant(
        held.title or held.name, f"settings of {path.name}", network=held.network, model=held.settings, train=held.train
    )


def _check_settings(
    where: str, kind: type[Any], given: Mapping[str, Any], own: Mapping[str, Any], taken: Sequence[str]
) -> None:
    known = [field.name for field in fields(kind) if field.name not in taken]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InputError(f"{where}: there is no {unknown[0]!r} to set; there are: {', '.join(known)}")
    try:
        TypeAdapter(kind).validate_python({**own, **given})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _from_folder(folder: Path, spec: str) -> str:
    """Resolve a path that stands in a protocol from the folder of the protocol; the name of a scene stays."""
    path = Path(spec)
    known = path.suffix == "" and not (folder / path).exists()
    return spec if known or path.is_absolute() else str(folder / path)
