"""Labels drawn as shapes in a map, and how they come onto the pixels of a scene."""

from hyperline.shapes.file import write_labels
from hyperline.shapes.raster import ShapeLabels, rasterise
from hyperline.shapes.reader import read_shapes
from hyperline.shapes.shape import Shape, Shapes

__all__ = ["Shape", "ShapeLabels", "Shapes", "rasterise", "read_shapes", "write_labels"]
