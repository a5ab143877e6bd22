"""Where labels go."""

from hyperline.runtime.sinks.envi import EnviSink
from hyperline.runtime.sinks.geotiff import classes_geotiff
from hyperline.runtime.sinks.images import FILES, ImageForm, map_forms, run_forms

__all__ = ["FILES", "EnviSink", "ImageForm", "classes_geotiff", "map_forms", "run_forms"]
