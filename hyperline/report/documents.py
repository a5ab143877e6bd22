"""The JSON files that a report reads, as data: what it needs of each, checked, and nothing else.

Keys that are not named here are left out, and all that a later release added may be missing, so that the strips and
benches of other releases still give a report.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hyperline.errors import InputError
from hyperline.scenes.files import printable, reading

# Several times what a bench of a hundred runs, or the confusion of 255 classes, takes.
_MAX_BYTES = 64 << 20

# What a stranger wrote: no control character reaches the page or the terminal.
Words = Annotated[str, AfterValidator(printable)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())


_D = TypeVar("_D", bound=_Document)


class Accuracy(_Document):
    """`hyperline.metrics.Metrics` as JSON; without ``confusion`` where the file is of an earlier release."""

    oa: Fraction
    aa: Fraction
    kappa: Annotated[float, Field(ge=-1, le=1)]
    per_class: tuple[Fraction | None, ...]
    pixels: Count
    confusion: tuple[tuple[Count, ...], ...] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Accuracy:
        classes = len(self.per_class)
        if self.confusion is not None and [len(row) for row in self.confusion] != [classes + 1] * classes:
            raise ValueError(f"confusion is not {classes} rows of {classes + 1}, as per_class has it")
        return self


class Evaluation(Accuracy):
    """``hyperline evaluate --json``."""

    block_lines: Count
    engine: Words
    precision: Words
    class_names: tuple[Words, ...] | None = None
    scene: Words | None = None
    model: Words | None = None


class Percentiles(_Document):
    """Milliseconds that this share of the lines or blocks stays below."""

    p50: NotNegative
    p90: NotNegative | None = None
    p99: NotNegative
    p999: NotNegative
    max: NotNegative | None = None


class Histogram(_Document):
    """Lines between one edge and the next, in milliseconds."""

    edges_ms: tuple[NotNegative, ...]
    lines: tuple[Count, ...]

    @model_validator(mode="after")
    def _fits(self) -> Histogram:
        edges = self.edges_ms
        if len(edges) != len(self.lines) + 1 and (edges or self.lines):
            raise ValueError(f"{len(edges)} edges for {len(self.lines)} counts; there is one edge more than counts")
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError("edges_ms must rise")
        return self


class Moment(_Document):
    """The strip at one time of its flight."""

    second: NotNegative
    lines_per_second: NotNegative
    latency_ms_max: NotNegative | None = None
    waiting: Count | None = None
    dropped: Count | None = None


class Summary(_Document):
    """``summary.json`` of a strip."""

    received: Count
    classified: Count
    dropped: Count
    rejected: Count
    unwritten: Count = 0
    invalid_pixels: Count = 0
    saturated_pixels: Count = 0
    interrupted: bool = False
    resumed: bool = False
    seconds: NotNegative
    lines_per_second: NotNegative
    latency_ms: Percentiles | None = None
    first_block_ms: NotNegative | None = None
    lines: Count
    samples: Count
    bands: Count
    rate: NotNegative | None = None
    block_lines: Annotated[int, Field(ge=1)]
    engine: Words
    precision: Words
    threads: Count
    native_ops: bool = False
    fallbacks: Count = 0
    reloads: Count = 0
    failures: tuple[Words, ...] = ()
    outages: Count = 0
    ring_lines: Count = 0
    late_lines: Count = 0
    latest_ms: float | None = None
    resampling: dict[Words, Any] | None = None
    model: Words
    bundle_sha256: Words
    source: Words
    source_counters: dict[Words, Any] = {}
    counters: dict[Words, Count] = {}
    links: dict[Words, Any] | None = None
    unknown: dict[Words, Any] | None = None
    oa: Fraction | None = None
    aa: Fraction | None = None
    kappa: float | None = None
    per_class: tuple[Fraction | None, ...] | None = None
    pixels: Count | None = None
    confusion: tuple[tuple[Count, ...], ...] | None = None
    latency_histogram: Histogram | None = None
    time_line: tuple[Moment, ...] = ()

    @property
    def accuracy(self) -> Accuracy | None:
        """Against the truth that the source gave; None where it gave none."""
        if self.oa is None or self.per_class is None:
            return None
        names = Accuracy.model_fields
        return Accuracy(**{name: getattr(self, name) for name in names})

    @model_validator(mode="after")
    def _accuracy_is_whole(self) -> Summary:
        _ = self.accuracy
        return self


class ClassSpectrum(_Document):
    """What the model saw of one class, in the strip's units."""

    id: Annotated[int, Field(ge=1, le=255)]
    name: Words
    pixels: Count
    mean: tuple[float, ...]
    std: tuple[NotNegative, ...]


