"""ENVI headers: the text file that says how to read the binary one beside it.

Format: https://www.nv5geospatialsoftware.com/docs/ENVIHeaderFiles.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes.files import printable, reading
from hyperline.scenes.wavelengths import check_wavelengths, to_nanometres

# ENVI's code -> NumPy's, for the real types; 6 and 9 are complex.
DATA_TYPES: Mapping[int, str] = {
    1: "u1",
    2: "i2",
    3: "i4",
    4: "f4",
    5: "f8",
    12: "u2",
    13: "u4",
    14: "i8",
    15: "u8",
}
INTERLEAVES = ("bil", "bip", "bsq")
_DATA_SUFFIXES = ("", ".img", ".raw", ".dat", ".bil", ".bip", ".bsq", ".bin")
_TIFF_SUFFIXES = (".tif", ".tiff")
# Several times what the wavelengths, widths and names of 4096 bands take.
_MAX_BYTES = 1 << 20
# A petabyte in bytes; products of what is below stay numbers that can be shown.
_MAX_INTEGER = 10**15
_MAP_FIELDS = ("map info", "projection info", "coordinate system string")
_INTEGER = re.compile(r"([+-]?)0*([0-9]+)")
# Only these are kept, and must not be given twice: a sensor may repeat its own fields.
_UNDERSTOOD = frozenset(
    {
        "samples",
        "lines",
        "bands",
        "header offset",
        "file type",
        "file compression",
        "data type",
        "interleave",
        "byte order",
        "data ignore value",
        "reflectance scale factor",
        "wavelength",
        "wavelength units",
        "band names",
        "classes",
        "class names",
        *_MAP_FIELDS,
    }
)


@dataclass(frozen=True)
class EnviHeader:
    """What an ENVI header says.

    Attributes:
        path: the header file.
        lines: number of along-track lines.
        samples: number of cross-track samples.
        bands: number of bands.
        dtype: stored type with its byte order; None for a TIFF, which knows its own.
        interleave: ``bil``, ``bip`` or ``bsq``; ``tif`` for a TIFF.
        header_offset: bytes before the first value.
        file_type: as written, such as ``ENVI Standard``.
        nodata: ``data ignore value``.
        scale: 1 / ``reflectance scale factor``.
        wavelengths_nm: (band,) band centres in nanometres, or None.
        band_names: one a band, or empty.
        classes: number of classes of a class map, class 0 included, or None.
        class_names: names of class 0, 1, …, or empty.
        notes: what had to be assumed.
        wavelength_unit: the unit of its wavelengths as written, or empty.
        map_fields: (name, text as written, in braces) of the fields that say where the scene lies.
    """

    path: Path
    lines: int
    samples: int
    bands: int
    dtype: np.dtype[np.generic] | None
    interleave: str
    header_offset: int
    file_type: str
    nodata: float | None
    scale: float
    wavelengths_nm: NDArray[np.float64] | None
    band_names: tuple[str, ...]
    classes: int | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    wavelength_unit: str = ""
    map_fields: tuple[tuple[str, str], ...] = ()

    @property
    def states_unit(self) -> bool:
        """Whether it says the unit of its wavelengths."""
        return self.wavelength_unit.lower() not in ("", "unknown")

    @property
    def is_tiff(self) -> bool:
        """Whether the data file is a TIFF rather than ENVI's flat binary."""
        return self.dtype is None


def find_data(header: EnviHeader) -> Path:
    """Find the one data file that belongs to a header: its name without .hdr, or with a usual suffix.

    Raises:
        InputError: none is there, or several are.
    """
    stem = header.path.with_suffix("")
    suffixes = _TIFF_SUFFIXES if header.is_tiff else _DATA_SUFFIXES
    found = sorted(
        path
        for path in header.path.parent.iterdir()
        if path.name.startswith(stem.name) and path.name[len(stem.name) :].lower() in suffixes and path.is_file()
    )
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{header.path}: several data files stand beside it ({names}); name the one to read")
    expected = ", ".join(f"{stem.name}{suffix}" for suffix in suffixes)
    raise InputError(f"{header.path}: its data file is missing; looked beside it for {expected}")


