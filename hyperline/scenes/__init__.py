"""Scenes and the readers of their files."""

from hyperline.scenes.composite import composite_bands
from hyperline.scenes.invalid import InvalidPixels, describe_invalid
from hyperline.scenes.reader import read_frames, read_scene, read_truth
from hyperline.scenes.scene import Scene, scene_hash, valid_pixels

__all__ = [
    "InvalidPixels",
    "Scene",
    "composite_bands",
    "describe_invalid",
    "read_frames",
    "read_scene",
    "read_truth",
    "scene_hash",
    "valid_pixels",
]
