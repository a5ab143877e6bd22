"""A model small enough to know by heart, and its twin in NumPy.

Logits are a weighted sum over all valid lines of the sample's column so far, so they depend on the carried
state; class 1 also gets the number of valid pixels of all earlier blocks, so they depend on the second state,
whose samples come at half the rate and on another axis. Small whole numbers throughout: float32 is exact.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hyperline.bundle import Bundle, Card, StateTensor, encode_golden, write_bundle
from hyperline.scenes import Scene, valid_pixels

BANDS = 5
CLASSES = 4
MULTIPLE = 8
SCALES, EXPERTS = 3, 4


def weights() -> np.ndarray:
    return np.random.default_rng(7).integers(-3, 4, (BANDS, CLASSES)).astype(np.float32)


def gates() -> np.ndarray:
    """What the experts weigh for each valid pixel of a block, (scale, expert)."""
    return np.arange(SCALES * EXPERTS, dtype=np.float32).reshape(SCALES, EXPERTS) % 5


def tiny_model(block_lines: int, early: bool = False) -> bytes:
    """Write the model; an early one says nothing of uncertainty and experts."""

    def floats(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def constant(name: str, value: np.ndarray) -> onnx.TensorProto:
        return numpy_helper.from_array(value, name)

    node = helper.make_node
    one_hot = np.eye(CLASSES, dtype=np.float32)[0]
    nodes = [
        node("Cast", ["valid"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "last"], ["mask_band"]),
        node("Mul", ["lines", "mask_band"], ["masked"]),
        node("CumSum", ["masked", "zero"], ["summed"]),
        node("Add", ["summed", "total"], ["running"]),
        node("MatMul", ["running", "weights"], ["scores"]),
        node("ReduceSum", ["half"], ["seen"], keepdims=0),
        node("Mul", ["seen", "first_class"], ["bonus"]),
        node("Add", ["scores", "bonus"], ["logits"]),
        node("Softmax", ["logits"], ["probability"], axis=-1),
        node("ReduceMax", ["probability", "last"], ["highest"], keepdims=0),
        node("Mul", ["highest", "mask"], ["confidence"]),
        node("ArgMax", ["logits"], ["best"], axis=-1, keepdims=0),
        node("LogSoftmax", ["logits"], ["log_probability"], axis=-1),
        node("Mul", ["probability", "log_probability"], ["terms"]),
        node("ReduceSum", ["terms", "last"], ["negative_entropy"], keepdims=0),
        node("Div", ["negative_entropy", "most"], ["share"]),
        node("Mul", ["share", "mask"], ["uncertainty"]),
        node("ReduceSum", ["mask"], ["valid_pixels"], keepdims=0),
        node("Mul", ["gates", "valid_pixels"], ["experts"]),
        # In 64 bits: the oldest onnxruntime that we take adds no bytes.
        node("Add", ["best", "one"], ["class_id"]),
        node("Cast", ["valid"], ["valid_number"], to=TensorProto.INT64),
        node("Mul", ["class_id", "valid_number"], ["label_number"]),
        node("Cast", ["label_number"], ["labels"], to=TensorProto.UINT8),
        node("ReduceSum", ["masked", "first_axis"], ["block_sum"], keepdims=0),
        node("Add", ["total", "block_sum"], ["next_total"]),
        node("ReduceSum", ["mask", "first_axis"], ["column_count"], keepdims=0),
        node("Reshape", ["column_count", "pairs"], ["paired"]),
        node("ReduceSum", ["paired", "second_axis"], ["pair_count"], keepdims=0),
        node("Add", ["half", "pair_count"], ["next_half"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            floats("lines", [block_lines, "samples", BANDS]),
            helper.make_tensor_value_info("valid", TensorProto.BOOL, [block_lines, "samples"]),
            floats("total", ["samples", BANDS]),
            floats("half", [1, "half_samples"]),
        ],
        [
            helper.make_tensor_value_info("labels", TensorProto.UINT8, [block_lines, "samples"]),
            floats("confidence", [block_lines, "samples"]),
            floats("logits", [block_lines, "samples", CLASSES]),
            floats("next_total", ["samples", BANDS]),
            floats("next_half", [1, "half_samples"]),
            *([] if early else [floats("uncertainty", [block_lines, "samples"]), floats("experts", [SCALES, EXPERTS])]),
        ],
        [
            constant("weights", weights()),
            constant("gates", gates()),
            constant("most", -np.log(np.float32(CLASSES))),
            constant("first_class", one_hot),
            constant("last", np.array([-1])),
            constant("zero", np.array(0)),
            constant("one", np.array(1)),
            constant("first_axis", np.array([0])),
            constant("second_axis", np.array([1])),
            constant("pairs", np.array([-1, 2])),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def reference(cube: np.ndarray, valid: np.ndarray, block_lines: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The whole strip at once: labels, confidence and logits for (line, sample, band) float32 and its mask."""
    running = np.cumsum(np.where(valid[..., None], cube, 0), axis=0)  # (line, sample, band)
    logits = running @ weights()
    for start in range(0, len(cube), block_lines):
        logits[start : start + block_lines, :, 0] += np.count_nonzero(valid[:start])
    exponential = np.exp(logits - logits.max(axis=-1, keepdims=True))
    confidence = (exponential.max(axis=-1) / exponential.sum(axis=-1)) * valid
    return ((logits.argmax(axis=-1) + 1) * valid).astype(np.uint8), confidence, logits