def find_header(data: Path) -> Path | None:
    """Find the ENVI header of a data file, named NAME.SUFFIX.hdr or NAME.hdr, or return None."""
    for name in (data.name, data.stem):
        for suffix in (".hdr", ".HDR"):
            path = data.with_name(name + suffix)
            if path.is_file():
                return path
    return None


def read_header(path: Path) -> EnviHeader:
    """Read and check an ENVI header.

    Missing ``byte order`` and ``header offset`` are assumed to be 0, with a note.

    Raises:
        InputError: not an ENVI header, or a field is missing, malformed, unknown or contradictory; the
            message names the file, the line and the field.
    """
    fields = _Fields(path)
    notes = list(fields.notes)
    file_type = fields.text("file type", "ENVI Standard")
    is_tiff = file_type.lower() == "tiff"
    if fields.integer("file compression", minimum=0, default=0):
        raise fields.error("file compression", "the data file is compressed; save it uncompressed")

    dtype: np.dtype[np.generic] | None = None
    interleave, offset = "tif", 0
    if not is_tiff:
        interleave = fields.text("interleave").lower()
        if interleave not in INTERLEAVES:
            raise fields.error("interleave", f"expected one of {', '.join(INTERLEAVES)}")
        code = fields.integer("data type", minimum=1)
        if code not in DATA_TYPES:
            known = ", ".join(map(str, DATA_TYPES))
            raise fields.error("data type", f"expected a real type, one of {known}")
        dtype = np.dtype(DATA_TYPES[code])
        if "header offset" not in fields:
            notes.append(f"{path.name} has no 'header offset'; assumed 0")
        offset = fields.integer("header offset", minimum=0, default=0)
        if "byte order" not in fields and dtype.itemsize > 1:
            notes.append(f"{path.name} has no 'byte order'; assumed 0 (little-endian)")
        byte_order = fields.integer("byte order", minimum=0, default=0)
        if byte_order > 1:
            raise fields.error("byte order", "expected 0 (little-endian) or 1 (big-endian)")
        dtype = dtype.newbyteorder(">" if byte_order else "<")

    bands = fields.integer("bands", minimum=1)
    wavelengths: NDArray[np.float64] | None = None
    if "wavelength" in fields:
        written = fields.numbers("wavelength")
        check_wavelengths(written, bands, f"{fields.where('wavelength')}: 'wavelength'")
        wavelengths, unit_notes = to_nanometres(written, fields.text("wavelength units", ""), path.name)
        notes.extend(unit_notes)
    factor = fields.number("reflectance scale factor", default=1.0)
    if not (factor > 0 and 0 < 1 / factor < np.inf):
        raise fields.error("reflectance scale factor", "it must be finite and positive, and so must be 1 / it")
    class_names = fields.items("class names")
    classes = fields.integer("classes", minimum=1) if "classes" in fields else None
    if classes is not None and class_names and len(class_names) != classes:
        raise fields.error("class names", f"{len(class_names)} names, but 'classes' is {classes}")
    return EnviHeader(
        path=path,
        lines=fields.integer("lines", minimum=1),
        samples=fields.integer("samples", minimum=1),
        bands=bands,
        dtype=dtype,
        interleave=interleave,
        header_offset=offset,
        file_type=file_type,
        nodata=fields.number("data ignore value") if "data ignore value" in fields else None,
        scale=1.0 / factor,
        wavelengths_nm=wavelengths,
        band_names=fields.items("band names"),
        classes=classes,
        class_names=class_names,
        notes=tuple(notes),
        wavelength_unit=fields.text("wavelength units", "")[:60],
        map_fields=tuple((name, f"{{{fields.text(name)}}}") for name in _MAP_FIELDS if name in fields),
    )


