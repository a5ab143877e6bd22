"""The operators in onnxruntime's CUDA provider: what is registered, everywhere; what they compute, on a GPU."""

import importlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx.parser
import onnxruntime
import pytest

from hyperline.errors import InputError
from hyperline.plugins import reference
from hyperline.plugins.native import find_library
from hyperline.plugins.native_cuda import CUDA_LIBRARY
from hyperline.plugins.onnx_functions import OPSET
from hyperline.plugins.onnxruntime_ops import ORT_LIBRARY
from hyperline.runtime.blocks import Block
from hyperline.runtime.engines import load_engine, self_test
from hyperline.runtime.engines.ort_cuda import OrtCudaEngine

ROOT = Path(__file__).resolve().parents[2]
GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
ONNX_TYPES = {np.dtype(np.float32): "float", np.dtype(np.float16): "float16"}


@pytest.fixture(scope="module")
def library():
    """The operators' library of a build with CUDA: in a build folder, or installed."""
    for folder in ("build/cuda", "build/cuda-ort"):
        built = ROOT / folder / "plugins/ort" / ORT_LIBRARY
        if built.is_file() and (ROOT / folder / "plugins/cuda" / CUDA_LIBRARY).is_file():
            return built
    installed = find_library(ORT_LIBRARY)
    if installed is None or find_library(CUDA_LIBRARY) is None:
        pytest.skip(
            f"no {ORT_LIBRARY} built with CUDA: cmake -S . -B build/cuda-ort -DHYPERLINE_CUDA=ON && "
            "cmake --build build/cuda-ort --target hyperline_ort"
        )
    return installed


@pytest.fixture(params=[np.float32, np.float16], ids=["fp32", "fp16"])
def dtype(request):
    return np.dtype(request.param)


