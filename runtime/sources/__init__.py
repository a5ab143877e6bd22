"""Where lines come from."""

from hyperline.runtime.sources.source import Line, Source

__all__ = ["Line", "Source"]
