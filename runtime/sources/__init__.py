"""Where lines come from."""

from hyperline.runtime.sources.open import open_source
from hyperline.runtime.sources.source import Line, Source

__all__ = ["Line", "Source", "open_source"]
