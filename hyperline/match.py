"""When a model may look at lines: they show the bands that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from hyperline.bundle.card import BandSelection, Card
from hyperline.errors import InputError
from hyperline.scenes.scene import Scene
from hyperline.scenes.wavelengths import WAVELENGTH_TOLERANCE_NM
from hyperline.sensor import BandResampling, SensorCorrection, resample_bands, same_bands, select_bands


class Bands(Protocol):
    """Whatever has lines: a scene, a source.

    Attributes:
        name: for reports.
        bands: spectral bands of a line.
        wavelengths_nm: (band,) band centres in nanometres, or None where unknown.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - the attributes are described above
    @property
    def bands(self) -> int: ...  # noqa: D102
    @property
    def wavelengths_nm(self) -> NDArray[np.float64] | None: ...  # noqa: D102


class Spectra(Bands, Protocol):
    """Whatever gives lines: a source of the runtime, the lines of a calibration.

    Attributes:
        truth_classes: the highest class id of the lines' truth; 0 where they come without truth.
    """

    @property
    def truth_classes(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class DescribedSpectra:
    """What is known of lines without reading one."""

    name: str
    bands: int
    wavelengths_nm: NDArray[np.float64] | None
    truth_classes: int


def corrected(source: Spectra, correction: SensorCorrection) -> DescribedSpectra:
    """Return what a source, which must fit the correction, shows after it."""
    wavelengths = correction.model_wavelengths_nm(source.wavelengths_nm)
    return DescribedSpectra(source.name, correction.model_bands, wavelengths, source.truth_classes)


def require_units(scene: Scene, units: str | None, training: Mapping[str, Any]) -> None:
    """Refuse lines in other units than those of the training scene, where both are known.

    Args:
        scene: as read.
        units: of its lines once they are corrected, or None where nobody says.
        training: provenance as in run.json and in a bundle's card: ``scene.units``.

    Raises:
        InputError: the units differ, or the training scene was corrected and this one stores bare integers.
    """
    trained = training.get("scene", {}).get("units")
    if trained is None or trained == units:
        return
    if units is not None:
        raise InputError(
            f"the radiometry makes {units} of {scene.name}, the model was trained on {trained}; correct the lines with "
            "the kind of files that the training used, or train with these"
        )
    if scene.cube.dtype.kind in "iu" and scene.scale == 1.0:
        raise InputError(
            f"the model was trained on {trained}, and {scene.name} stores {scene.cube.dtype.name} without a scale: "
            "raw counts; give their correction with --radiometry FILE.npz"
        )


def require_match(source: Spectra, card: Card, correction: SensorCorrection | None = None) -> BandResampling | None:
    """Find how a source shows the bands on which a model was trained; refuse one that does not, or names other classes.

    Args:
        source: the lines.
        card: of the model.
        correction: applied to the lines before the model sees them, or None; the source fits it.

    Returns:
        What makes the model's bands of the lines, of corrected ones where there is a correction; None where they show
        them as they stand.

    Raises:
        InputError: other bands, which cannot be resampled to the model's, or truth in classes that the model does not
            have; the message holds the numbers.
    """
    if correction is not None:
        source = corrected(source, correction)
    resampling = match_bands(source, card.name, card.bands, card.wavelengths_nm, card.selection)
    if source.truth_classes > len(card.class_names):
        raise InputError(
            f"{source.name} has labels up to class {source.truth_classes}, the model {card.name} knows "
            f"{len(card.class_names)} classes; give it labels in the model's numbering"
        )
    return resampling


def match_bands(
    source: Bands,
    model: str,
    bands: int,
    wavelengths_nm: Sequence[float] | None,
    selection: BandSelection | None = None,
) -> BandResampling | None:
    """Find what makes the bands of a model of the lines of a source.

    Where both sides state wavelengths, these alone decide (`hyperline.sensor.resample_bands`); else the number of
    bands: lines of the sensor whose bands the model takes in part show those.

    Args:
        source: the lines.
        model: its name, for the message.
        bands: of the model.
        wavelengths_nm: of its bands, or None where unknown.
        selection: which of its sensor's bands these are, or None for all.

    Returns:
        None where the lines show the model's bands as they stand.

    Raises:
        InputError: the lines cannot be brought to the model's bands.
    """
    if source.wavelengths_nm is not None and wavelengths_nm is not None:
        expected = np.asarray(wavelengths_nm)
        if selection is not None and source.bands == selection.bands:
            chosen = select_bands(selection.bands, selection.ranges)
            if same_bands(source.wavelengths_nm[chosen.used], expected):
                return chosen
        return resample_bands(source.name, source.wavelengths_nm, model, expected)
    if selection is not None and source.bands == selection.bands:
        return select_bands(selection.bands, selection.ranges)
    _require_count(source, model, bands)
    return None


def match_run(scene: Scene, name: str, bands: int, record: Mapping[str, Any]) -> BandResampling | None:
    """Find what makes the bands of a trained run of a scene's; see :func:`match_bands`.

    Args:
        scene: the lines.
        name: of the run, for the message.
        bands: of its network.
        record: run.json.

    Raises:
        InputError: the lines cannot be brought to the run's bands.
    """
    return match_bands(scene, name, bands, record["scene"].get("wavelengths_nm"), recorded_selection(record))


def recorded_selection(record: Mapping[str, Any]) -> BandSelection | None:
    """Return the bands that a run took of its sensor's, as run.json says it; None for all.

    Raises:
        InputError: run.json says it in no way that can be.
    """
    held = record.get("selection")
    try:
        return None if held is None else BandSelection.model_validate(held)
    except ValidationError as error:
        raise InputError(f"run.json: its selection of bands is damaged: {held!r:.100}; train again") from error


def require_bands(source: Bands, model: str, bands: int, wavelengths_nm: Sequence[float] | None) -> None:
    """Refuse lines that do not show the bands on which a model was trained.

    Wavelengths are compared where both sides state them.

    Args:
        source: the lines.
        model: its name, for the message.
        bands: of the model.
        wavelengths_nm: of its bands, or None where unknown.

    Raises:
        InputError: another number of bands, or a band centre further than ``WAVELENGTH_TOLERANCE_NM`` from the model's.
    """
    _require_count(source, model, bands)
    if source.wavelengths_nm is None or wavelengths_nm is None:
        return
    expected = np.asarray(wavelengths_nm)
    off = np.abs(source.wavelengths_nm - expected)
    matches = off <= WAVELENGTH_TOLERANCE_NM  # False for NaN
    if not matches.all():
        band = int(np.argmax(off))
        raise InputError(
            f"{source.name}: band {band} (counted from 0) lies at {source.wavelengths_nm[band]:.2f} nm where "
            f"the model {model} expects {expected[band]:.2f} nm; {np.count_nonzero(~matches)} of {bands} "
            f"bands are more than {WAVELENGTH_TOLERANCE_NM:g} nm off. Put the bands in the model's order, or train a "
            f"model for this sensor"
        )


def _require_count(source: Bands, model: str, bands: int) -> None:
    if source.bands != bands:
        raise InputError(
            f"{source.name} has {source.bands} bands, the model {model} takes {bands}; give it the "
            f"bands that it was trained on, or train a model for this sensor"
        )
