"""hyperline: classify the scan lines of a push-broom hyperspectral sensor as they arrive.

Array order is (line, sample, band) everywhere: a line is one along-track row, a sample one cross-track
pixel. A block is a fixed number of consecutive lines, a strip one flight line, a scene a labelled cube.
"""

from importlib.metadata import version

__version__ = version("hyperline")
