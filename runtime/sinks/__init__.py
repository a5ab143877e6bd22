"""Where labels go."""

from hyperline.runtime.sinks.envi import EnviSink

__all__ = ["EnviSink"]
