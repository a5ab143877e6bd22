"""Real detectors: a laboratory scanner, EMIT before its launch, and tables of sensors that fly."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.radiometry import Radiometry, correct_scene
from hyperline.scenes import read_frames, read_scene
from hyperline.sensor import SensorCorrection, make_correction

Locate = Callable[[str], Path]


@pytest.fixture
def scanner(shared_data: Locate) -> SensorCorrection:
    """Of the scanner that saw a grain of maize, its white panel and its dark."""
    correction, notes = make_correction(
        dark=shared_data("plantcv_corn_raw/dark_reference_crop.hdr"),
        white=shared_data("plantcv_corn_raw/white_reference_crop.hdr"),
    )
    assert "dark_reference_crop.hdr has no 'byte order'; assumed 0 (little-endian)" in notes
    return correction


@pytest.mark.parametrize(("name", "reflectance", "scatter"), [("white", 1.0, 0.01), ("dark", 0.0, 0.01)])
def test_the_white_panel_reflects_all_and_the_dark_nothing(
    shared_data: Locate, scanner: SensorCorrection, name: str, reflectance: float, scatter: float
) -> None:
    scene = correct_scene(read_scene(shared_data(f"plantcv_corn_raw/{name}_reference_crop.hdr")), scanner)
    assert scene.cube.mean() == pytest.approx(reflectance, abs=1e-3)
    np.testing.assert_allclose(scene.cube.mean(axis=(0, 1)), reflectance, atol=scatter)
    assert scene.cube[..., 150:400].std() < 0.02  # 530 to 805 nm, where the lamp is bright


def test_a_grain_of_maize_reflects_between_nothing_and_all_and_more_in_the_red_than_in_the_blue(
    shared_data: Locate, scanner: SensorCorrection
) -> None:
    raw = read_scene(shared_data("plantcv_corn_raw/4-22-22_right_same_B73_top_00.hdr"))
    scene = correct_scene(raw, scanner)
    bright = scene.cube[..., 150:400]
    assert -0.05 < bright.min() < 0.1
    assert 0.9 < bright.max() < 1.1
    assert scene.wavelengths_nm is not None
    blue, red = (int(np.abs(scene.wavelengths_nm - wavelength).argmin()) for wavelength in (450, 650))
    grain = raw.cube[..., red] > 1500
    assert grain.any()
    assert scene.cube[grain, red].mean() > 1.5 * scene.cube[grain, blue].mean()


def test_binned_samples_of_real_lines_are_the_means_of_their_reflectance(
    shared_data: Locate, scanner: SensorCorrection
) -> None:
    raw = read_scene(shared_data("plantcv_corn_raw/4-22-22_right_same_B73_top_00.hdr"))
    even = slice(0, raw.samples // 2 * 2)
    raw = replace(raw, cube=raw.cube[:, even])
    tables = {name: getattr(scanner, name)[even] for name in ("dark", "dark_noise", "gain")}
    scanner = replace(scanner, samples=raw.samples, **tables)
    full, binned = correct_scene(raw, scanner), correct_scene(raw, replace(scanner, bin_samples=2))
    np.testing.assert_allclose(binned.cube, full.cube.reshape(raw.lines, -1, 2, raw.bands).mean(axis=2), atol=1e-5)


@pytest.mark.parametrize("saturation", [None, 4095.0])
def test_a_shutter_that_opens_on_a_real_panel_leaves_the_dark_as_it_was(
    shared_data: Locate, scanner: SensorCorrection, saturation: float | None
) -> None:
    dark, white = (
        read_frames(shared_data(f"plantcv_corn_raw/{name}_reference_crop.hdr")) for name in ("dark", "white")
    )
    radiometry = Radiometry(dark.samples, dark.bands, correction=replace(scanner, saturation=saturation))
    line, valid = np.empty((dark.samples, dark.bands), np.float32), np.empty(dark.samples, bool)
    converted = []
    for lines in (None, white.cube, dark.cube[:20]):
        if lines is not None:
            radiometry.update_dark(np.asarray(lines))
        radiometry.convert(dark.cube[0], line, valid)
        converted.append(line.copy())
    assert (radiometry.dark_refusals, radiometry.dark_updates) == (1, 1)
    np.testing.assert_array_equal(converted[0], converted[1])
    assert (converted[0] != converted[2]).any()


def test_saturated_pixels_of_real_lines_are_flagged_or_counted(shared_data: Locate) -> None:
    raw = read_scene(shared_data("plantcv_corn_raw/4-22-22_right_same_B73_top_00.hdr"))
    level = 2500.0  # the scanner itself never saturated; this is what a 2500-count well would have given
    saturated = (raw.cube >= level).any(axis=2)
    assert 0 < saturated.sum() < saturated.size
    options = {"dark": shared_data("plantcv_corn_raw/dark_reference_crop.hdr"), "saturation": level}
    flagged = correct_scene(raw, make_correction(**options)[0])
    np.testing.assert_array_equal((flagged.cube == flagged.nodata).all(axis=2), saturated)
    counted = correct_scene(raw, make_correction(**options, on_saturation="count")[0])
    assert counted.nodata is None
    assert f"{saturated.sum()} pixels are saturated" in counted.notes


@pytest.fixture
def emit(shared_data: Locate) -> Callable[[str], Path]:
    return lambda name: shared_data(f"emit_l1a_raw/{name}.hdr")


DARK, LIT = "emit20220305t002444_subset_raw", "emit20220305t002601_subset_raw"
LIGHT = slice(100, 450)  # the samples that the laboratory's source shone on
BANDS = ((20, 310),)  # without telemetry and the masked rows at both ends


def marked_bad(emit: Callable[[str], Path]) -> np.ndarray:
    return read_frames(emit("EMIT_BadElements_20220307")).cube[0] != 0


def roughness(cube: np.ndarray, bad: np.ndarray) -> float:
    """How far a good element stands off the two beside it, as a part of the signal; the source itself is smooth.

    In bands 60 to 249 of the raw lines, where there is light."""
    mean, bad = cube.mean(axis=0)[LIGHT, 40:230], bad[LIGHT, 60:250]
    good = ~(bad[:-2] | bad[1:-1] | bad[2:])
    off = np.abs(mean[:-2] - 2 * mean[1:-1] + mean[2:])
    return float(np.median(off[good] / mean[1:-1][good]))


def test_the_flat_field_of_emit_takes_its_stripes_out(emit: Callable[[str], Path]) -> None:
    raw, bad = read_scene(emit(LIT)), marked_bad(emit)
    dark, _ = make_correction(dark=emit(DARK), bands=BANDS)
    flat, notes = make_correction(dark=emit(DARK), gain=emit("EMIT_FlatField_20220504"), bands=BANDS, unusable="bad")
    assert "2545 of 371200 elements in use have no usable dark or gain and are taken as bad" in notes
    striped, even = (roughness(correct_scene(raw, correction).cube, bad) for correction in (dark, flat))
    assert striped > 0.005
    assert even < 0.6 * striped


@pytest.mark.parametrize("mend", ["spectrum", "line"])
def test_the_bad_elements_of_emit_are_mended(emit: Callable[[str], Path], mend: str) -> None:
    raw, bad = read_scene(emit(LIT)), marked_bad(emit)
    options = {"dark": emit(DARK), "gain": emit("EMIT_FlatField_20220504"), "bands": BANDS, "unusable": "bad"}
    sample, band = np.nonzero(bad[LIGHT, 20:220])
    around = sample[:, None] + LIGHT.start + np.arange(-6, 7)

    def worst(correction: SensorCorrection) -> float:
        """How far nine of ten bad elements at most stand off the median of thirteen samples, in parts of it."""
        mean = correct_scene(raw, correction).cube.mean(axis=0)
        near = np.median(mean[around, band[:, None]], axis=1)
        return float(np.percentile(np.abs(mean[sample + LIGHT.start, band] / near - 1), 90))

    assert worst(make_correction(dark=emit(DARK), bands=BANDS)[0]) > 0.3
    assert worst(make_correction(**options, bad=emit("EMIT_BadElements_20220307"), mend=mend)[0]) < 0.01


def test_the_dark_of_emit_is_dark(emit: Callable[[str], Path]) -> None:
    # Row 0 is telemetry.
    correction, _ = make_correction(dark=emit(DARK), bad=emit("EMIT_BadElements_20220307"), bands=((1, 328),))
    scene = correct_scene(read_scene(emit(DARK)), correction)
    assert abs(np.median(scene.cube)) < 0.5
    assert np.percentile(np.abs(scene.cube), 99) < 10  # of 2000 counts


def test_a_flat_field_that_is_no_gain_everywhere_is_refused_with_the_count(emit: Callable[[str], Path]) -> None:
    with pytest.raises(
        InputError, match=r"gain is not above 0 in 14398 of 418560 elements in use \(first: sample 0, band"
    ):
        make_correction(
            dark=emit(DARK),
            gain=emit("EMIT_FlatField_20220504"),
            bad=emit("EMIT_BadElements_20220307"),
            bands=((1, 328),),
        )


def test_a_white_of_another_exposure_is_found_out(shared_data: Locate) -> None:
    files = {name: shared_data(f"sensor_calibrations/mvx_{name}Reference.hdr") for name in ("dark", "white")}
    with pytest.raises(InputError, match=r"white is not above dark in 29421 of 307020 elements in use .* --bands"):
        make_correction(**files)
    correction, _ = make_correction(**files, bands=((0, 200),), bin=4)  # 400 to 800 nm
    assert (correction.samples, correction.model_bands, correction.units) == (1020, 50, "reflectance")
    white = read_frames(files["white"]).cube[0]
    assert correction.dark is not None
    assert correction.gain is not None
    used = slice(0, 200)
    reflectance = (white[:, used] - correction.dark[:, used]) * correction.gain[:, used]
    np.testing.assert_allclose(reflectance, 1, rtol=1e-4)


@pytest.mark.parametrize(
    ("table", "size"),
    [
        ("aisafenix_Radiometric_8x2_1x1.hdr", (384, 363)),
        ("fenix1k_Radiometric_8x2_1x1.hdr", (1024, 334)),
        ("AVIRIS3_FlatField_20230709.hdr", (1280, 328)),
        ("hypso1_destriping_matrix_HYPSO-1_nominal_v1.npz:arr_0", (684, 120)),
    ],
)
def test_gains_of_flying_sensors_are_read_in_whatever_file_they_come(
    shared_data: Locate, table: str, size: tuple[int, int]
) -> None:
    shared_data("sensor_calibrations/" + table.partition(":")[0])
    correction, _ = make_correction(gain=shared_data("sensor_calibrations") / table)
    assert (correction.samples, correction.bands) == size
    assert correction.units == "radiance"
