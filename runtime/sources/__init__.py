"""Where lines come from."""

from hyperline.runtime.sources.source import WAVELENGTH_TOLERANCE_NM, Line, Source, require_match

__all__ = ["WAVELENGTH_TOLERANCE_NM", "Line", "Source", "require_match"]
