"""What is known of a sensor's detector, and the files that say so."""

from hyperline.sensor.binning import bin_labels
from hyperline.sensor.correction import SensorCorrection
from hyperline.sensor.file import read_correction, write_correction
from hyperline.sensor.frames import make_correction, trimmed_mean
from hyperline.sensor.resampling import BandResampling, resample_bands, same_bands, select_bands

__all__ = [
    "BandResampling",
    "SensorCorrection",
    "bin_labels",
    "make_correction",
    "read_correction",
    "resample_bands",
    "same_bands",
    "select_bands",
    "trimmed_mean",
    "write_correction",
]
