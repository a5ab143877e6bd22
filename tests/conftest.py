"""What tests of several folders share: real data, a browser, CUDA and TensorRT libraries; and how CI draws examples."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from hyperline.plugins import reference
from hyperline.plugins.native import find_library

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium that knows nothing and has no network but this machine's own."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of hyperline[dev]")
    home = {**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))}
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=list(CHROMIUM_FLAGS), env=home)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Path of a file under ../shared/data, beside the repository; skips where the folder is absent."""

    def locate(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"needs ../shared/data/{name}, which is not there")
        return path

    return locate


@pytest.fixture(scope="session")
def trt_library():
    built = ROOT / "build/cuda/plugins/tensorrt/libhyperline_trt.so"
    library = built if built.is_file() else find_library("libhyperline_trt.so")
    if library is None:
        pytest.skip("libhyperline_trt.so is not built: make native-cuda")
    return library


@pytest.fixture(scope="session")
def lean():
    """The folder that holds the lean runtime's wheels and the headers."""
    folder = ROOT / "build/tensorrt"
    if not (folder / "tensorrt_lean_libs/libnvinfer_lean.so.10").is_file():
        pytest.skip(f"no TensorRT lean runtime in {folder}: make native-cuda")
    return folder


@pytest.fixture(scope="session")
def harness(lean, trt_library, tmp_path_factory):
    """Calls the harness with some arguments, under another program perhaps; returns what both printed."""
    compiler, nvcc = os.environ.get("CXX") or shutil.which("c++"), shutil.which("nvcc")
    if compiler is None or nvcc is None:
        pytest.skip("no C++ compiler or no CUDA toolkit (nvcc) to build the harness with")
    cuda = next(
        folder for folder in (Path("/usr/local/cuda"), Path(nvcc).resolve().parents[1]) if (folder / "include").is_dir()
    )
    program = tmp_path_factory.mktemp("harness") / "harness"
    libraries = lean / "tensorrt_lean_libs"
    includes = [f"-isystem{lean / 'kernel_lens/include/tensorrt'}", f"-isystem{cuda / 'include'}"]
    links = [f"-L{libraries}", "-l:libnvinfer_lean.so.10", f"-Wl,-rpath,{libraries}"]
    links += [f"-L{cuda / 'lib64'}", "-lcudart_static", "-ldl", "-lrt", "-lpthread"]
    source = str(ROOT / "tests/tensorrt/harness.cpp")
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"]
    built = subprocess.run(
        [compiler, *flags, *includes, source, *links, "-o", str(program)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr

    def run(*arguments, under=()):
        ran = subprocess.run([*under, program, trt_library, *arguments], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, f"exit code {ran.returncode}\n{ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The tiny model, whose labels are known by heart; each of its bundles is written once."""
    from tiny_model import Tiny  # it needs onnx, of hyperline[train]

    return Tiny(tmp_path_factory.mktemp("tiny"))


class ScanCase:
    """Random inputs of SelectiveScan in the order of the operator, rounded to the number type under test.

    ``masked`` is the share of steps masked, ``mask_rows`` and ``mask_steps`` the mask's shape.
    """

    def __init__(
        self,
        seed,
        S=5,
        L=9,
        D=7,
        N=16,
        dtype=np.float32,
        reverse=False,
        initial_state=True,
        mask_rows=1,
        mask_steps=1,
        masked=0.0,
        delta_mean=-4.0,
    ):
        generator = np.random.default_rng(seed)
        self.dtype, self.reverse = np.dtype(dtype), reverse
        self.sizes = (S, L, D, N)

        def normal(*shape):
            return generator.standard_normal(shape, dtype=np.float32)

        self.inputs = {
            "u": normal(S, L, D).astype(dtype),
            "delta": (normal(S, L, D) + np.float32(delta_mean)).astype(dtype),
            "A": -np.exp(normal(D, N)),
            "B": normal(S, L, N).astype(dtype),
            "C": normal(S, L, N).astype(dtype),
            "D": normal(D),
            "delta_bias": normal(D),
            "h0": normal(S, D, N) if initial_state else np.zeros((1, D, N), np.float32),
            "mask": (generator.random((mask_rows, mask_steps)) >= masked).astype(np.float32),
        }

    def assert_close(self, y, h):
        """Compare with the reference: FP32 rtol 1e-5, atol 1e-6 of the state's scale; FP16 rtol 3e-3, atol 5e-3.

        The read-out sums N products of state and C and may cancel: its rounding is that of its largest terms.
        """
        expected_y, expected_h = reference.selective_scan(**self.inputs, reverse=self.reverse)
        scale = max(1.0, np.abs(expected_h).max(), np.abs(self.inputs["h0"]).max())
        if self.dtype == np.float16:
            np.testing.assert_allclose(h, expected_h, rtol=3e-3, atol=5e-3, err_msg="h")
            np.testing.assert_allclose(y.astype(np.float64), expected_y, rtol=3e-3, atol=5e-3, err_msg="y")
        else:
            read_scale = scale * max(1.0, np.abs(self.inputs["C"]).max()) * self.sizes[3] ** 0.5
            np.testing.assert_allclose(h, expected_h, rtol=1e-5, atol=1e-6 * scale, err_msg="h")
            np.testing.assert_allclose(y, expected_y, rtol=1e-5, atol=1e-6 * read_scale, err_msg="y")


@pytest.fixture(scope="session")
def scan_case():
    return ScanCase


# CI draws the same examples every time: a red run is a change's fault, not the dice's. At a desk they differ.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
