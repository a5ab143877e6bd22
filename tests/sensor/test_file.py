"""A radiometry file gives back what was written, and anything else is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.sensor import SensorCorrection, read_correction, write_correction
from hyperline.sensor.correction import DARK_DRIFT


@pytest.fixture
def correction() -> SensorCorrection:
    table = np.random.default_rng(0).uniform(1, 2, (6, 10)).astype(np.float32)
    return SensorCorrection(
        6,
        10,
        units="reflectance",
        dark=table,
        dark_noise=table / 2,
        dark_drift=7.5,
        gain=table * 2,
        bad=table > 1.9,
        mend="line",
        saturation=4095.0,
        on_saturation="count",
        ranges=((0, 4), (6, 10)),
        bin=2,
        bin_samples=3,
        wavelengths_nm=np.arange(10) + 400.5,
        provenance={"dark": {"file": "dark.hdr", "lines": 100, "sha256": "00"}},
    )


def test_what_is_written_is_read_again(correction: SensorCorrection, tmp_path: Path) -> None:
    path = tmp_path / "sensor.npz"
    write_correction(path, correction)
    again = read_correction(path)
    for name, value in vars(correction).items():
        np.testing.assert_equal(getattr(again, name), value, err_msg=name)
    write_correction(path, SensorCorrection(2, 3, saturation=100.0))
    again = read_correction(path)
    assert (again.dark, again.gain, again.bad, again.wavelengths_nm) == (None, None, None, None)


def rewrite(path: Path, changes: dict[str, object]) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    settings = json.loads(str(arrays["settings"])) | changes.pop("settings", {})
    np.savez(path, **(arrays | {"settings": np.array(json.dumps(settings))} | changes))


def test_a_file_of_the_first_format_bins_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "sensor.npz"
    write_correction(path, SensorCorrection(6, 4, saturation=100.0))
    with np.load(path) as archive:
        settings = json.loads(str(archive["settings"]))
    settings["format"] = 1
    del settings["bin_samples"], settings["dark_drift"]
    np.savez(path, settings=np.array(json.dumps(settings)))
    again = read_correction(path)
    assert (again.samples, again.bin_samples, again.saturation) == (6, 1, 100.0)
    assert (again.dark_noise, again.dark_drift) == (None, DARK_DRIFT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"format": 3}}, r"has format 3, this version reads 1 to 2; make it again with"),
        ({"settings": {"bin": 3}}, r"sensor.npz: bands 0:4 are 4, no multiple of the bin of 3"),
        ({"settings": {"bin_samples": 4}}, r"sensor.npz: 6 samples are no multiple of the bin of 4; take a bin of 3"),
        ({"settings": {"samples": "six"}}, r"sensor.npz: its setting samples: Input should be a valid integer"),
        ({"settings": {"samples": 6.0}}, r"sensor.npz: its setting samples: Input should be a valid integer"),
        ({"settings": {"samples": 65537}}, r"sensor.npz: its setting samples: Input should be less than"),
        ({"settings": {"bin": True}}, r"sensor.npz: its setting bin: Input should be a valid integer"),
        ({"settings": {"ranges": 5}}, r"sensor.npz: its setting ranges: Input should be a valid list"),
        ({"settings": {"ranges": [[0, 4, 5]]}}, r"sensor.npz: its setting ranges.0: List should have at most 2 items"),
        ({"settings": {"provenance": "mine"}}, r"sensor.npz: its setting provenance: Input should be a valid dict"),
        ({"settings": {"units": "x" * 1000}}, r"sensor.npz: its setting units: Input should be 'reflectance'"),
        ({"dark": np.zeros((6, 10))}, r"dark holds float64; it must hold float32"),
        ({"dark_noise": np.zeros((6, 10), np.float32)}, r"sensor.npz: the dark's noise is not between 0 and"),
        ({"settings": {"dark_drift": 0}}, r"sensor.npz: the dark may drift by 0 times its noise"),
        ({"gain": np.zeros((6, 10), np.float32)}, r"sensor.npz: the gain is not between 0 and"),
        ({"bad": np.zeros((6, 9), bool)}, r"sensor.npz: the bad-element map is 6 × 9"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    correction: SensorCorrection, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = tmp_path / "sensor.npz"
    write_correction(path, correction)
    rewrite(path, changes)
    with pytest.raises(InputError, match=message):
        read_correction(path)


def test_other_files_are_refused(correction: SensorCorrection, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.npz: cannot be read as a radiometry file"):
        read_correction(tmp_path / "nowhere.npz")
    np.savez(tmp_path / "scene.npz", cube=np.zeros((2, 3, 4)))
    with pytest.raises(InputError, match=r"scene.npz is no radiometry file; make one with: hyperline radiometry make"):
        read_correction(tmp_path / "scene.npz")
    np.save(tmp_path / "table.npy", np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"table.npy is no radiometry file"):
        read_correction(tmp_path / "table.npy")
    with pytest.raises(InputError, match=r"sensor.txt: a radiometry file is an .npz"):
        write_correction(tmp_path / "sensor.txt", correction)
