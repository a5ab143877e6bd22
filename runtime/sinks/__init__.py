"""Where labels go."""

from hyperline.runtime.sinks.envi import EnviSink
from hyperline.runtime.sinks.geotiff import classes_geotiff

__all__ = ["EnviSink", "classes_geotiff"]
