"""Scenes and the readers of their files."""

from hyperline.scenes.composite import composite_bands
from hyperline.scenes.invalid import InvalidPixels, describe_invalid
from hyperline.scenes.plots import Plots, merge_classes, read_plots
from hyperline.scenes.reader import read_envi_header, read_frames, read_georeference, read_scene, read_truth
from hyperline.scenes.scene import Scene, Strips, measured_labels, scene_hash, valid_pixels

__all__ = [
    "InvalidPixels",
    "Plots",
    "Scene",
    "Strips",
    "composite_bands",
    "describe_invalid",
    "measured_labels",
    "merge_classes",
    "read_envi_header",
    "read_frames",
    "read_georeference",
    "read_plots",
    "read_scene",
    "read_truth",
    "scene_hash",
    "valid_pixels",
]
