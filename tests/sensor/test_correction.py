"""A correction that contradicts itself is refused with the number that matters."""

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.sensor import SensorCorrection

SAMPLES, BANDS = 6, 10


def table(value: float = 1.0) -> np.ndarray:
    return np.full((SAMPLES, BANDS), value, np.float32)


def with_some(value: float, at: tuple[object, ...] = ((1, 2, 4), 3)) -> np.ndarray:
    some = table()
    some[at] = value
    return some


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dark": np.zeros((BANDS, SAMPLES), np.float32)}, r"the dark is 10 × 6, the sensor 6 samples × 10 bands"),
        ({"bad": np.zeros((5, BANDS), bool)}, r"bad-element map is 5 × 10, the sensor 6 samples × 10 bands"),
        (
            {"dark": with_some(np.nan)},
            r"dark is NaN or over 1e\+10 in 3 of 60 elements in use \(first: sample 1, band 3",
        ),
        ({"gain": with_some(np.nan)}, r"gain is not between 0 and 1e\+28 in 3 of 60 elements"),
        ({"gain": with_some(0)}, r"gain is not between .* in 3 of 60 elements in use \(first: sample 1, band 3"),
        ({"gain": with_some(-2)}, r"gain is not between .* mark them bad, or leave their bands out"),
        ({"bad": np.ones((SAMPLES, BANDS), bool)}, r"all 60 elements in use are marked bad; .* not good"),
        ({"bad": with_some(0, (slice(None), (2, 7))) == 0, "mend": "line"}, r"2 bands in use .*\(first band 2, "),
        ({"saturation": -1}, r"saturation level is -1; it must be a positive number"),
        ({"saturation": float("nan")}, r"saturation level is nan"),
        ({"ranges": ((0, 4), (3, 8))}, r"bands 3:8: ranges must be .* within 0:10, ascending, no band twice"),
        ({"ranges": ((4, 11),)}, r"bands 4:11: .* within 0:10"),
        ({"ranges": ((4, 4),)}, r"bands 4:4: "),
        ({"ranges": ((0, 5), (6, 8)), "bin": 2}, r"bands 0:5 are 5, no multiple of the bin of 2; take 0:4"),
        ({"bin": 0}, r"bin is 0"),
        ({"units": "volts"}, r"units is 'volts'; it must be one of reflectance, radiance, counts"),
        ({"wavelengths_nm": np.arange(4.0)}, r"4 wavelengths for 10 bands"),
    ],
)
def test_what_contradicts_itself_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SensorCorrection(SAMPLES, BANDS, **options)


def test_what_bad_or_unused_elements_hold_does_not_matter() -> None:
    broken = with_some(np.nan)
    SensorCorrection(SAMPLES, BANDS, dark=broken, gain=broken, bad=np.isnan(broken))
    SensorCorrection(SAMPLES, BANDS, dark=broken, gain=broken, ranges=((0, 3), (4, 10)))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((5, BANDS, 1.0, None), r"strip has lines of 5 samples × 10 bands, the radiometry is for 6 × 10"),
        ((SAMPLES, BANDS, 1e-4, None), r"strip states a scale of 0.0001: its values are converted already"),
        ((SAMPLES, BANDS, 1.0, np.arange(10) * 5 + 403.0), r"strip: band 0 .* lies at 403.00 nm, in the .* at 400.00"),
    ],
)
def test_lines_of_another_sensor_or_in_other_units_are_refused(lines: tuple[object, ...], message: str) -> None:
    correction = SensorCorrection(SAMPLES, BANDS, dark=table(), wavelengths_nm=np.arange(10) * 5 + 400.0)
    correction.require_fit("strip", SAMPLES, BANDS, 1.0, np.arange(10) * 5 + 401.0)
    with pytest.raises(InputError, match=message):
        correction.require_fit("strip", *lines)


def test_samples_that_fill_no_bin_are_refused_with_a_bin_that_fits() -> None:
    assert SensorCorrection(SAMPLES, BANDS, bin_samples=3).model_samples == SAMPLES // 3
    with pytest.raises(InputError, match="6 samples are no multiple of the bin of 5; take a bin of 3"):
        SensorCorrection(SAMPLES, BANDS, bin_samples=5)
    with pytest.raises(InputError, match="bin_samples is 0; it must be at least 1"):
        SensorCorrection(SAMPLES, BANDS, bin_samples=0)


def test_bins_are_means_and_so_are_their_wavelengths() -> None:
    correction = SensorCorrection(SAMPLES, BANDS, ranges=((0, 4), (6, 10)), bin=2)
    assert correction.model_bands == 4
    wavelengths = correction.model_wavelengths_nm(np.arange(10) * 10 + 400.0)
    assert wavelengths is not None
    assert wavelengths.tolist() == [405, 425, 465, 485]
    assert correction.model_wavelengths_nm(None) is None
