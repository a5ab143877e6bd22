"""The plugin, TensorRT's lean runtime (its registry is the real one), and the harness that drives one by the other."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hyperline.plugins.native import find_library

ROOT = Path(__file__).resolve().parents[2]


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
    """Calls the harness with some arguments; returns what it printed."""
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
    source = str(Path(__file__).with_name("harness.cpp"))
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"]
    built = subprocess.run(
        [compiler, *flags, *includes, source, *links, "-o", str(program)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr

    def run(*arguments):
        ran = subprocess.run([program, trt_library, *arguments], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, f"exit code {ran.returncode}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    return run
