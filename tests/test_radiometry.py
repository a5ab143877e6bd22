"""Radiometry: units of the training scene, nothing non-finite past this point, and raw lines corrected."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.radiometry import NODATA, Radiometry, correct_scene, fit_scene
from hyperline.scenes import InvalidPixels, Scene, describe_invalid, valid_pixels
from hyperline.sensor import SensorCorrection, bin_labels, resample_bands, select_bands
from hyperline.sensor.correction import DARK_LINES

DTYPES = ("u1", "<u2", ">u2", "<i4", "<f4", ">f4", "<f8")


def convert(values: np.ndarray, **options: float | None) -> tuple[np.ndarray, np.ndarray]:
    line = np.full(values.shape, np.nan, np.float32)
    valid = np.zeros(values.shape[0], bool)
    Radiometry(*values.shape, **options).convert(values, line, valid)
    return line, valid


@given(st.sampled_from(DTYPES), st.integers(0, 2**32), st.sampled_from([None, 0.0, 7.0, -9999.0, float("nan")]))
def test_validity_is_the_one_that_training_uses(dtype: str, seed: int, nodata: float | None) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 100, (9, 4)).astype(dtype)
    values[generator.random(9) < 0.3] = 7
    if values.dtype.kind == "f":
        values[generator.random((9, 4)) < 0.1] = generator.choice([np.nan, np.inf, -np.inf])
    line, valid = convert(values, nodata=nodata)
    np.testing.assert_array_equal(valid, valid_pixels(values, nodata))
    np.testing.assert_array_equal(line[valid], values[valid].astype(np.float32))
    assert not line[~valid].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_source_in_other_units_is_converted_to_those_of_the_training_scene(dtype: str) -> None:
    values = np.array([[100, 200], [0, 50]], dtype)  # percent
    line, valid = convert(values, scale=0.01, model_scale=0.0001)
    np.testing.assert_allclose(line, values.astype(float) * 100, rtol=1e-6)
    assert valid.all()


def test_equal_scales_written_differently_change_no_bit() -> None:
    values = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    line, _ = convert(values, scale=1 / 10000, model_scale=1.0e-4 * (1 + 1e-9))
    np.testing.assert_array_equal(line, values)


def test_no_data_is_looked_for_in_stored_values_not_in_converted_ones() -> None:
    _, valid = convert(np.array([[2, 2], [4, 4]], np.uint16), scale=2.0, nodata=4.0)
    assert valid.tolist() == [True, False]


@pytest.mark.filterwarnings("error")
def test_a_value_that_overflows_float32_makes_its_pixel_invalid_without_a_warning() -> None:
    line, valid = convert(np.array([[1e300, 1.0], [1.0, 2.0]]))
    assert valid.tolist() == [False, True]
    assert np.isfinite(line).all()


def reference(
    values: np.ndarray, correction: SensorCorrection, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One line element by element, in float64: converted values, and the samples that measure, and are saturated."""
    used = correction.used.tolist()
    bad = np.zeros((correction.samples, correction.bands), bool) if correction.bad is None else correction.bad
    dark = 0.0 if correction.dark is None else correction.dark.astype(float)
    gain = 1.0 if correction.gain is None else correction.gain.astype(float)
    line = (values.astype(float) - dark) * gain / scale
    mended = line.copy()
    for sample, band in np.argwhere(bad):
        if band not in used:
            continue
        spectrum = correction.mend == "spectrum"
        at, near = (band, used) if spectrum else (sample, range(correction.samples))
        good = [place for place in near if not (bad[sample, place] if spectrum else bad[place, band])]
        if good:
            mended[sample, band] = np.interp(at, good, [line[sample, p] if spectrum else line[p, band] for p in good])
    level = np.inf if correction.saturation is None else correction.saturation
    saturated = ((values >= level) & ~bad)[:, used].any(axis=1)
    wide = mended[:, used].reshape(correction.samples, -1, correction.bin).mean(axis=2)
    good = np.isfinite(wide).all(axis=1)
    if correction.mend == "spectrum":
        good &= ~bad[:, used].all(axis=1)
    bins = [slice(start, start + correction.bin_samples) for start in range(0, len(good), correction.bin_samples)]
    binned = [wide[bin][good[bin]].mean(axis=0) if good[bin].any() else np.zeros(wide.shape[1]) for bin in bins]
    return np.array(binned), np.array([good[bin].any() for bin in bins]), np.array([saturated[b].any() for b in bins])


