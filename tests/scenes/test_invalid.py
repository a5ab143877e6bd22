from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hyperline.scenes import InvalidPixels, Scene, describe_invalid, invalid, valid_pixels


def test_a_clean_scene_has_nothing_to_describe() -> None:
    assert describe_invalid(Scene(name="a", cube=np.ones((3, 3, 3), np.float32), nodata=-1.0)) is None
    assert describe_invalid(Scene(name="a", cube=np.ones((3, 3, 3), np.int16))) is None


def test_the_first_bad_value_is_placed_and_pixels_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalid, "_BLOCK_VALUES", 1)  # one line at a time
    cube = np.ones((6, 4, 3), np.float32)
    cube[4, 1, 2] = np.nan
    cube[4, 3, :] = np.inf
    cube[5, 0, 0] = -np.inf
    cube[2, 2] = -999
    cube[3, 3, 0] = -999  # one band alone is a measurement
    found = describe_invalid(Scene(name="a", cube=cube, nodata=-999.0))
    assert found == InvalidPixels(not_finite=3, first=(4, 1, 2), nodata=1)
    assert str(found) == (
        "3 pixels hold NaN or infinite values (first at line 4, sample 1, band 2, counted from 0); "
        "1 pixels hold the no-data value"
    )


def test_nan_declared_as_nodata_is_no_fault() -> None:
    cube = np.ones((2, 2, 2))
    cube[0, 0] = np.nan
    cube[1, 1, 0] = np.nan
    found = describe_invalid(Scene(name="a", cube=cube, nodata=np.nan))
    assert found == InvalidPixels(not_finite=1, first=(1, 1, 0), nodata=1)


@settings(deadline=None)
@given(
    cube=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(2, 3)),
        elements=st.sampled_from([0.0, 1.0, -999.0, np.nan, np.inf]),
    ),
    nodata=st.sampled_from([None, -999.0, 0.0]),
)
def test_counts_add_up_to_the_pixels_called_invalid(cube: np.ndarray, nodata: float | None) -> None:
    found = describe_invalid(Scene(name="a", cube=cube, nodata=nodata))
    expected = int((~valid_pixels(cube, nodata)).sum())
    assert (found.not_finite + found.nodata if found else 0) == expected
