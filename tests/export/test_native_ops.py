"""The exported step on the native operators, in the engine that flies it."""

import numpy as np
import pytest

from hyperline.bundle import read_bundle
from hyperline.export import bundle as export_bundle
from hyperline.export.bundle import export_run
from hyperline.plugins import onnxruntime_ops
from hyperline.plugins.native import find_library
from hyperline.plugins.onnxruntime_ops import ORT_LIBRARY
from hyperline.runtime.bench import stepper
from hyperline.runtime.bench.floor import measure_floor
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import load_engine, self_test
from hyperline.runtime.engines.ort_cpu import OrtCpuEngine
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip

needs_library = pytest.mark.skipif(find_library(ORT_LIBRARY) is None, reason=f"{ORT_LIBRARY} is not installed")


@pytest.fixture
def bundle(run_dir, tmp_path, model, monkeypatch):
    monkeypatch.setattr(export_bundle, "export_step", lambda *_: model)
    return read_bundle(export_run(run_dir, tmp_path / "made-up.hlb"))


@needs_library
def test_labels_and_logits_are_those_of_the_function_bodies_over_many_blocks(bundle, excerpt):
    engines = [OrtCpuEngine(bundle.model(), bundle.card, 2, native_ops=native) for native in (True, False)]
    assert [engine.native_ops for engine in engines] == [True, False]
    steps = [stepper(engine, bundle, 44) for engine in engines]
    for _ in range(20):
        native, bodies = (step() for step in steps)
        np.testing.assert_array_equal(native.labels, bodies.labels)
        np.testing.assert_allclose(native.logits, bodies.logits, atol=1e-4)


@needs_library
def test_every_weight_is_read_where_it_is_guarded(run_dir_of_all_experts, scene, tmp_path):
    """A copy anywhere else would answer as before. The weights of an expert that is not picked would do so too."""
    bundle = read_bundle(export_run(run_dir_of_all_experts, tmp_path / "all.hlb"))
    engine = OrtCpuEngine(bundle.model(), bundle.card, 1)
    lines = scene.cube[8:16, :40].astype(np.float32)
    block = Block(lines, (lines != -1).any(-1), 8)
    before = engine.aside(block).logits.copy()
    (weights,) = engine.weights
    numbers, unread = weights.view(np.float32), []
    for name, value in engine._constants.values.items():
        first = (value.data_ptr() - weights.ctypes.data) // 4
        if not 0 <= first < numbers.size:
            continue  # a shape
        one = numbers[first : first + int(np.prod(value.shape()))]
        kept = one.copy()
        one[...] = 2 * one + 1
        if (engine.aside(block).logits == before).all():
            unread.append((name, one.size))
        one[...] = kept
    np.testing.assert_array_equal(engine.aside(block).logits, before)
    # The bound of a Clip and the zero of a Where and a Greater: no value of this block is between the two.
    assert len(unread) <= 2 and all(size == 1 for _, size in unread), unread


@needs_library
def test_the_summary_of_a_run_says_that_its_operators_were_native(bundle, scene, tmp_path):
    summary = run_strip(bundle, SceneSource(scene), tmp_path / "strip", threads=1)
    assert summary.native_ops and summary.as_dict()["native_ops"] is True


def test_without_the_library_the_same_bundle_flies_on_its_function_bodies(bundle, scene, tmp_path, monkeypatch):
    monkeypatch.setattr(onnxruntime_ops, "find_library", lambda name: None)
    engine = load_engine("ort-cpu", bundle.model(), bundle.card, 1)
    self_test(engine, bundle.golden())
    assert not engine.native_ops
    summary = run_strip(bundle, SceneSource(scene), tmp_path / "strip", threads=1)
    assert summary.classified == scene.lines and not summary.native_ops


@needs_library
def test_a_bench_states_the_floor_and_how_far_from_it_a_step_is(bundle):
    engine = OrtCpuEngine(bundle.model(), bundle.card, 1)
    floor = measure_floor(engine, bundle.model(), bundle, samples=64, seconds=0.2)
    metadata = onnxruntime_ops.onnxruntime.InferenceSession(bundle.model()).get_modelmeta().custom_metadata_map
    assert floor.multiply_adds == 8 * int(metadata["hyperline.multiply_adds"])
    assert floor.ms == pytest.approx(
        2e-6 * floor.multiply_adds / floor.gflops + 1e-6 * floor.state_updates / floor.scan_gupdates
    )
    assert floor.ratio == pytest.approx(floor.step_ms / floor.ms)
    assert floor.ratio > 0.5  # above 1 on a quiet machine; other work may fall on either side
