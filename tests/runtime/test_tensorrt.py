"""The TensorRT engine on a GPU made of NumPy (fake_gpu.py): its buffers, its graphs, its refusals, its commands.

What only a GPU can show is in docs/tensorrt.md, with the command that shows it.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fake_gpu import Gpu

from hyperline.cli.main import hyperline
from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import load_engine, self_test
from hyperline.runtime.engines.tensorrt import TensorRTEngine
from hyperline.runtime.tensorrt import toolkit as toolkit_module
from hyperline.runtime.tensorrt.build import BuiltEngine, Samples
from hyperline.runtime.tensorrt.cache import EngineCache, EngineKey
from hyperline.runtime.tensorrt.toolkit import Toolkit, find_toolkit


@pytest.fixture
def gpu():
    return Gpu()


@pytest.fixture
def make(gpu, tiny, tmp_path):
    """Makes an engine of the tiny model; ``built`` is what lies in the cache as its engine."""

    def make(built=None, card=None):
        toolkit = Toolkit(gpu.trt, gpu.cuda, gpu, None)
        model = tiny.model(4)
        cache = EngineCache(tmp_path / "engines")
        engine = BuiltEngine(built or model, b"")
        cache.find_or_build(EngineKey.of(model, toolkit), Samples(8, 8, 64), lambda timing: engine)
        return TensorRTEngine(model, card or tiny.card(4), 1, cache.folder, toolkit)

    return make


@pytest.fixture
def engine(make):
    return make()


def blocks_of(tiny, count, samples):
    generator = np.random.default_rng(3)
    for _ in range(count):
        valid = generator.random((4, samples)) < 0.8
        lines = generator.integers(0, 8, (4, samples, tiny.bands)).astype(np.float32)
        yield np.where(valid[..., None], lines, 0), valid


@pytest.mark.parametrize("samples", [8, 24, 64])
def test_state_carried_over_blocks_gives_what_the_whole_strip_gives(tiny, engine, samples):
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


def test_an_engine_of_a_graph_from_before_there_were_uncertainty_and_experts_flies_without(tiny, make):
    engine = make(built=tiny.model(4, early=True))
    engine.reset(8)
    lines, valid = next(blocks_of(tiny, 1, 8))
    outputs = engine.step(Block(lines, valid, 4))
    np.testing.assert_array_equal(outputs.labels, tiny.reference(lines, valid, 4)[0])
    assert outputs.uncertainty is None and outputs.experts is None


def test_a_reset_forgets_the_strip_after_an_odd_and_an_even_number_of_blocks(tiny, engine):
    blocks = list(blocks_of(tiny, 3, 8))
    first = []
    for count in (1, 2, 3):
        engine.reset(8)
        first.append(engine.step(Block(*blocks[0], 4)).logits.copy())
        for lines, valid in blocks[1:count]:
            engine.step(Block(lines, valid, 4))
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[0], first[2])


def test_strips_of_other_widths_follow_each_other(tiny, engine):
    for samples in (8, 24, 8):
        engine.reset(samples)
        (lines, valid), *_ = blocks_of(tiny, 1, samples)
        labels, _, _ = tiny.reference(lines, valid, 4)
        np.testing.assert_array_equal(engine.step(Block(lines, valid, 4)).labels, labels)


def test_a_block_is_one_launch_and_no_call_of_tensorrt(tiny, gpu, engine):
    engine.reset(8)
    launches, enqueued, buffers = gpu.launches, gpu.enqueued, len(gpu.buffers)
    for lines, valid in blocks_of(tiny, 5, 8):
        engine.step(Block(lines, valid, 4))
    assert (gpu.launches, gpu.enqueued, len(gpu.buffers)) == (launches + 5, enqueued, buffers)


def test_a_reset_for_the_same_width_allocates_nothing(gpu, engine):
    engine.reset(8)
    buffers = len(gpu.buffers)
    engine.reset(8)
    assert len(gpu.buffers) == buffers


def test_steps_write_into_the_same_memory(tiny, engine):
    engine.reset(8)
    block = Block(*next(blocks_of(tiny, 1, 8)), 4)
    assert engine.step(block).labels is engine.step(block).labels


def test_the_golden_block_passes(tiny, engine):
    self_test(engine, tiny.golden(4))


@pytest.mark.parametrize("samples", [0, 72])
def test_a_width_that_the_engine_was_not_built_for_is_refused(engine, samples):
    with pytest.raises(InputError, match=rf"8 to 64 samples, not {samples}.*hyperline build"):
        engine.reset(samples)


def test_a_block_of_another_width_is_refused_not_stretched(tiny, engine):
    engine.reset(8)
    with pytest.raises(HyperlineError, match=r"\(1, 8, 5\)"):
        engine.step(Block(np.zeros((1, 8, 5), np.float32), np.ones((1, 8), bool), 1))


def test_an_engine_that_tensorrt_cannot_load_is_one_clear_error(make):
    with pytest.raises(
        HyperlineError, match=r"cannot load the engine .*Serialization assertion failed.*hyperline build"
    ):
        make(built=b"not an engine")


def test_an_engine_that_is_not_the_cards_is_refused_before_any_memory_is_given(tiny, gpu, make):
    card = tiny.card(4)
    with pytest.raises(HyperlineError, match="disagree about half, next_half"):
        make(card=card.model_copy(update={"states": card.states[:1]}))
    assert not gpu.buffers


def test_an_engine_for_another_block_is_refused(tiny, make):
    engine = make(built=tiny.model(8))
    with pytest.raises(HyperlineError, match=r"does not take lines in shape \(4, 8, 5\), as its card says"):
        engine.reset(8)


def test_an_engine_with_more_classes_than_the_card_is_refused_before_it_writes_beyond_a_buffer(tiny, gpu, make):
    card = tiny.card(4)
    engine = make(card=card.model_copy(update={"class_names": card.class_names[:3]}))
    with pytest.raises(HyperlineError, match=r"gives logits in shape \(4, 8, 4\) where its card says \(4, 8, 3\)"):
        engine.reset(8)
    assert not gpu.buffers


def test_memory_that_runs_out_is_one_clear_error_and_the_next_reset_works(tiny, gpu, engine):
    gpu.memory = 100
    with pytest.raises(HyperlineError, match=r"Fake, sm_87 failed for 8 samples.*out of memory"):
        engine.reset(8)
    gpu.memory = 1 << 30
    engine.reset(8)
    self_test(engine, tiny.golden(4))


def test_a_gpu_that_fails_in_a_step_is_one_clear_error(tiny, gpu, engine):
    engine.reset(8)
    gpu.broken = True
    with pytest.raises(HyperlineError, match=r"failed in a step on a block.*LAUNCH_FAILED"):
        engine.step(Block(*next(blocks_of(tiny, 1, 8)), 4))


def test_a_model_that_was_not_built_here_says_how_to_build_it(tiny, gpu, tmp_path):
    with pytest.raises(InputError, match=r"no engine of tiny for Fake, sm_87, TensorRT 10\.3\.0.*hyperline build"):
        TensorRTEngine(tiny.model(4), tiny.card(4), 1, tmp_path, Toolkit(gpu.trt, gpu.cuda, gpu, None))


def test_every_call_to_the_gpu_is_one_that_cuda_core_has():
    core = pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    graph = importlib.import_module("cuda.core.graph")
    for kind, names in {
        core.Device: ("set_current", "create_stream", "allocate", "name", "arch"),
        core.Buffer: ("copy_from", "copy_to", "fill", "handle"),
        core.Stream: ("sync", "handle", "create_graph_builder"),
        core.LegacyPinnedMemoryResource: ("allocate",),
        graph.GraphBuilder: ("begin_building", "end_building", "complete", "stream"),
        graph.Graph: ("upload", "launch"),
    }.items():
        assert not [name for name in names if not hasattr(kind, name)], kind


# ---- what is missing on a machine


@pytest.fixture
def machine(gpu, monkeypatch):
    """This machine, as if it had TensorRT and a GPU."""
    monkeypatch.setitem(sys.modules, "tensorrt", gpu.trt)
    monkeypatch.setitem(sys.modules, "cuda.core", gpu.cuda)
    monkeypatch.setattr(toolkit_module, "find_library", lambda name: None)
    return monkeypatch


def test_a_machine_that_has_all_is_found(gpu, machine, caplog):
    found = find_toolkit()
    assert (found.version, found.gpu, found.plugin) == ((10, 3, 0), "Fake, sm_87", None)
    assert "libhyperline_trt.so is not installed" in caplog.text


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [("tensorrt", r"JetPack.*pip install 'hyperline\[tensorrt\]'"), ("cuda.core", "pip install cuda-core")],
)
def test_a_missing_package_is_named_with_its_command(machine, missing, remedy):
    machine.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=rf"^{missing} cannot be imported.*{remedy}"):
        find_toolkit()


def test_a_tensorrt_that_is_too_old_is_refused(gpu, machine):
    gpu.trt.__version__ = "8.6.2"
    with pytest.raises(InputError, match=r"8\.6\.2 is too old.*10\.3"):
        find_toolkit()


def test_a_machine_without_a_gpu_is_told_so(gpu, machine):
    gpu.memory = 0
    with pytest.raises(InputError, match=r"no NVIDIA GPU can be used here.*NO_DEVICE"):
        find_toolkit()


def test_a_plugin_that_tensorrt_refuses_is_one_clear_error(gpu, machine, tmp_path):
    def refuse(path):
        raise RuntimeError("undefined symbol")

    machine.setattr(toolkit_module, "find_library", lambda name: tmp_path / name)
    gpu.trt.get_plugin_registry = lambda: type("Registry", (), {"load_library": staticmethod(refuse)})
    with pytest.raises(HyperlineError, match=r"does not take .*libhyperline_trt\.so \(undefined symbol\)"):
        find_toolkit()


# ---- the commands


def invoke(*arguments):
    return CliRunner().invoke(hyperline, [*map(str, arguments)])


def test_build_then_run_gives_the_map_of_the_cpu(tiny, bundle, machine, tmp_path, scene):
    cache = tmp_path / "engines"
    arguments = ("build", bundle.path, "--samples", "8:16:64", "--cache", cache, "--json")
    built, again = (json.loads(invoke(*arguments).stdout) for _ in range(2))
    assert (built["found"], again["found"]) == (False, True)
    assert built["path"] == again["path"] and Path(built["path"]).parent == cache
    assert (built["samples"], built["gpu"], built["native_ops"]) == ([8, 16, 64], "Fake, sm_87", False)
    source = tmp_path / "field.npz"
    np.savez(source, cube=scene.cube, wavelengths_nm=scene.wavelengths_nm)
    maps = []
    for name, engine in (("cpu", "ort-cpu"), ("gpu", f"tensorrt:{cache}")):
        ran = invoke(
            "run", bundle.path, "--source", source, "--out", tmp_path / name, "--engine", engine, "--no-picture"
        )
        assert ran.exit_code == 0, ran.exception
        maps.append((tmp_path / name / "classes.img").read_bytes())
    assert maps[0] == maps[1] and len(set(maps[0])) > 2
    assert json.loads((tmp_path / "gpu" / "summary.json").read_text())["engine"] == "tensorrt"


def test_an_engine_that_fails_its_self_test_is_not_kept(tiny, machine, tmp_path):
    golden = tiny.golden(4)
    golden["logits"] = golden["logits"] + np.float32(1)
    bundle = tiny.write_bundle(tmp_path / "off.hlb", 4, golden=golden)
    result = invoke("build", bundle.path, "--samples", "8:8:8", "--cache", tmp_path / "engines")
    assert isinstance(result.exception, HyperlineError) and "self-test of tiny on tensorrt" in str(result.exception)
    assert not list((tmp_path / "engines").glob("*.engine"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--samples", "8:9:16"), "multiples of 8"),
        (("--samples", "16:16:16"), "golden block"),
        (("--samples", "wide"), "MIN:OPT:MAX"),
        (("--precision", "int8"), "has no int8 model"),
    ],
)
def test_build_refuses_bad_input_and_leaves_nothing(bundle, machine, tmp_path, arguments, reason):
    result = invoke("build", bundle.path, "--cache", tmp_path / "engines", *arguments)
    assert isinstance(result.exception, InputError) and reason in str(result.exception)
    assert not (tmp_path / "engines").exists()


def test_build_on_a_machine_without_tensorrt_says_what_to_install(bundle, machine):
    machine.setitem(sys.modules, "tensorrt", None)
    result = invoke("build", bundle.path)
    assert isinstance(result.exception, InputError) and "JetPack" in str(result.exception)


def test_a_folder_of_engines_is_for_tensorrt_alone(tiny):
    with pytest.raises(InputError, match="no engine is called 'ort-cpu:/engines'"):
        load_engine("ort-cpu:/engines", tiny.model(4), tiny.card(4))


def test_a_block_aside_leaves_strip_and_state_as_they_are(tiny, engine):
    blocks = list(blocks_of(tiny, 4, 24))
    engine.reset(24)
    plain = [engine.step(Block(*block, 4)).labels.copy() for block in blocks]
    golden = tiny.golden(4)
    engine.reset(24)
    for block, expected in zip(blocks, plain, strict=True):
        self_test(engine, golden)
        np.testing.assert_array_equal(engine.step(Block(*block, 4)).labels, expected)
