"""What flips in memory is found and mended, and an engine that answers otherwise than before does not fly on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import bitflips
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto, helper, numpy_helper

from hyperline.bundle import Bundle, read_bundle
from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import engines_from, load_engine, self_test
from hyperline.runtime.engines.chain import EngineChain
from hyperline.runtime.engines.constants import Constants, read_constants
from hyperline.runtime.engines.ort_cpu import OrtCpuEngine
from hyperline.runtime.engines.ort_cuda import OrtCudaEngine
from hyperline.runtime.flight import Flight, LoopOptions
from hyperline.runtime.guards import MemoryGuard
from hyperline.runtime.records import RECORDS, Record, read_records
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip
from hyperline.scenes import Scene

LINES, SAMPLES = 96, 13


@pytest.fixture
def scene(tiny) -> Scene:
    return Scene("field", tiny.cube(LINES, SAMPLES, 5), nodata=-1.0)


@pytest.fixture
def model(tiny) -> bytes:
    return tiny.model(4)


def labels_in(out: Path) -> np.ndarray:
    return np.fromfile(out / "classes.img", np.uint8).reshape(-1, SAMPLES)


# ------------------------------------------------------------------------------------------------------- the campaign


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        ("weights", "repaired"),
        ("state", "repaired"),
        ("line", "line rejected"),
        ("weights and copy", "repaired"),
        ("weights, copy, bundle", "repaired"),
        ("state and copy", "rolled back"),
        ("bundle file", "refused"),
    ],
)
def test_every_flip_between_two_blocks_is_found(bundle, scene, target: str, outcome: str) -> None:
    campaign = bitflips.Campaign(bundle, scene, "fp32")
    trials = [campaign.trial(target, True, (1, number)) for number in range(25)]
    assert {trial.outcome for trial in trials} == {outcome}


def test_without_guards_the_same_flips_are_seen_in_the_labels(bundle, scene) -> None:
    """Else the campaign would flip what nobody reads."""
    campaign = bitflips.Campaign(bundle, scene, "fp32")
    for target in bitflips.UNGUARDED:
        outcomes = {campaign.trial(target, False, (2, number)).outcome for number in range(60)}
        assert "silent, labels changed" in outcomes and "repaired" not in outcomes


# ------------------------------------------------------------------------------------------------------- the constants

STORED = {
    np.float32: TensorProto.FLOAT,
    np.float16: TensorProto.FLOAT16,
    np.float64: TensorProto.DOUBLE,
    np.int8: TensorProto.INT8,
    np.uint8: TensorProto.UINT8,
    np.int32: TensorProto.INT32,
    np.int64: TensorProto.INT64,
    np.bool_: TensorProto.BOOL,
}


@settings(deadline=None)
@given(
    st.sampled_from(list(STORED)).flatmap(
        lambda dtype: npst.arrays(
            dtype,
            npst.array_shapes(min_dims=0, max_dims=3, max_side=5),
            elements=None if np.dtype(dtype).kind != "f" else {"allow_nan": False},
        )
    ),
    st.booleans(),
)
def test_constants_are_read_as_onnx_reads_them(array: np.ndarray, raw: bool) -> None:
    if raw:
        tensor = numpy_helper.from_array(array, "one")
    else:
        tensor = helper.make_tensor("one", STORED[array.dtype.type], array.shape, array.reshape(-1).tolist())
    graph = helper.make_graph([], "graph", [], [], [numpy_helper.from_array(np.zeros(3), "other"), tensor])
    found = dict(read_constants(helper.make_model(graph).SerializeToString()))
    assert list(found) == ["other", "one"]
    assert found["one"].dtype == array.dtype and found["one"].shape == array.shape
    np.testing.assert_array_equal(found["one"], array)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_what_is_no_onnx_file_is_refused_or_has_no_constants(data: bytes) -> None:
    try:
        found = list(read_constants(data))
    except InputError as error:
        assert "not an ONNX file" in str(error)
    else:
        assert not found


def test_shapes_and_weights_lie_apart_each_at_a_cache_line(model: bytes) -> None:
    constants = Constants.of(model)
    whole_numbers = {"last", "zero", "first_axis", "second_axis", "pairs", "one"}
    assert set(constants.values) == whole_numbers | {"weights", "first_class", "gates", "most"}
    for name, value in constants.values.items():
        memory = constants.shapes if name in whole_numbers else constants.weights
        first = value.data_ptr() - memory.ctypes.data
        assert 0 <= first < memory.nbytes and value.data_ptr() % 64 == 0


def test_a_guarded_engine_answers_as_a_plain_one(tiny, model: bytes) -> None:
    golden = tiny.golden(4)
    engines = [load_engine("ort-cpu", model, tiny.card(4), 1, guarded=guarded) for guarded in (True, False)]
    answers = [self_test(engine, golden) for engine in engines]
    np.testing.assert_array_equal(answers[0].logits, answers[1].logits)
    assert engines[0].weights and not engines[1].weights and not engines[1].shapes


# ----------------------------------------------------------------------------------------------------------- the guards


def memory_of(*sizes: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 2**63, size, np.uint64) for size in sizes]


def test_memory_is_mended_from_its_copy() -> None:
    memory = memory_of(5, 1, 300)
    before = [one.copy() for one in memory]
    guard = MemoryGuard(memory)
    assert not guard.mend()
    memory[2][299] ^= np.uint64(1 << 63)
    assert guard.mend() and not guard.mend()
    for one, intact in zip(memory, before, strict=True):
        np.testing.assert_array_equal(one, intact)


def test_a_word_that_flips_itself_costs_nothing() -> None:
    memory = memory_of(4)
    before = memory[0].copy()
    guard = MemoryGuard(memory)
    guard._words[0] ^= 16
    assert guard.mend() and not guard.mend()
    np.testing.assert_array_equal(memory[0], before)


def test_memory_and_copy_that_are_both_damaged_are_given_up() -> None:
    memory = memory_of(4)
    guard = MemoryGuard(memory)
    memory[0][0] ^= np.uint64(1)
    guard._copies[0][1] ^= np.uint64(1)
    with pytest.raises(HyperlineError, match="both damaged"):
        guard.mend()


def test_weights_that_flip_within_a_step_leave_no_trace(tiny, bundle, scene, tmp_path, monkeypatch) -> None:
    step, calls = OrtCpuEngine.step, iter(range(1000))

    def flip(self, block):
        if next(calls) % 5 == 3:
            self.weights[0][0] ^= np.uint64(1 << 30)  # the exponent of the first weight
        return step(self, block)

    monkeypatch.setattr(OrtCpuEngine, "step", flip)
    summary = run_strip(bundle, SceneSource(scene), tmp_path, threads=1)
    np.testing.assert_array_equal(labels_in(tmp_path), tiny.expected_map(scene.cube, 4)[0])
    assert summary.counters.weights_repaired >= LINES // 4 // 5 and summary.reloads == 0


def test_weights_in_bad_memory_are_loaded_into_other_memory(tiny, bundle, scene, tmp_path, monkeypatch) -> None:
    step, engines = OrtCpuEngine.step, []

    def stuck(self, block):
        if self not in engines:
            engines.append(self)
        if self is engines[0]:
            self.weights[0][0] ^= np.uint64(1)
        return step(self, block)

    monkeypatch.setattr(OrtCpuEngine, "step", stuck)
    summary = run_strip(bundle, SceneSource(scene), tmp_path, threads=1)
    np.testing.assert_array_equal(labels_in(tmp_path), tiny.expected_map(scene.cube, 4)[0])
    assert (summary.reloads, summary.fallbacks, summary.counters.weights_repaired) == (1, 0, 3)
    assert "damaged 3 times in one block" in summary.failures[0]


def test_where_all_memory_is_bad_the_strip_ends(bundle, scene, tmp_path, monkeypatch) -> None:
    step = OrtCpuEngine.step

    def stuck(self, block):
        self.weights[0][0] ^= np.uint64(1)
        return step(self, block)

    monkeypatch.setattr(OrtCpuEngine, "step", stuck)
    with pytest.raises(HyperlineError, match="damaged 3 times in one block"):
        run_strip(bundle, SceneSource(scene), tmp_path, threads=1)


def test_weights_that_flip_just_before_a_self_test_do_not_fail_it(tiny, bundle, scene, tmp_path, monkeypatch) -> None:
    test = Flight._test

    def flip_and_test(self):
        self._chain.engine.weights[0][0] ^= np.uint64(1 << 30)
        test(self)

    monkeypatch.setattr(Flight, "_test", flip_and_test)
    summary = run_strip(bundle, SceneSource(scene), tmp_path, threads=1, options=LoopOptions(self_test_every=3))
    counters = summary.counters
    assert counters.self_tests_failed == counters.suspect == 0
    assert counters.weights_repaired == counters.self_tests > 1


def test_no_guards_leave_weights_and_self_test_alone(tiny, bundle, scene, tmp_path, monkeypatch) -> None:
    def never(*arguments):
        raise AssertionError

    monkeypatch.setattr(MemoryGuard, "mend", never)
    monkeypatch.setattr(EngineChain, "test", never)
    monkeypatch.setattr(Constants, "of", never)
    options = LoopOptions(guards=False, self_test_every=1)
    run_strip(bundle, SceneSource(scene), tmp_path, threads=1, options=options)
    np.testing.assert_array_equal(labels_in(tmp_path), tiny.expected_map(scene.cube, 4)[0])


# --------------------------------------------------------------------------------------------------- the self-test


@pytest.mark.parametrize(("every", "tests"), [(1, 24), (5, 3), (1000, 1), (0, 0)])
def test_the_self_test_is_repeated_and_leaves_the_strip_alone(
    tiny, bundle, scene, tmp_path, every: int, tests: int
) -> None:
    """A source that nothing paces leaves no moment without a line: each test waits as long again, but for the last."""
    options = LoopOptions(self_test_every=every, ring_lines=LINES)
    summary = run_strip(bundle, SceneSource(scene), tmp_path, threads=1, options=options)
    np.testing.assert_array_equal(labels_in(tmp_path), tiny.expected_map(scene.cube, 4)[0])
    assert (summary.counters.self_tests_failed, summary.counters.suspect) == (0, 0)
    flags = [record.flags for record in read_records(tmp_path / RECORDS)]
    if every:
        assert tests // 2 <= summary.counters.self_tests <= LINES // 4 // every + 1
        # the last test stands behind the last record
        assert flags.count(Record.TESTED) in (summary.counters.self_tests - 1, summary.counters.self_tests)
    else:
        assert summary.counters.self_tests == 0 and not any(flags)


def test_an_engine_that_answers_otherwise_is_loaded_again_and_its_blocks_are_named(
    tiny, bundle, scene, tmp_path, monkeypatch
) -> None:
    """What the guards cannot see: here the whole session was swapped for one with another weight."""
    step, calls = OrtCpuEngine.step, iter(range(1000))
    damaged = onnx.load_from_string(tiny.model(4))
    weights = next(one for one in damaged.graph.initializer if one.name == "weights")
    values = numpy_helper.to_array(weights).copy()
    values[0, 0] += 1
    weights.CopyFrom(numpy_helper.from_array(values, "weights"))
    other = onnxruntime.InferenceSession(damaged.SerializeToString(), providers=["CPUExecutionProvider"])

    def swap(self, block):
        if next(calls) == 10:
            self._session = other
            lane = self._strip
            self._strip = None
            self.reset(lane.samples)
            self.load_state(lane.states[lane.turn].read())
            self._aside = None
        return step(self, block)

    monkeypatch.setattr(OrtCpuEngine, "step", swap)
    options = LoopOptions(self_test_every=2)
    summary = run_strip(bundle, SceneSource(scene), tmp_path, threads=1, options=options)
    counters = summary.counters
    assert (counters.self_tests_failed, summary.reloads, summary.fallbacks) == (1, 1, 0)
    assert "failed" in summary.failures[0] or "otherwise than before" in summary.failures[0]
    records = list(read_records(tmp_path / RECORDS))
    suspect = next(number for number, record in enumerate(records) if record.flags & Record.SUSPECT)
    trusted = max(number for number in range(suspect) if records[number].flags & Record.TESTED)
    doubtful = range(4 * trusted, 4 * suspect)
    assert 40 in doubtful and counters.suspect == len(doubtful)
    # What is in doubt counts as lost to the state: the rest is the map of a strip without those lines.
    cube = scene.cube.copy()
    cube[doubtful.start : doubtful.stop] = -1
    expected = tiny.expected_map(cube, 4)[0]
    sound = np.setdiff1d(np.arange(LINES), doubtful)
    np.testing.assert_array_equal(labels_in(tmp_path)[sound], expected[sound])


def test_where_no_engine_passes_again_the_strip_ends(bundle, scene, tmp_path, monkeypatch) -> None:
    step, calls = OrtCpuEngine.aside, iter(range(1000))

    def spoil(self, block):
        outputs = step(self, block)
        if next(calls) > 0:
            outputs.logits[...] += 1
        return outputs

    monkeypatch.setattr(OrtCpuEngine, "aside", spoil)
    with pytest.raises(HyperlineError, match="self-test of tiny on ort-cpu failed"):
        run_strip(bundle, SceneSource(scene), tmp_path, threads=1, options=LoopOptions(self_test_every=4))
    assert "suspect" in (tmp_path / "summary.json").read_text()


def test_a_block_aside_changes_neither_width_nor_state(tiny, model: bytes) -> None:
    engine = load_engine("ort-cpu", model, tiny.card(4), 1)
    engine.reset(24)
    generator = np.random.default_rng(0)
    lines = generator.integers(0, 8, (4, 24, tiny.bands)).astype(np.float32)
    engine.step(Block(lines, np.ones((4, 24), bool), 4))
    before = engine.state.copy()
    golden = tiny.golden(4)
    answer = engine.aside(Block(golden["lines"], golden["valid"], 4))
    np.testing.assert_array_equal(answer.labels, golden["labels"])
    assert answer.labels is engine.aside(Block(golden["lines"], golden["valid"], 4)).labels
    np.testing.assert_array_equal(engine.state, before)
    assert engine.step(Block(lines, np.ones((4, 24), bool), 4)).labels.shape == (4, 24)


# ------------------------------------------------------------------------------------------------------- the bundle


def spoiled(bundle: Bundle, name: str = "model.onnx") -> Bundle:
    data = bytearray(bundle.members[name])
    data[len(data) // 2] ^= 8
    return replace(bundle, members=MappingProxyType({**bundle.members, name: bytes(data)}))


def test_an_intact_bundle_is_itself(bundle: Bundle) -> None:
    assert bundle.intact() is bundle


@pytest.mark.parametrize("name", ["model.onnx", "golden/logits.npy", "card.json"])
def test_a_bundle_that_changed_in_memory_is_read_anew(bundle: Bundle, name: str) -> None:
    damaged = spoiled(bundle, name)
    assert damaged.intact().members == bundle.members


def test_a_bundle_that_changed_in_memory_and_on_the_disk_is_refused(tiny, tmp_path) -> None:
    path = tmp_path / "one.hlb"
    tiny.write_bundle(path)
    damaged = spoiled(read_bundle(path))
    tiny.write_bundle(path, 8)
    with pytest.raises(InputError, match=r"in memory.*another one now"):
        damaged.intact()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not a whole bundle"):
        damaged.intact()


# -------------------------------------------------------------------------------------------------------- ort-cuda


def test_the_engine_for_cuda_gives_what_the_one_for_the_cpu_gives(tiny, model: bytes) -> None:
    """All of its code but the provider's: its states are tensors of a device, which here is the CPU."""
    engines = [OrtCpuEngine(model, tiny.card(4), 1), OrtCudaEngine(model, tiny.card(4), 1, device="cpu")]
    generator = np.random.default_rng(3)
    for samples in (8, 24, 8):
        for engine in engines:
            engine.reset(samples)
        for _ in range(5):
            valid = generator.random((4, samples)) < 0.8
            lines = generator.integers(0, 8, (4, samples, tiny.bands)).astype(np.float32) * valid[..., None]
            answers = [engine.step(Block(lines, valid, 4)) for engine in engines]
            for name in ("labels", "confidence", "logits", "uncertainty", "experts"):
                np.testing.assert_array_equal(*(getattr(answer, name) for answer in answers))
            np.testing.assert_array_equal(*(engine.state for engine in engines))
    self_test(engines[1], tiny.golden(4))
    np.testing.assert_array_equal(*(engine.state for engine in engines))