def model_of(op, attribute, inputs, outputs, left_out=()):
    """A model of one operator. Shapes are left open: only the operator itself can look at them."""

    def declare(tensors):
        return ", ".join(
            f"{ONNX_TYPES[dtype]}[{','.join(name + str(axis) for axis in range(rank))}] {name}"
            for name, (dtype, rank) in tensors.items()
            if name not in left_out
        )

    results = ", ".join('""' if name in left_out else name for name in outputs)
    return onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : {OPSET}, "hyperline" : 1]>
        model ({declare(inputs)}) => ({declare(outputs)})
        {{ {results} = hyperline.{op} <{attribute}> ({", ".join(inputs)}) }}"""
    )


def scan_model(case, left_out=()):
    inputs = {name: (array.dtype, array.ndim) for name, array in case.inputs.items()}
    outputs = {"y": (case.dtype, 3), "h": (np.dtype(np.float32), 3)}
    return model_of("SelectiveScan", f"reverse: int = {int(case.reverse)}", inputs, outputs, left_out)


def gate_model(dtype, k):
    table = (dtype, 2)
    return model_of("ExpertGate", f"k: int = {k}", {"logits": table}, {"weights": table, "active": table})


def session(library, model, provider, **entries):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.register_custom_ops_library(str(library))
    if provider == GPU:  # else a node that the provider does not take would run on the CPU unnoticed
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=[(provider, entries)] if entries else [provider]
    )


@pytest.fixture(scope="module")
def on_gpu(library):
    """Makes a session whose every node runs on the GPU."""
    if GPU not in onnxruntime.get_available_providers():
        pytest.skip(f"onnxruntime {onnxruntime.__version__} here has no {GPU}: pip install onnxruntime-gpu instead")
    one = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : {OPSET}]> one (float[1] x) => (float[1] y) {{ y = Neg (x) }}'
    )
    try:  # the wheel offers its provider on machines without a GPU too, and falls back to the CPU
        found = onnxruntime.InferenceSession(one.SerializeToString(), providers=[GPU]).get_providers()
    except Exception as error:  # onnxruntime's errors share no base class
        pytest.skip(f"onnxruntime-gpu starts no {GPU} here: {str(error).splitlines()[0]}")
    if GPU not in found:
        pytest.skip(f"onnxruntime-gpu starts no {GPU} here: no NVIDIA GPU, or its CUDA or cuDNN is missing")
    return lambda model, **entries: session(library, model, GPU, **entries)


def test_the_library_offers_both_operators_for_both_providers_and_all_else_for_the_cpu(library, tmp_path):
    compiler = os.environ.get("CXX") or shutil.which("c++")
    folders = [ROOT / "build/onnxruntime/usr/include/onnxruntime", Path("/usr/include/onnxruntime")]
    headers = [folder for folder in folders if (folder / "onnxruntime_c_api.h").is_file()]
    if compiler is None or not headers:
        pytest.skip("no C++ compiler (c++), or no ONNX Runtime headers (tools/fetch_onnxruntime_headers)")
    program = tmp_path / "ort_registry"
    source = Path(__file__).with_name("ort_registry.cpp")
    subprocess.run([compiler, "-std=c++17", f"-isystem{headers[0]}", source, "-o", program, "-ldl"], check=True)
    lines = subprocess.run([program, library], check=True, capture_output=True, text=True).stdout.splitlines()

    f, h = "float32", "float16"
    expected = ["domain hyperline", "domain hyperline.quantized", "domain hyperline.fused"]
    for provider, number in ((CPU, f), (CPU, h), (GPU, f), (GPU, h)):
        scan = [number, number, f, number, number, f, f, f, f]
        expected.append(f"{provider} SelectiveScan: {' '.join(scan)} -> {number} {f}")
        if (provider, number) != (CPU, h):  # the step's gates are float32
            expected.append(f"{provider} ExpertGate: {number} -> {number} {number}")
    linear, convolution = f"{f} {f} int8 {f} {f}", f"{f} {f} {f} int8 {f} {f}"
    for name, more in (("Linear", ""), ("LinearAdd", f" {f}"), ("LinearSilu", ""), ("LinearGelu", "")):
        expected.append(f"{CPU} {name}: {linear}{more} -> {f}")
    expected += [f"{CPU} {name}: {convolution} -> {f}" for name in ("BlockConv", "BlockConvRelu")]
    expected.append(f"{CPU} BlockConvAdd: {convolution} {f} -> {f}")
    for name, inputs in (("Norm", 3), ("NormRelu", 4), ("NormSilu", 3), ("SumNormGated", 5), ("CentredLinear", 4)):
        expected.append(f"{CPU} {name}: {' '.join([f] * inputs)} -> {f}")
    expected.append(f"{CPU} ProjectedScan: {' '.join([f] * 7)} -> {f} {f}")
    expected += [f"{CPU} Pool: {f} {f} -> {f} {f}", f"{CPU} Decide: {f} bool -> uint8 {f} {f}"]
    assert lines == expected


@pytest.mark.parametrize("reverse", [False, True])
def test_a_library_with_cuda_serves_a_runtime_without_it(library, scan_case, dtype, reverse):
    case = scan_case(1, dtype=dtype, reverse=reverse, mask_rows=5, mask_steps=9, masked=0.4)
    case.assert_close(*session(library, scan_model(case), CPU).run(None, case.inputs))


def test_a_gate_of_that_library_runs_on_the_cpu(library):
    logits = np.array([[1, 3, 3, 0], [2, 2, 2, 2]], np.float32)
    weights, active = session(library, gate_model(logits.dtype, 2), CPU).run(None, {"logits": logits})
    expected_weights, expected_active = reference.expert_gate(logits, 2)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(active, expected_active)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_on_the_gpu_equals_the_reference(on_gpu, scan_case, scan_row, dtype, reverse):
    case = scan_case(1, **scan_row, dtype=dtype, reverse=reverse)
    case.assert_close(*on_gpu(scan_model(case)).run(None, case.inputs))


def test_on_the_gpu_a_last_state_that_nobody_reads_may_be_left_out(on_gpu, scan_case, dtype):
    small, large = (scan_case(1, S=S, dtype=dtype) for S in (3, 700))
    whole, without = on_gpu(scan_model(small)), on_gpu(scan_model(small, left_out=["h"]))
    for case in (small, large, small):  # one session: what it keeps for the state grows
        np.testing.assert_array_equal(without.run(["y"], case.inputs)[0], whole.run(["y"], case.inputs)[0])


def test_on_the_gpu_no_sequences_are_no_work(on_gpu, scan_case):
    case = scan_case(1, S=0)
    y, h = on_gpu(scan_model(case)).run(None, case.inputs)
    assert y.shape == (0, 9, 7) and h.shape == (0, 7, 16)


def test_on_the_gpu_a_shape_that_does_not_fit_is_refused(on_gpu, scan_case):
    case = scan_case(1)
    with pytest.raises(Exception, match="SelectiveScan: mask must be"):
        on_gpu(scan_model(case)).run(None, case.inputs | {"mask": np.zeros((2, 9), np.float32)})


def test_on_the_gpu_too_many_states_are_refused(on_gpu, scan_case):
    case = scan_case(1, N=33)
    with pytest.raises(Exception, match="SelectiveScan: more than 32 states"):
        on_gpu(scan_model(case)).run(None, case.inputs)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_a_gate_on_the_gpu_equals_the_reference(on_gpu, dtype, k):
    logits = np.random.default_rng(1).integers(-3, 4, (300, 7)).astype(dtype)  # many ties
    weights, active = on_gpu(gate_model(dtype, k)).run(None, {"logits": logits})
    expected_weights, expected_active = reference.expert_gate(logits, k)
    tolerance = {"rtol": 3e-3, "atol": 5e-3} if dtype == np.float16 else {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(weights.astype(np.float64), expected_weights, **tolerance)
    np.testing.assert_array_equal(active, expected_active)


def test_a_cuda_graph_of_the_session_replays_the_scan(on_gpu, scan_case):
    # The last state is left out: the memory that is kept for it must be there before the capture.
    case, other = scan_case(1, S=40), scan_case(2, S=40)
    graphed = on_gpu(scan_model(case, left_out=["h"]), enable_cuda_graph="1")
    inputs = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0) for name, array in case.inputs.items()}
    y = onnxruntime.OrtValue.ortvalue_from_shape_and_type((40, 9, 7), np.float32, "cuda", 0)
    binding = graphed.io_binding()
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_ortvalue_output("y", y)
    graphed.run_with_iobinding(binding)  # captures
    for name, value in inputs.items():
        value.update_inplace(other.inputs[name])
    graphed.run_with_iobinding(binding)  # replays
    expected, _ = on_gpu(scan_model(other)).run(None, other.inputs)
    np.testing.assert_array_equal(y.numpy(), expected)


def test_the_engine_gives_on_the_gpu_what_it_gives_on_the_cpu(tmp_path, monkeypatch):
    """The exported step over many blocks: its state stays on the GPU, and comes from there and goes back when asked."""
    try:
        OrtCudaEngine.require()
    except InputError as error:
        pytest.skip(str(error))
    pytest.importorskip("torch", reason="exporting a model needs torch: pip install 'hyperline[train]'")
    monkeypatch.syspath_prepend(ROOT / "bench")
    bundle = importlib.import_module("step").full_frame_bundle(tmp_path / "one.hlb", 32, 4)
    try:
        gpu = load_engine("ort-cuda", bundle.model(), bundle.card, 1)
    except InputError as error:
        pytest.skip(str(error))
    cpu = load_engine("ort-cpu", bundle.model(), bundle.card, 1)
    lines = bundle.golden()["lines"]
    generator = np.random.default_rng(0)
    for engine in (gpu, cpu):
        engine.reset(64)
    for number in range(20):
        valid = generator.random((8, 64)) < 0.9
        noisy = (lines + generator.normal(0, 30, lines.shape)) * valid[..., None]
        block = Block(noisy.astype(np.float32), valid, 8)
        on_gpu, on_cpu = gpu.step(block), cpu.step(block)
        np.testing.assert_allclose(on_gpu.logits[valid], on_cpu.logits[valid], atol=1e-3)
        np.testing.assert_allclose(gpu.state, cpu.state, atol=1e-3)
        if number == 9:
            self_test(gpu, bundle.golden())
            gpu.load_state(cpu.state)
            np.testing.assert_array_equal(gpu.state, cpu.state)
