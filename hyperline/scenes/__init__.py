"""Scenes and the readers of their files."""

from hyperline.scenes.scene import Scene, valid_pixels

__all__ = ["Scene", "valid_pixels"]