class Spectra(_Document):
    """``spectra.json`` of a strip."""

    wavelengths_nm: tuple[float, ...] | None = None
    units: Words | None = None
    classes: tuple[ClassSpectrum, ...]

    @model_validator(mode="after")
    def _fits(self) -> Spectra:
        bands = {len(values) for one in self.classes if one.pixels for values in (one.mean, one.std)}
        if self.wavelengths_nm is not None:
            bands.add(len(self.wavelengths_nm))
        if len(bands) > 1:
            raise ValueError(f"spectra of {' and '.join(map(str, sorted(bands)))} bands; they must have the same")
        return self


class Energy(_Document):
    """What power sensors said in a bench; joules are above what the machine takes at rest."""

    source: Words
    covers: Words | None = None
    joules_per_line: float | None = None
    joules_per_pixel: float | None = None
    joules_per_line_with_idle: float | None = None
    watts: float | None = None
    idle_watts: float | None = None


class Memory(_Document):
    """Bytes of the process in a bench."""

    peak_bytes: Count | None = None
    device_bytes: Count | None = None


class BenchPoint(_Document):
    """What a bench measured: a model, an engine and a width."""

    samples: Count
    bands: Count
    block_lines: Count
    threads: Count
    engine: Words
    precision: Words
    native_ops: bool = False
    model: Words | None = None

    @property
    def point(self) -> tuple[object, ...]:
        """What tells one point of a sweep from another."""
        return tuple(getattr(self, name) for name in BenchPoint.model_fields)


class BenchRun(BenchPoint):
    """One measurement of a point: the engine alone or everything that flies, flat out or at a rate."""

    lines_per_second: NotNegative
    latency_ms: Percentiles
    path: Words | None = None
    rate: NotNegative | None = None
    missed: Count | None = None
    dropped: Count | None = None
    load_ms: NotNegative | None = None
    memory: Memory | None = None
    energy: Energy | None = None


class Floor(_Document):
    """What the arithmetic of a block takes here, and how many times that a step takes."""

    ms: NotNegative
    ratio: NotNegative | None = None


class Operator(_Document):
    """One row of a profile."""

    name: Words
    nodes: Count
    ms: NotNegative
    share: Fraction


class Profile(_Document):
    """Where the time of a step goes, by operator."""

    blocks: Count
    operators: tuple[Operator, ...]


class Power(_Document):
    """Which power sensors a bench found, and why it could not use others."""

    sensors: tuple[Words, ...] = ()
    problems: tuple[Words, ...] = ()


class Bench(BenchRun):
    """``hyperline bench --json``; what stands beside ``runs`` is of the first."""

    floor_ratio: NotNegative | None = None
    environment: dict[Words, Any] | None = None
    power: Power | None = None
    runs: tuple[BenchRun, ...] = ()
    floors: tuple[Floor | None, ...] = ()
    profile: Profile | None = None


class Curves(_Document):
    """``run.json`` of a training."""

    scene: dict[Words, Any]
    split: dict[Words, Any]
    offline: Accuracy | None = None
    streamed: Accuracy | None = None
    history: dict[Words, tuple[float, ...]] = {}
    seconds: NotNegative | None = None
    created: Words | None = None


class Loss(_Document):
    """What a calibration cost, in per cent of the pixels that float32 has right."""

    points: float
    worst_class: float
    agreement: Fraction


class Calibration(_Document):
    """``calibration/PRECISION.json`` of a bundle."""

    precision: Words
    budget: dict[Words, float]
    loss: Loss
    lines: dict[Words, Any]
    accuracy: dict[Words, Accuracy]
    bytes: dict[Words, Count]
    speed: dict[Words, Any] | None = None


def read_document(kind: type[_D], path: Path, what: str) -> _D:
    """Read a JSON file.

    Args:
        kind: what it must hold.
        path: the file.
        what: what it is, with its article, for messages.

    Raises:
        InputError: the file cannot be read, is no JSON, or a value of it is none that can be.
    """
    with reading(path, what), path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise InputError(f"{path}: has over {_MAX_BYTES} bytes; {what} is never so long")
    return parse_document(kind, data, str(path), what)


def parse_document(kind: type[_D], data: bytes, where: str, what: str) -> _D:
    """Read JSON text; arguments and errors as for `read_document`."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_input=False, include_context=False)
        field = printable(".".join(map(str, first["loc"])))[:100]
        message = printable(first["msg"].removeprefix("Value error, "))[:300]
        more = f" (and {len(others)} more)" if others else ""
        raise InputError(f"{where}: is not {what}: {f'{field}: ' if field else ''}{message}{more}") from error
