"""hyperline: classify the scan lines of a push-broom hyperspectral sensor as they arrive.

Array order is (line, sample, band) everywhere: a line is one along-track row, a sample one cross-track
pixel. A block is a fixed number of consecutive lines, a strip one flight line, a scene a labelled cube.

    import hyperline

    classifier = hyperline.open_bundle("field.hlb")
    with classifier.stream(samples=1024) as stream:
        for line in sensor:                      # (sample, band)
            block = stream.feed(line)            # None until a block of lines is whole
            if block is not None:
                act_on(block.labels, block.confidence)
        last = stream.finish()

What stands in ``__all__`` is the public interface, under semantic versions (``docs/reference/versions.md``). It loads
when it is first used, so that importing hyperline costs nothing and needs no extra.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperline.api import (
        Calibrated,
        ClassifiedBlock,
        Classifier,
        ClassMap,
        HyperlineError,
        InputError,
        Scene,
        Stream,
        Verification,
        calibrate_bundle,
        export_run,
        open_bundle,
        read_scene,
        sign_bundle,
        train_scene,
        verify_bundle,
    )

__version__ = version("hyperline")
__all__ = [
    "Calibrated",
    "ClassMap",
    "ClassifiedBlock",
    "Classifier",
    "HyperlineError",
    "InputError",
    "Scene",
    "Stream",
    "Verification",
    "calibrate_bundle",
    "export_run",
    "open_bundle",
    "read_scene",
    "sign_bundle",
    "train_scene",
    "verify_bundle",
]


def __getattr__(name: str) -> Any:
    """Load the public interface with the first name that is asked of it."""
    if name not in __all__:
        raise AttributeError(f"module 'hyperline' has no attribute {name!r}")
    value = getattr(importlib.import_module("hyperline.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
