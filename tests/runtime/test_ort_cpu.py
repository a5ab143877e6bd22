"""The ONNX Runtime engine: exact, repeatable, and unwilling to fly what it cannot vouch for."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from hyperline.bundle.bundle import MODELS
from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import Engine, load_engine, self_test
from hyperline.runtime.engines.engine import SELF_TEST, experts_shape


@pytest.fixture
def engine(tiny) -> Engine:
    return load_engine("ort-cpu", tiny.model(4), tiny.card(4), threads=1)


def blocks_of(tiny, count: int, samples: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(3)
    for _ in range(count):
        valid = generator.random((4, samples)) < 0.8
        lines = generator.integers(0, 8, (4, samples, tiny.bands)).astype(np.float32)
        yield np.where(valid[..., None], lines, 0), valid


@pytest.mark.parametrize("samples", [8, 24])
def test_state_carried_over_blocks_gives_what_the_whole_strip_gives(tiny, engine: Engine, samples: int) -> None:
    blocks = list(blocks_of(tiny, 7, samples))
    engine.reset(samples)
    got = {"labels": [], "confidence": [], "logits": [], "uncertainty": []}
    for lines, valid in blocks:
        outputs = engine.step(Block(lines, valid, 4))
        for name, kept in got.items():
            kept.append(getattr(outputs, name).copy())
        np.testing.assert_array_equal(outputs.experts, tiny.gates() * np.count_nonzero(valid))
    cube, valid = (np.concatenate(part) for part in zip(*blocks, strict=True))
    labels, confidence, logits = tiny.reference(cube, valid, 4)
    np.testing.assert_array_equal(np.concatenate(got["labels"]), labels)
    np.testing.assert_array_equal(np.concatenate(got["logits"]), logits)
    np.testing.assert_allclose(np.concatenate(got["confidence"]), confidence, rtol=1e-5)
    np.testing.assert_allclose(
        np.concatenate(got["uncertainty"]), tiny.uncertainty(logits, valid), rtol=1e-4, atol=1e-6
    )


def test_a_graph_from_before_there_were_uncertainty_and_experts_flies_without(tiny) -> None:
    early, engine = (load_engine("ort-cpu", tiny.model(4, early), tiny.card(4), threads=1) for early in (True, False))
    block = Block(*next(blocks_of(tiny, 1, 8)), 4)
    for one in (early, engine):
        one.reset(8)
    outputs, expected = early.step(block), engine.step(block)
    np.testing.assert_array_equal(outputs.logits, expected.logits)
    assert outputs.uncertainty is None and outputs.experts is None
    assert outputs.copy().experts is None
    assert expected.copy().experts is not expected.experts


@pytest.mark.parametrize("shape", [[4], ["scales", 4], [0, 4], [3, 4, 1], [3, 1 << 20]])
def test_experts_of_a_shape_that_is_none_are_refused(tiny, shape: list) -> None:
    with pytest.raises(HyperlineError, match=r"gives experts in shape \(.*which must be \(scales, experts\)"):
        experts_shape(tiny.card(4), shape)


def test_a_reset_forgets_the_strip_after_an_odd_and_an_even_number_of_blocks(tiny, engine: Engine) -> None:
    blocks = list(blocks_of(tiny, 3, 8))
    first = []
    for count in (1, 2, 3):
        engine.reset(8)
        first.append(engine.step(Block(*blocks[0], 4)).logits.copy())
        for lines, valid in blocks[1:count]:
            engine.step(Block(lines, valid, 4))
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[0], first[2])


def test_steps_write_into_the_same_memory(tiny, engine: Engine) -> None:
    engine.reset(8)
    block = Block(*next(blocks_of(tiny, 1, 8)), 4)
    assert engine.step(block).labels is engine.step(block).labels


def test_the_golden_block_passes(tiny, engine: Engine) -> None:
    self_test(engine, tiny.golden(4))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("labels", lambda labels: np.where(labels > 0, labels % 4 + 1, 0)),
        ("logits", lambda logits: logits + np.float32(0.01)),
        ("logits", lambda logits: np.where(logits == logits[0, 0, 0], np.float32(np.nan), logits)),
    ],
)
def test_an_engine_that_disagrees_with_the_golden_block_may_not_fly(tiny, engine: Engine, name: str, change) -> None:
    golden = tiny.golden(4)
    golden[name] = change(golden[name]).astype(golden[name].dtype)
    with pytest.raises(HyperlineError, match="self-test of tiny on ort-cpu failed"):
        self_test(engine, golden)


@pytest.mark.parametrize(
    ("precision", "wrong_labels", "off", "flies"),
    [
        ("fp32", 0, 0.0, True),
        ("fp32", 1, 0.0, False),  # of 24 valid pixels
        ("fp32", 0, 0.001, False),
        ("fp16", 0, 0.04, True),
        ("fp16", 1, 0.0, False),
        ("fp16", 0, 0.06, False),
        ("int8", 1, 0.4, True),
        ("int8", 2, 0.0, False),
        ("int8", 0, 0.6, False),
        ("int8", 0, np.nan, False),
    ],
)
def test_the_self_test_asks_of_each_precision_what_it_can_give(
    tiny, precision: str, wrong_labels: int, off: float, flies: bool
) -> None:
    """``off`` is a fraction of the largest logit."""
    golden = tiny.golden(4)
    golden["labels"] = golden["labels"].copy()
    golden["labels"].ravel()[:wrong_labels] = golden["labels"].ravel()[:wrong_labels] % 4 + 1
    logits = golden["logits"] = golden["logits"].copy()
    logits.ravel()[np.abs(logits).argmin()] += off * np.abs(logits[golden["valid"]]).max()
    engine = load_engine("ort-cpu", tiny.model(4), tiny.card(4), 1, precision)
    if flies:
        self_test(engine, golden)
    else:
        with pytest.raises(HyperlineError, match=f"must be in {precision}"):
            self_test(engine, golden)


def test_every_precision_of_a_bundle_has_a_bar() -> None:
    assert SELF_TEST.keys() == MODELS.keys()


def test_an_fp16_graph_on_which_an_optimizer_of_onnxruntime_dies_is_loaded(tiny, tmp_path: Path) -> None:
    """In a process of its own. Its inputs are not the card's, which is looked at once the graph is loaded."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]>
        deadly (float16[1,n,36] x, float[36,16] w) => (float[n,1,16] y)
        { turned = Transpose <perm: ints = [1, 0, 2]> (x)
          full = Cast <to: int = 1> (turned)
          y = MatMul (full, w) }"""
    )
    (tmp_path / "model").write_bytes(model.SerializeToString())
    (tmp_path / "card").write_bytes(tiny.card(4).to_json())
    program = """if True:
        import sys
        from pathlib import Path
        from hyperline.bundle import Card
        from hyperline.runtime.engines import load_engine
        model, card = (Path(path).read_bytes() for path in sys.argv[1:])
        load_engine("ort-cpu", model, Card.from_json(card, "card"), 1, "fp16")"""
    command = [sys.executable, "-c", program, str(tmp_path / "model"), str(tmp_path / "card")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "disagree about the inputs" in done.stderr


def test_an_unknown_engine_is_refused_with_those_that_there_are(tiny) -> None:
    with pytest.raises(InputError, match=r"'warp'.*ort-cpu"):
        load_engine("warp", b"", tiny.card())


def test_fewer_than_one_thread_is_refused(tiny) -> None:
    with pytest.raises(InputError, match="at least 1"):
        load_engine("ort-cpu", tiny.model(4), tiny.card(), threads=0)


@pytest.mark.parametrize("model", [b"", b"not a model", b"\x08\x09"])
def test_a_model_that_onnxruntime_cannot_load_is_one_clear_error(tiny, model: bytes) -> None:
    with pytest.raises(HyperlineError, match="cannot load the model tiny"):
        load_engine("ort-cpu", model, tiny.card(), threads=1)


def test_a_graph_that_is_not_the_one_of_its_card_is_refused(tiny) -> None:
    card = tiny.card(4)
    with pytest.raises(HyperlineError, match=r"disagree about the inputs.*'half'"):
        load_engine("ort-cpu", tiny.model(4), card.model_copy(update={"states": card.states[:1]}), threads=1)


def test_a_graph_for_another_block_fails_with_one_clear_error(tiny) -> None:
    engine = load_engine("ort-cpu", tiny.model(8), tiny.card(4), threads=1)
    engine.reset(8)
    with pytest.raises(HyperlineError, match="failed in a step of tiny"):
        engine.step(Block(*next(blocks_of(tiny, 1, 8)), 4))