@st.composite
def corrections(draw: st.DrawFn) -> SensorCorrection:
    bin_samples = draw(st.integers(1, 3))
    samples, bands = bin_samples * draw(st.integers(1, 7)), draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    bin = draw(st.integers(1, 4))
    edges = sorted(draw(st.sets(st.integers(0, bands), min_size=2, max_size=4)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    ranges = tuple((start, stop - (stop - start) % bin) for start, stop in pairs if stop - start >= bin)
    if not ranges:
        ranges, bin = (), 1
    bad = generator.random((samples, bands)) < draw(st.sampled_from([0.0, 0.2, 0.7]))
    mend = draw(st.sampled_from(["spectrum", "line"]))
    bad[generator.integers(samples)] = False  # one sample whole: every band can be mended along the line
    dark = generator.uniform(0, 50, (samples, bands)).astype(np.float32)
    gain = generator.uniform(0.5, 2, (samples, bands)).astype(np.float32)
    dark[bad] = gain[bad] = np.nan
    return SensorCorrection(
        samples,
        bands,
        dark=dark if draw(st.booleans()) else None,
        gain=gain if draw(st.booleans()) else None,
        bad=bad if draw(st.booleans()) or not np.isfinite(dark).all() else None,
        mend=mend,
        saturation=draw(st.sampled_from([None, 950.0])),
        on_saturation=draw(st.sampled_from(["invalid", "count"])),
        ranges=ranges,
        bin=bin,
        bin_samples=bin_samples,
    )


@given(corrections(), st.sampled_from(["<u2", ">u2", "<f4"]), st.booleans(), st.sampled_from([1.0, 1e-4]))
def test_a_correction_is_what_its_formula_says(
    correction: SensorCorrection, dtype: str, by_band: bool, model_scale: float
) -> None:
    size = (correction.samples, correction.bands)
    generator = np.random.default_rng(1)
    values = generator.integers(0, 1000, size).astype(dtype)
    if values.dtype.kind == "f":
        values[generator.random(size) < 0.05] = np.nan
    if by_band:
        values = np.asfortranarray(values)
    radiometry = Radiometry(*size, model_scale=model_scale, correction=correction)
    line = np.full((correction.model_samples, correction.model_bands), np.nan, np.float32)
    valid = np.zeros(correction.model_samples, bool)
    for times in (1, 2):  # whatever a line leaves behind must not reach the next
        radiometry.convert(values, line, valid)
        expected, good, saturated = reference(values, correction, model_scale)
        np.testing.assert_array_equal(valid, good & ~(saturated & (correction.on_saturation == "invalid")))
        assert radiometry.saturated_pixels == times * saturated.sum()
        np.testing.assert_allclose(line[valid], expected[valid], rtol=1e-5, atol=1e-3 / model_scale)
        assert not line[~valid].any()


@pytest.mark.parametrize("bin_samples", [1, 2])
def test_a_line_allocates_nothing(bin_samples: int) -> None:
    samples, bands = 1024, 224
    generator = np.random.default_rng(0)
    table = generator.uniform(1, 2, (samples, bands)).astype(np.float32)
    bad = generator.random((samples, bands)) < 0.01
    parts = {
        "dark": table,
        "dark_noise": table,
        "gain": table,
        "bad": bad,
        "saturation": 4095.0,
        "bin": 2,
        "bin_samples": bin_samples,
    }
    radiometry = Radiometry(samples, bands, nodata=0, correction=SensorCorrection(samples, bands, **parts))
    values = generator.integers(1, 4000, (samples, bands)).astype(np.uint16)
    line, valid = np.empty((radiometry.samples, bands // 2), np.float32), np.empty(radiometry.samples, bool)
    radiometry.convert(values, line, valid)
    radiometry.update_dark(values)
    tracemalloc.start()
    try:
        for _ in range(3):
            radiometry.convert(values, line, valid)
            radiometry.update_dark(values)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < samples * bands / 2  # NumPy casts through a buffer of its own; the smallest scratch is twice this


def test_a_binned_pixel_is_the_mean_of_its_samples_that_measure() -> None:
    values = np.array([[1, 2], [3, 4], [7, 7], [5, 8], [7, 7], [7, 7], [1, np.nan], [2, 3]], np.float32)
    radiometry = Radiometry(8, 2, nodata=7.0, correction=SensorCorrection(8, 2, bin_samples=2))
    assert (radiometry.samples, radiometry.raw_samples) == (4, 8)
    line, valid = np.empty((4, 2), np.float32), np.empty(4, bool)
    radiometry.convert(values, line, valid)
    assert line.tolist() == [[2, 3], [5, 8], [0, 0], [2, 3]]
    assert valid.tolist() == [True, True, False, True]


@pytest.mark.filterwarnings("error")
def test_the_mean_of_the_samples_that_are_left_is_finite_or_its_pixel_is_invalid() -> None:
    values = np.array([[3.0e38, 1.0], [np.nan, 1.0], [3.0e38, 1.0], [3.0e38, 1.0]], np.float32)
    gain = np.full((4, 2), 1.5, np.float32)
    radiometry = Radiometry(4, 2, correction=SensorCorrection(4, 2, gain=gain, bin_samples=2))
    line, valid = np.empty((2, 2), np.float32), np.empty(2, bool)
    radiometry.convert(values, line, valid)
    assert not valid.any()
    assert not line.any()


def test_one_saturated_sample_marks_its_binned_pixel_once() -> None:
    values = np.array([[4095, 1], [1, 4095], [1, 1], [1, 1]], np.uint16)
    line, valid = np.empty((2, 2), np.float32), np.empty(2, bool)
    for on_saturation, expected in (("invalid", [False, True]), ("count", [True, True])):
        correction = SensorCorrection(4, 2, saturation=4095, on_saturation=on_saturation, bin_samples=2)
        radiometry = Radiometry(4, 2, correction=correction)
        radiometry.convert(values, line, valid)
        assert valid.tolist() == expected
        assert radiometry.saturated_pixels == 1


def test_a_sample_without_data_saturates_nothing_however_high_its_value() -> None:
    values = np.array([[9999, 9999], [1, 2]], np.uint16)
    radiometry = Radiometry(2, 2, nodata=9999, correction=SensorCorrection(2, 2, saturation=4095, bin_samples=2))
    line, valid = np.empty((1, 2), np.float32), np.empty(1, bool)
    radiometry.convert(values, line, valid)
    assert (line.tolist(), valid.tolist(), radiometry.saturated_pixels) == ([[1, 2]], [True], 0)


@given(st.integers(1, 4), st.integers(0, 2**32))
def test_labels_of_binned_samples_are_those_that_nobody_contradicts(bin: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (3, 5 * bin)).astype(np.uint8)
    labels[labels == 3] = 255
    binned = bin_labels(labels, bin)
    assert binned.dtype == np.uint8
    for line, sample in np.ndindex(3, 5):
        classes = set(labels[line, sample * bin : (sample + 1) * bin].tolist()) - {0}
        assert binned[line, sample] == (classes.pop() if len(classes) == 1 else 0)
    np.testing.assert_array_equal(bin_labels(np.repeat(binned, bin, axis=1), bin), binned)


def dark_lines(count: int, level: float, samples: int = 3, bands: int = 4) -> np.ndarray:
    return np.random.default_rng(int(level)).normal(level, 2, (count, samples, bands)).round().astype(np.uint16)


def flat_sensor(**options: object) -> Radiometry:
    table = np.full((3, 4), 100, np.float32)
    return Radiometry(3, 4, correction=SensorCorrection(3, 4, dark=table, **options))


def converted(radiometry: Radiometry, level: int) -> np.ndarray:
    line, valid = np.empty((3, 4), np.float32), np.empty(3, bool)
    radiometry.convert(np.full((3, 4), level, np.uint16), line, valid)
    return line


def test_the_mean_of_dark_lines_replaces_the_dark_between_two_lines() -> None:
    radiometry = flat_sensor()
    lines = dark_lines(DARK_LINES + 5, 120)
    for line in lines[:DARK_LINES]:
        radiometry.update_dark(line)
    radiometry.update_dark(lines[DARK_LINES:])
    assert radiometry.dark_updates == 0
    np.testing.assert_allclose(converted(radiometry, 500), 500 - lines.mean(axis=0), rtol=1e-5)
    assert radiometry.dark_updates == 1
    # The next closing of the shutter begins anew: the detector has warmed up.
    later = dark_lines(DARK_LINES, 180)
    radiometry.update_dark(later)
    np.testing.assert_allclose(converted(radiometry, 500), 500 - later.mean(axis=0), rtol=1e-5)
    assert radiometry.dark_updates == 2


def test_a_dark_that_cannot_be_one_is_refused_and_the_one_before_stays(caplog: pytest.LogCaptureFixture) -> None:
    radiometry = flat_sensor(dark_noise=np.full((3, 4), 2, np.float32), saturation=4095)
    good = dark_lines(DARK_LINES, 120)
    refused = {
        "it has 15 lines": good[:-1],
        "the shutter did not close: 12 of 12 elements": dark_lines(DARK_LINES, 900),
        "12 of 12 elements are over 20 times their noise away": dark_lines(DARK_LINES, 180),
        "12 of 12 elements have over 3 times the noise": 8 * (good.astype(int) - 120) + 120,
    }
    np.testing.assert_array_equal(converted(radiometry, 500), 400)
    for count, (fault, lines) in enumerate(refused.items(), start=1):
        caplog.clear()
        radiometry.update_dark(lines)
        np.testing.assert_array_equal(converted(radiometry, 500), 400)
        assert (radiometry.dark_refusals, radiometry.dark_updates) == (count, 0)
        (message,) = caplog.messages
        assert message.startswith(f"a dark measured in flight is not used, the one before stays: {fault}")
    radiometry.update_dark(good)  # of the next closing, which has nothing of those before it
    np.testing.assert_allclose(converted(radiometry, 500), 500 - good.mean(axis=0), rtol=1e-5)
    assert (radiometry.dark_refusals, radiometry.dark_updates) == (4, 1)
    converted(radiometry, 500)
    assert (radiometry.dark_refusals, radiometry.dark_updates) == (4, 1)


def test_a_dark_line_with_nan_is_left_out() -> None:
    radiometry = flat_sensor()
    lines = dark_lines(DARK_LINES, 120).astype(np.float32)
    broken = lines[0].copy()
    broken[1, 2] = np.nan
    radiometry.update_dark(broken)
    radiometry.update_dark(lines)
    np.testing.assert_allclose(converted(radiometry, 500), 500 - lines.mean(axis=0), rtol=1e-5)


def test_bad_elements_do_not_disturb_a_dark_measured_in_flight() -> None:
    bad = np.zeros((3, 4), bool)
    bad[1, 2] = True
    radiometry = flat_sensor(bad=bad)
    lines = dark_lines(DARK_LINES, 120).astype(np.float32)
    lines[:, 1, 2] = np.nan
    radiometry.update_dark(lines)
    line = converted(radiometry, 500)
    assert radiometry.dark_updates == 1
    np.testing.assert_allclose(line[1, 2], (line[1, 1] + line[1, 3]) / 2, rtol=1e-6)


def test_dark_lines_that_fit_nothing_are_refused_with_their_size() -> None:
    with pytest.raises(InputError, match="dark lines of 4 × 3 values; the radiometry is for 3 samples × 4 bands"):
        flat_sensor().update_dark(np.zeros((4, 3), np.uint16))
    with pytest.raises(InputError, match="no dark that dark lines could replace; make it with --dark"):
        Radiometry(3, 4).update_dark(np.zeros((3, 4), np.uint16))


def test_a_scene_is_corrected_as_the_flight_corrects_it_and_keeps_its_labels() -> None:
    generator = np.random.default_rng(0)
    cube = generator.integers(100, 1000, (6, 3, 4)).astype(np.uint16)
    cube[2, 1, 3] = 4095
    labels = generator.integers(0, 3, (6, 3)).astype(np.uint8)
    correction = SensorCorrection(
        3,
        4,
        dark=np.full((3, 4), 10, np.float32),
        saturation=4095,
        bin=2,
        wavelengths_nm=np.array([500.0, 502, 504, 506]),
    )
    scene = correct_scene(Scene("strip", cube, labels), correction)
    expected = (cube.astype(float) - 10).reshape(6, 3, 2, 2).mean(axis=3)
    usable = valid_pixels(scene.cube, scene.nodata)
    assert not usable[2, 1]
    assert usable.sum() == 17
    np.testing.assert_allclose(scene.cube[usable], expected[usable], rtol=1e-6)
    assert (scene.units, scene.scale, scene.nodata) == ("counts", 1.0, NODATA)
    assert scene.wavelengths_nm is not None
    assert scene.wavelengths_nm.tolist() == [501, 505]
    assert scene.labels is labels
    assert "1 pixels are saturated" in scene.notes
    assert describe_invalid(scene) == InvalidPixels(not_finite=0, first=None, nodata=1)


def test_a_scene_without_one_usable_pixel_is_refused_with_the_count() -> None:
    with pytest.raises(InputError, match="none of its 6 pixels carries a measurement, 6 are saturated"):
        correct_scene(Scene("strip", np.full((2, 3, 4), 5000)), SensorCorrection(3, 4, saturation=4095))


def test_a_selection_of_bands_looks_at_those_alone() -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    values[1, 2] = np.nan  # left out
    values[2, 4] = np.nan
    line, valid = np.empty((4, 4), np.float32), np.empty(4, bool)
    Radiometry(4, 6, resampling=select_bands(6, ((0, 2), (3, 5)))).convert(values, line, valid)
    assert valid.tolist() == [True, True, False, True]
    np.testing.assert_array_equal(line[valid], values[valid][:, [0, 1, 3, 4]])


def test_bands_are_resampled_after_all_else(tmp_path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(100, 4000, (5, 8)).astype(np.uint16)
    dark = rng.integers(0, 50, (5, 8)).astype(np.float32)
    gain = rng.uniform(0.5, 2, (5, 8)).astype(np.float32)
    correction = SensorCorrection(5, 8, dark=dark, gain=gain, ranges=((1, 7),), bin=2)
    resampling = resample_bands("strip", np.array([400.0, 410.0, 420.0]), "m", np.array([403.0, 413.0]))
    line, valid = np.empty((5, 2), np.float32), np.empty(5, bool)
    Radiometry(5, 8, correction=correction, resampling=resampling).convert(values, line, valid)
    binned = ((values - dark) * gain)[:, 1:7].reshape(5, 3, 2).mean(axis=2)
    np.testing.assert_allclose(line, binned @ resampling.matrix, rtol=1e-5)
    np.testing.assert_allclose(line[:, 0], 0.7 * binned[:, 0] + 0.3 * binned[:, 1], rtol=1e-5)
    assert valid.all()


def test_a_scene_is_fitted_as_the_flight_sees_it() -> None:
    rng = np.random.default_rng(0)
    cube = rng.uniform(1, 9, (6, 4, 5)).astype(np.float32)
    cube[2, 1, 3] = np.nan
    centres = 400 + 10.0 * np.arange(5)
    scene = Scene("strip", cube, wavelengths_nm=centres, scale=0.5)
    fitted = fit_scene(scene, resample_bands("strip", centres, "m", centres[:4] + 4))
    np.testing.assert_allclose(fitted.wavelengths_nm, centres[:4] + 4)
    assert fitted.scale == 0.5
    assert describe_invalid(fitted) == InvalidPixels(0, None, 1)
    np.testing.assert_allclose(fitted.cube[0], 0.6 * cube[0][:, :4] + 0.4 * cube[0][:, 1:], rtol=1e-5)
    dropped = fit_scene(scene, resample_bands("strip", centres, "m", centres[[0, 1, 4]]))
    np.testing.assert_array_equal(dropped.cube, cube[..., [0, 1, 4]])
    assert dropped.wavelengths_nm.tolist() == [400, 410, 440]
    assert fit_scene(scene, None) is scene
