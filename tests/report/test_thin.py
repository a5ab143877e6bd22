"""Maps made small: never a class that was not there, never more memory than a piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.report import thin as module
from hyperline.report.strip import read_strip
from hyperline.report.thin import Layout, lay_out, thin


def squares(array: np.ndarray, layout: Layout) -> list[list[np.ndarray]]:
    return [
        [
            array[line : line + layout.line_step, sample : sample + layout.sample_step]
            for sample in range(0, layout.samples, layout.sample_step)
        ]
        for line in range(0, layout.lines, layout.line_step)
    ]


@given(st.integers(1, 200_000), st.integers(1, 4096), st.integers(1, 5))
def test_a_layout_holds_every_line_and_sample_and_few_pixels(lines: int, samples: int, maps: int) -> None:
    layout = lay_out(lines, samples, maps)
    assert layout.segments[0][0] == 0 and layout.segments[-1][1] == layout.rows
    assert all(one[1] == following[0] for one, following in zip(layout.segments, layout.segments[1:], strict=False))
    assert layout.rows * layout.line_step >= lines and layout.columns * layout.sample_step >= samples
    assert layout.rows * layout.columns <= 1.2 * (1 << 20)
    assert len(layout.segments) <= 13


def test_a_long_strip_lies_on_its_side_in_segments_and_a_scene_stands(strips) -> None:
    long, square = lay_out(100_000, 1024, 5), lay_out(145, 145, 5)
    assert long.sideways and 3 <= len(long.segments) <= 8
    assert long.line_step == long.sample_step > 1
    assert not square.sideways and square.line_step == square.sample_step == 1 and len(square.segments) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 17), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_a_square_gets_the_class_that_most_of_its_pixels_have(lines, samples, line_step, sample_step, seed) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (lines, samples)).astype(np.uint8)
    layout = Layout(lines, samples, line_step, sample_step, False, 1000)
    counts = module._count(labels, layout, 3, None, 0)
    small = module._majority(counts)
    among_labelled = module._majority(counts, among_labelled=True)
    for row, line_of_squares in enumerate(squares(labels, layout)):
        for column, square in enumerate(line_of_squares):
            occurs = np.bincount(square.ravel(), minlength=4)
            best = 1 + int(occurs[1:].argmax())  # of two that are level, the lower
            assert small[row, column] == (best if occurs[best] and occurs[best] >= occurs[0] else 0)
            assert among_labelled[row, column] == (best if occurs[best] else 0)
            assert small[row, column] in square
    assert counts.sum((0, 1)).tolist() == np.bincount(labels.ravel(), minlength=4).tolist()


def test_means_leave_out_pixels_without_a_class_or_a_measurement(strips) -> None:
    folder = strips.make(lines=4, samples=4)
    labels = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [2, 2, 2, 2], [2, 2, 2, 2]], np.uint8)
    strips.write_classes(folder, labels)
    confidence = np.array([[0.5, 9, 9, 9], [0.25, 0.75, 9, 9], [1, 1, 0, 0], [1, 1, 0, np.nan]], "<f4")
    strips.write_map(folder, "confidence", confidence[..., None])
    strips.write_map(folder, "uncertainty", np.full((4, 4, 1), 51, np.uint8))
    colours = np.full((4, 4, 3), 100, np.uint8)
    colours[0] = 0
    strips.write_map(folder, "quicklook", colours)
    small = thin(read_strip(folder), None, Layout(4, 4, 2, 2, False, 1000))
    assert small.classes.tolist() == [[1, 0], [2, 2]]
    assert small.confidence is not None and small.uncertainty is not None and small.composite is not None
    assert small.confidence.tolist() == [[1 + 127, 0], [255, 1]]
    assert small.uncertainty.tolist() == [[52, 0], [52, 52]]
    assert small.composite[..., 0].tolist() == [[67, 100], [100, 100]]
    assert small.pixels.tolist() == [5, 3, 8, 0]


def test_pieces_give_what_the_whole_gives(strips, monkeypatch) -> None:
    strip = read_strip(strips.make(lines=61, samples=23))
    truth = np.random.default_rng(3).integers(0, 4, (61, 23)).astype(np.uint8)
    layout = Layout(61, 23, 3, 2, True, 1000)
    whole = thin(strip, truth, layout)
    monkeypatch.setattr(module, "_CHUNK_PIXELS", 150)
    pieces = thin(strip, truth, layout)
    for name in ("classes", "truth", "confidence", "uncertainty", "composite", "pixels", "truth_pixels"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name), err_msg=name)


def test_a_class_that_the_header_does_not_know_is_refused_with_its_place(strips) -> None:
    folder = strips.make()
    labels = np.zeros((40, 24), np.uint8)
    labels[7, 5] = 9
    strips.write_classes(folder, labels)
    with pytest.raises(InputError, match=r"classes\.hdr: class 9 at line 7, sample 5"):
        thin(read_strip(folder), None, lay_out(40, 24, 3))