def test_its_state_goes_over_to_another_engine(tiny, model: bytes) -> None:
    cuda, cpu = OrtCudaEngine(model, tiny.card(4), 1, device="cpu"), OrtCpuEngine(model, tiny.card(4), 1)
    block = Block(np.ones((4, 8, tiny.bands), np.float32), np.ones((4, 8), bool), 4)
    cuda.reset(8)
    cuda.step(block)
    cpu.reset(8)
    cpu.load_state(cuda.state)
    np.testing.assert_array_equal(cpu.step(block).logits, cuda.step(block).logits)
    cuda.load_state(cpu.state)
    np.testing.assert_array_equal(cuda.step(block).logits, cpu.step(block).logits)


def test_without_cuda_it_says_what_to_install(tiny, model: bytes, monkeypatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match=r"no CUDAExecutionProvider; .*hyperline\[cuda\]"):
        load_engine("ort-cuda", model, tiny.card(4), 1)


def test_where_the_provider_does_not_start_it_is_refused(tiny, model: bytes, monkeypatch) -> None:
    """The wheel for CUDA lists its provider on machines without a GPU, and then runs on the CPU without a word."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("hyperline.runtime.engines.ort_cuda._providers", lambda device: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match="started no CUDAExecutionProvider"):
        load_engine("ort-cuda", model, tiny.card(4), 1)


def test_int8_is_not_for_it(tiny, model: bytes) -> None:
    with pytest.raises(InputError, match="fp32 and fp16"):
        load_engine("ort-cuda", model, tiny.card(4), 1, "int8")


def test_it_stands_between_tensorrt_and_the_cpu() -> None:
    assert engines_from("tensorrt:/cache") == ("tensorrt:/cache", "ort-cuda", "ort-cpu")
    assert engines_from("ort-cuda") == ("ort-cuda", "ort-cpu")
    assert engines_from("ort-cpu") == ("ort-cpu",)
