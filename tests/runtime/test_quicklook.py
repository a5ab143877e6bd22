"""The quicklook: three bands, stretched as the golden block says, whatever the strip."""

import numpy as np
import pytest

from hyperline.plugins.native import OPS_LIBRARY, find_library
from hyperline.runtime import quicklook
from hyperline.runtime.blocks import Block
from hyperline.runtime.quicklook import Quicklook


@pytest.fixture(params=["native", "numpy"], autouse=True)
def way(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(quicklook, "installed_library", lambda: None)
    elif find_library(OPS_LIBRARY) is None:
        pytest.skip(f"{OPS_LIBRARY} is not installed")


def test_its_bands_are_the_cards_and_its_stretch_is_that_of_the_golden_block(tiny) -> None:
    generator = np.random.default_rng(0)
    lines, valid = generator.normal(50_000, 3000, (4, 8, 5)).astype(np.float32), generator.random((4, 8)) < 0.8
    golden = {"lines": lines.copy(), "valid": valid}
    golden["lines"][~valid] = np.nan
    block = generator.normal(50_000, 5000, (4, 16, 5)).astype(np.float32)
    seen = generator.random((4, 16)) < 0.7
    block[~seen] = 0
    colours = Quicklook(tiny.card(), golden, 16).of(Block(block, seen, 4))
    for colour, band in enumerate((2, 1, 0)):
        black, white = np.percentile(lines[valid][:, band], (2, 98))
        expected = np.clip(52 + (204 - 52) * (block[..., band] - black) / (white - black), 1, 255) * seen
        assert np.abs(colours[..., colour] - expected).max() <= 0.51
    assert not colours[~seen].any()
    assert colours[seen].min() == 1  # as dark as can be, and not as what was not measured
    assert colours.max() == 255


def test_a_band_that_is_one_number_in_the_golden_block_is_no_division_by_zero(tiny) -> None:
    golden = {"lines": np.full((4, 8, 5), 7.0, np.float32), "valid": np.ones((4, 8), bool)}
    block = np.stack([np.full((4, 8), value, np.float32) for value in (6, 7, 8, 7, 7)], axis=-1)
    colours = Quicklook(tiny.card(), golden, 8).of(Block(block, np.ones((4, 8), bool), 4))
    assert np.unique(colours.reshape(-1, 3), axis=0).tolist() == [[204, 52, 1]]
