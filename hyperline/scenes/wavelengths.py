"""Band centres: units and sanity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import InputError
from hyperline.scenes.files import printable

_NANOMETRES_PER_UNIT = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1.0),
    **dict.fromkeys(
        ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"), 1e3
    ),
}
# Optical sensors lie between 0.2 and 20 µm, which is 200 to 20,000 nm: the two readings never meet.
_LARGEST_IN_MICROMETRES = 100.0
# Band centres of one sensor model differ by about a nanometre from unit to unit and over the swath
# ("smile"); bands are 3 to 10 nm apart. Twice the first keeps every unit and refuses a neighbouring band.
WAVELENGTH_TOLERANCE_NM = 2.0


def to_nanometres(
    values: NDArray[np.float64], unit: str | None, where: str
) -> tuple[NDArray[np.float64] | None, tuple[str, ...]]:
    """Convert band centres to nanometres.

    Args:
        values: (band,) band centres in ``unit``.
        unit: the file's word for the unit; None, empty or "unknown" to infer it from the values.
        where: the file, for the note.

    Returns:
        The centres in nanometres, or None for a unit that is no length; and notes on what was assumed.
    """
    word = (unit or "unknown").strip().lower()
    if word in _NANOMETRES_PER_UNIT:
        return values * _NANOMETRES_PER_UNIT[word], ()
    if word in ("", "unknown") and values.size:
        guess = "micrometers" if values.max() < _LARGEST_IN_MICROMETRES else "nanometers"
        note = f"{where} does not say the unit of its wavelengths; assumed {guess} from their values"
        return values * _NANOMETRES_PER_UNIT[guess], (note,)
    shown = printable(str(unit) if len(str(unit)) <= 60 else f"{str(unit)[:57]}...")
    return None, (f"{where} gives wavelengths in '{shown}', which is not understood; they are ignored",)


def check_wavelengths(values: NDArray[Any], bands: int, where: str) -> None:
    """Check that there is one finite, positive centre a band.

    They need not increase: sensors of two detectors overlap.

    Raises:
        InputError: a wrong count, or a value that is not finite and positive.
    """
    if values.shape != (bands,):
        raise InputError(f"{where}: {values.size} wavelengths for {bands} bands; there must be one a band")
    wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if wrong.size:
        raise InputError(
            f"{where}: the wavelength of band {wrong[0]} (counted from 0) is {values[wrong[0]]:g}; "
            "it must be finite and positive"
        )
