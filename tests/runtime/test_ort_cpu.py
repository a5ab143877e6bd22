"""The ONNX Runtime engine: exact, repeatable, and unwilling to fly what it cannot vouch for."""

from collections.abc import Iterator

import numpy as np
import pytest

from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import Engine, load_engine, self_test


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
    got = {"labels": [], "confidence": [], "logits": []}
    for lines, valid in blocks:
        outputs = engine.step(Block(lines, valid, 4))
        for name, kept in got.items():
            kept.append(getattr(outputs, name).copy())
    labels, confidence, logits = tiny.reference(*(np.concatenate(part) for part in zip(*blocks, strict=True)), 4)
    np.testing.assert_array_equal(np.concatenate(got["labels"]), labels)
    np.testing.assert_array_equal(np.concatenate(got["logits"]), logits)
    np.testing.assert_allclose(np.concatenate(got["confidence"]), confidence, rtol=1e-5)


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
