"""What a bench measures, on a model small enough to know by heart."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from hyperline.cli.main import hyperline
from hyperline.errors import InputError
from hyperline.runtime import bench
from hyperline.runtime.bench import bench_bundle


def test_the_keys_that_scripts_rely_on_are_there(bundle):
    arguments = ["bench", str(bundle.path), "--samples", "20", "--threads", "1", "--seconds", "0.05", "--json"]
    result = CliRunner().invoke(hyperline, arguments)
    assert result.exception is None, result.output
    report = json.loads(result.stdout)
    assert report["latency_ms"].keys() == {"p50", "p99", "p999", "max"}
    assert (report["samples"], report["bands"], report["block_lines"], report["threads"]) == (20, 5, 4, 1)
    assert (report["engine"], report["precision"], report["native_ops"], report["energy"]) == (
        "ort-cpu",
        "fp32",
        False,
        None,
    )
    assert report["lines_per_second"] == pytest.approx(4e3 / report["latency_ms"]["p50"])
    # this model does not say its arithmetic
    assert report["floor"] is None and report["floor_ratio"] is None


def test_every_block_timed_is_counted_and_the_percentiles_are_in_order(bundle):
    result = bench_bundle(bundle, samples=8, threads=1, seconds=0.05)
    latency = result.latency_ms
    assert result.steps >= 1
    assert 0 < latency.p50 <= latency.p99 <= latency.p999 <= latency.max


def test_for_people_it_says_why_there_is_no_floor(bundle):
    result = CliRunner().invoke(hyperline, ["bench", str(bundle.path), "--samples", "8", "--seconds", "0.05"])
    assert result.exception is None, result.output
    assert "no arithmetic floor" in result.stdout


def test_the_padding_of_an_odd_width_is_not_valid(bundle, tiny):
    blocks = []

    class Engine:
        def reset(self, samples):
            assert samples == 24

        def step(self, block):
            blocks.append(block)

    bench.stepper(Engine(), bundle, 19)()
    assert blocks[0].valid.shape == (4, 24)
    assert not blocks[0].valid[:, 19:].any() and blocks[0].valid[:, :19].any()
    assert not blocks[0].lines[~blocks[0].valid].any()


def test_the_product_that_is_timed_is_a_matrix_product():
    model = onnx.load_from_string(bench._product_model())
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(bench._product_model(), providers=["CPUExecutionProvider"])
    a, b = np.random.default_rng(0).standard_normal((2, 3, 3), dtype=np.float32)
    np.testing.assert_allclose(session.run(None, {"a": a, "b": b})[0], a @ b, rtol=1e-5)


@pytest.mark.parametrize(("samples", "seconds"), [(0, 1.0), (8, 0.0), (8, float("nan"))])
def test_nothing_to_measure_is_refused(bundle, samples, seconds):
    with pytest.raises(InputError, match="cannot be measured"):
        bench_bundle(bundle, samples=samples, seconds=seconds)