@dataclass(frozen=True)
class _Field:
    text: str
    line: int


class _Fields:
    """The fields of one header by their lower-case names, read on demand into numbers and lists."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.notes: list[str] = []
        self._fields: dict[str, _Field] = {}
        with reading(path, "an ENVI header"), path.open("rb") as file:
            # A data file named by mistake must not be read whole.
            if file.read(7).removeprefix(b"\xef\xbb\xbf")[:4] != b"ENVI":
                raise InputError(f"{path}: not an ENVI header; its first line must be 'ENVI'")
            file.seek(0)
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise InputError(f"{path}: has over {_MAX_BYTES} bytes; no ENVI header is so long, look at what it holds")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        self._parse([printable(line) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")])

    def _parse(self, lines: list[str]) -> None:
        numbered = iter(enumerate(lines[1:], start=2))
        ignored: list[int] = []
        for number, line in numbered:
            if not line.strip() or line.lstrip().startswith(";"):
                continue
            name, equals, value = line.partition("=")
            name = " ".join(name.lower().split())
            if not equals or not name:
                ignored.append(number)
                continue
            value = value.strip()
            if value.startswith("{"):
                parts = [value]
                while "}" not in parts[-1]:
                    following = next(numbered, None)
                    if following is None:
                        raise InputError(
                            f"{self._path}, line {number}: '{name[:60]}' opens a brace that is never closed"
                        )
                    if not following[1].lstrip().startswith(";"):
                        parts.append(following[1])
                value = "\n".join(parts)
                value = value[1 : value.index("}")].strip()
            if name not in _UNDERSTOOD:
                continue
            before = self._fields.get(name)
            if before is not None and before.text != value:
                raise InputError(
                    f"{self._path}: '{name}' is given twice with different values, "
                    f"in lines {before.line} and {number}; keep the right one"
                )
            self._fields[name] = _Field(value, number)
        if len(ignored) == 1:
            self.notes.append(f"{self._path.name}: line {ignored[0]} is no 'field = value' and was ignored")
        elif ignored:
            self.notes.append(
                f"{self._path.name}: {len(ignored)} lines, of which line {ignored[0]} is the first, are no "
                "'field = value' and were ignored"
            )

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def where(self, name: str) -> str:
        return f"{self._path}, line {self._fields[name].line}"

    def error(self, name: str, expected: str) -> InputError:
        text = self._fields[name].text
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        return InputError(f"{self.where(name)}: '{name}' is {shown!r}: {expected}")

    def text(self, name: str, default: str | None = None) -> str:
        if name in self._fields:
            return self._fields[name].text
        if default is None:
            raise InputError(f"{self._path}: the required field '{name}' is missing")
        return default

    def integer(self, name: str, minimum: int, default: int | None = None) -> int:
        text = self.text(name, None if default is None else str(default))
        number = _INTEGER.fullmatch(text)
        if number is None:
            raise self.error(name, "expected a whole number")
        # Too large all the same where it has more digits, and reading them all costs quadratic time.
        value = int(number[1] + number[2][:20])
        if value < minimum:
            raise self.error(name, f"it must be at least {minimum}")
        if value > _MAX_INTEGER:
            raise self.error(name, f"it must be at most {_MAX_INTEGER}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = _to_float(self.text(name, None if default is None else str(default)))
        if value is None:
            raise self.error(name, "expected a number")
        return value

    def items(self, name: str) -> tuple[str, ...]:
        text = self.text(name, "").removesuffix(",")
        return tuple(" ".join(item.split()) for item in text.split(",")) if text else ()

    def numbers(self, name: str) -> NDArray[np.float64]:
        values = []
        for position, item in enumerate(self.items(name)):
            value = _to_float(item)
            if value is None:
                raise self.error(name, f"item {position} (counted from 0), {item[:60]!r}, is no number")
            values.append(value)
        return np.array(values, dtype=np.float64)


def _to_float(text: str) -> float | None:
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None
