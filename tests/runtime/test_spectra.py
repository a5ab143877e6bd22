"""Mean spectrum and scatter of each class, of lines as the model saw them."""

import json

import numpy as np
import pytest

from hyperline.runtime.blocks import Block
from hyperline.runtime.spectra import ClassSpectra


def fly(tiny, blocks: list[tuple[np.ndarray, np.ndarray]], golden: np.ndarray) -> dict:
    spectra = ClassSpectra(tiny.card(), {"lines": golden, "valid": np.ones(golden.shape[:2], bool)}, 8)
    for lines, labels in blocks:
        spectra.see(Block(lines, labels > 0, len(lines)), labels)
    found = spectra.as_dict()
    json.dumps(found, allow_nan=False)
    return found


def test_they_are_those_of_one_line_of_every_block_in_turn(tiny) -> None:
    generator = np.random.default_rng(0)
    # Far from zero and close together: squares alone would leave no digit of the scatter.
    blocks = [
        (generator.normal(50_000, 3, (4, 8, 5)).astype(np.float32), generator.integers(0, 4, (4, 8)).astype(np.uint8))
        for _ in range(10)
    ]
    found = fly(tiny, blocks, np.full((4, 8, 5), 49_990.0, np.float32))
    lines = np.stack([lines[number % 4] for number, (lines, _) in enumerate(blocks)])
    labels = np.stack([labels[number % 4] for number, (_, labels) in enumerate(blocks)])
    assert found["wavelengths_nm"] == [450, 550, 650, 750, 850] and found["units"] is None
    assert [one["id"] for one in found["classes"]] == [1, 2, 3]  # of class 4 there is no pixel
    for one in found["classes"]:
        pixels = lines[labels == one["id"]].astype(np.float64)
        assert one["pixels"] == len(pixels)
        assert one["name"] == tiny.card().class_names[one["id"] - 1]
        np.testing.assert_allclose(one["mean"], pixels.mean(axis=0), rtol=1e-7)
        np.testing.assert_allclose(one["std"], pixels.std(axis=0), rtol=1e-3)


def test_of_wide_lines_every_few_blocks_give_one(tiny) -> None:
    card = tiny.card().model_copy(update={"bands": 224, "wavelengths_nm": None})
    golden = {"lines": np.zeros((4, 8, 224), np.float32), "valid": np.ones((4, 8), bool)}
    spectra = ClassSpectra(card, golden, 1024)
    block = Block(np.ones((4, 1024, 224), np.float32), np.ones((4, 1024), bool), 4)
    for _ in range(57):
        spectra.see(block, np.full((4, 1024), 2, np.uint8))
    (one,) = spectra.as_dict()["classes"]
    assert one["pixels"] == 3 * 1024
    assert one["mean"] == pytest.approx([1.0] * 224) and one["std"] == pytest.approx([0.0] * 224)


def test_a_partial_block_gives_a_line_that_it_has(tiny) -> None:
    labels = np.array([[1] * 8, [2] * 8, [0] * 8, [0] * 8], np.uint8)
    block = Block(np.ones((4, 8, 5), np.float32), labels > 0, 2)
    spectra = ClassSpectra(tiny.card(), tiny.golden(), 8)
    for _ in range(4):
        spectra.see(block, labels)
    assert [(one["id"], one["pixels"]) for one in spectra.as_dict()["classes"]] == [(1, 16), (2, 16)]