def uncertainty(logits: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The entropy of the softmax as a share of its maximum; (line, sample)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -(np.exp(log_probability) * log_probability).sum(axis=-1) / np.log(CLASSES) * valid


def random_cube(lines: int, samples: int, seed: int = 0) -> np.ndarray:
    """(line, sample, band) int16 of whole numbers, a tenth of the pixels without data (-1)."""
    generator = np.random.default_rng(seed)
    cube = generator.integers(0, 8, (lines, samples, BANDS)).astype(np.int16)
    cube[generator.random((lines, samples)) < 0.1] = -1
    return cube


def expected_map(cube: np.ndarray, block_lines: int) -> tuple[np.ndarray, np.ndarray]:
    labels, confidence, _ = reference(cube.astype(np.float32), valid_pixels(cube, -1), block_lines)
    return labels, confidence


def tiny_card(block_lines: int = 4) -> Card:
    return Card(
        name="tiny",
        created="2026-11-23T00:00:00Z",
        hyperline="0.1.0",
        block_lines=block_lines,
        bands=BANDS,
        sample_multiple=MULTIPLE,
        wavelengths_nm=(450.0, 550.0, 650.0, 750.0, 850.0),
        class_names=("Corn", "Woods", "Soybean, clean", "Stone {steel}"),
        scale=1.0,
        nodata=None,
        composite_bands=(2, 1, 0),
        states=(
            StateTensor(input="total", output="next_total", shape=(MULTIPLE, BANDS), sample_axis=0),
            StateTensor(input="half", output="next_half", shape=(1, MULTIPLE // 2), sample_axis=1),
        ),
        training={},
        offline=None,
        streamed=None,
        parity={},
    )


def tiny_golden(block_lines: int = 4) -> dict[str, np.ndarray]:
    lines = np.random.default_rng(1).integers(0, 8, (block_lines, MULTIPLE, BANDS)).astype(np.float32)
    valid = np.ones((block_lines, MULTIPLE), bool)
    valid[:, -2:] = False
    lines[~valid] = 0
    labels, _, logits = reference(lines, valid, block_lines)
    return {"lines": lines, "valid": valid, "labels": labels, "logits": logits.astype(np.float32)}


def write_tiny_bundle(
    path: Path, block_lines: int = 4, model: bytes | None = None, golden: dict[str, np.ndarray] | None = None
) -> Bundle:
    return write_bundle(
        path,
        {
            "card.json": tiny_card(block_lines).to_json(),
            "model.onnx": model or tiny_model(block_lines),
            **encode_golden(golden or tiny_golden(block_lines)),
        },
    )


class Tiny:
    """What the tests need of all this; ``bundle`` writes each bundle once."""

    bands = BANDS
    classes = CLASSES
    multiple = MULTIPLE
    model = staticmethod(tiny_model)
    card = staticmethod(tiny_card)
    golden = staticmethod(tiny_golden)
    cube = staticmethod(random_cube)
    expected_map = staticmethod(expected_map)
    reference = staticmethod(reference)
    uncertainty = staticmethod(uncertainty)
    gates = staticmethod(gates)
    write_bundle = staticmethod(write_tiny_bundle)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bundles: dict[int, Bundle] = {}

    def bundle(self, block_lines: int = 4) -> Bundle:
        if block_lines not in self._bundles:
            path = self._folder / f"tiny{block_lines}.hlb"
            self._bundles[block_lines] = write_tiny_bundle(path, block_lines)
        return self._bundles[block_lines]


def tiny_scene() -> Scene:
    """22 lines of 13 samples, labelled at random."""
    cube = random_cube(22, 13)
    labels = np.random.default_rng(2).integers(0, CLASSES + 1, cube.shape[:2]).astype(np.uint8)
    return Scene("field", cube, labels, wavelengths_nm=np.array(tiny_card().wavelengths_nm), nodata=-1.0)


def save_npz(path: Path, scene: Scene, **more: object) -> Path:
    np.savez(path, cube=scene.cube, labels=scene.labels, wavelengths_nm=scene.wavelengths_nm, **more)
    return path
