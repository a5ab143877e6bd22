"""What became of the lines and blocks of a strip."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass
class Counters:
    """What became of the lines and blocks of a strip.

    received = classified + dropped + rejected, always, once nothing is on its way. `lost` lines were never received.

    Attributes:
        received: lines that the source handed over.
        classified: lines that went through the engine in a block.
        dropped: lines that the ring gave up, or that an interruption or a failure kept from the engine.
        rejected: lines of the wrong size, duplicates, lines out of order or damaged in memory.
        duplicates: of the rejected, those whose index was not above the last.
        damaged: of the rejected, those that changed while they waited.
        lost: lines missing between two received ones, or behind the last where the source knows the strip's end:
            dropped by the ring, or on the way to it.
        resets: gaps too long to fill; the strip's state began anew.
        missed: blocks above their deadline.
        failed: blocks that no engine could classify; their lines are dropped.
        invalid_pixels: pixels without a measurement in lines that were not rejected.
        dark: of the classified, lines seen with the shutter closed. They measure the detector's dark; in the map they
            are lines without a valid pixel.
        dark_updates, dark_refusals: darks measured in flight that are used, and that were not believed.
        saturated_pixels: pixels with a saturated element, where the correction gives a level; it says whether they are
            invalid.
        late_lines: lines taken over more than a whole block behind their due time.
        state_repaired, state_rolled_back: see `StateGuard`.
        weights_repaired: times that weights were damaged and put back; the block was classified again.
        self_tests: passed in flight.
        self_tests_failed: in flight.
        suspect: classified lines that may be wrong, because the next self-test failed.
        unknown_pixels: unlike anything trained on, where those are asked for.
    """

    received: int = 0
    classified: int = 0
    dropped: int = 0
    rejected: int = 0
    duplicates: int = 0
    damaged: int = 0
    lost: int = 0
    resets: int = 0
    missed: int = 0
    failed: int = 0
    invalid_pixels: int = 0
    saturated_pixels: int = 0
    dark: int = 0
    dark_updates: int = 0
    dark_refusals: int = 0
    late_lines: int = 0
    state_repaired: int = 0
    state_rolled_back: int = 0
    weights_repaired: int = 0
    self_tests: int = 0
    self_tests_failed: int = 0
    suspect: int = 0
    unknown_pixels: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Counters:
        """Return counters as `dataclasses.asdict` wrote them; unknown keys are left out."""
        return cls(**{one.name: int(values[one.name]) for one in fields(cls) if one.name in values})
