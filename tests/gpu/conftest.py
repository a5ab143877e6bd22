"""The CUDA kernels on a GPU where there is one, and their algorithm on the host everywhere."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hyperline.plugins.native import find_library
from hyperline.plugins.native_cuda import CUDA_LIBRARY, CudaLibrary

ROOT = Path(__file__).resolve().parents[2]
TYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1}


class Emulation:
    """A running emulation.cpp."""

    def __init__(self, program, has_half):
        self.has_half = has_half
        self.process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def _call(self, header, inputs, outputs):
        message = struct.pack("<13q", *header) + b"".join(np.ascontiguousarray(array).tobytes() for array in inputs)
        try:
            self.process.stdin.write(message)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        status = self.process.stdout.read(8)
        if len(status) < 8:
            pytest.fail(self.process.stderr.read().decode()[-3000:])
        if struct.unpack("<q", status)[0]:
            return struct.unpack("<q", status)[0]
        answers = []
        for shape, dtype in outputs:
            data = self.process.stdout.read(int(np.prod(shape)) * np.dtype(dtype).itemsize)
            answers.append(np.frombuffer(data, dtype).reshape(shape))
        return tuple(answers)

    def scan(self, case, steps_first=False, in_place=False):
        S, L, D, N = case.sizes
        inputs = dict(case.inputs)
        header = (0, TYPES[case.dtype], S, L, D, N, case.reverse, len(inputs["h0"]), *inputs["mask"].shape)
        if steps_first:
            inputs |= {name: inputs[name].swapaxes(0, 1) for name in ("u", "delta", "B", "C")}
        y_shape = (L, S, D) if steps_first else (S, L, D)
        answer = self._call(
            (*header, steps_first, in_place, 0), inputs.values(), [(y_shape, case.dtype), ((S, D, N), np.float32)]
        )
        if isinstance(answer, int):
            return answer
        y, h = answer
        return (y.swapaxes(0, 1) if steps_first else y), h

    def gate(self, logits, k):
        header = (1, TYPES[logits.dtype], logits.shape[0], 0, logits.shape[1], *[0] * 7, k)
        return self._call(header, [logits], [(logits.shape, logits.dtype)] * 2)


@pytest.fixture(scope="session")
def emulation(tmp_path_factory):
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler (c++) to build the emulation with")
    nvcc = shutil.which("nvcc")
    cuda = [f"-isystem{Path(nvcc).resolve().parents[1] / 'include'}", "-isystem/usr/local/cuda/include"] if nvcc else []
    program = tmp_path_factory.mktemp("emulation") / "emulation"
    flags = ["-std=c++17", "-Og", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-ffp-contract=off"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    includes = [f"-I{ROOT / 'plugins/include'}", f"-I{ROOT / 'plugins/cuda'}"]
    source = Path(__file__).with_name("emulation.cpp")
    built = subprocess.run(
        [compiler, *flags, *sanitizers, *includes, *cuda, str(source), "-o", str(program)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    running = Emulation(program, has_half=nvcc is not None)
    yield running
    running.process.stdin.close()
    errors = running.process.stderr.read().decode()
    assert running.process.wait() == 0, errors  # also: what the leak check says


# Each row differs from the first in one thing; the right column says why it is there.
SCAN_ROWS = {
    "odd sizes": {},
    "a first step that is the last": {"L": 1},
    "one sequence": {"S": 1},
    "one channel": {"D": 1},
    "one state": {"N": 1},
    "states that leave room in the registers": {"N": 5},
    "4 states": {"N": 4},
    "8 states": {"N": 8},
    "32 states": {"N": 32},
    "no history": {"initial_state": False},
    "a mask a step": {"mask_steps": 9, "masked": 0.4},
    "a mask a sequence": {"mask_rows": 5, "masked": 0.4},
    "a mask a sequence and step": {"mask_rows": 5, "mask_steps": 9, "masked": 0.4},
    "long steps": {"delta_mean": 3.0},
    "along track": {"S": 1024, "L": 8, "D": 16},
    "over the spectrum": {"S": 600, "L": 8, "D": 16, "initial_state": False},
    "across track": {"S": 8, "L": 1024, "D": 16, "initial_state": False},
    "across track, masked": {"S": 8, "L": 1024, "D": 16, "mask_rows": 8, "mask_steps": 1024, "masked": 0.1},
    "across track, the least expert": {"S": 4, "L": 512, "D": 4, "initial_state": False},
    "across track, more channels than a block": {"S": 3, "L": 200, "D": 19},
    "across track, 32 states": {"S": 2, "L": 257, "D": 5, "N": 32},
    "across track, slow decay": {"S": 4, "L": 1024, "D": 8, "delta_mean": -8.0},
    "more sequences than a warp, more steps than a chunk": {"S": 500, "L": 70, "D": 5},
}


@pytest.fixture(params=SCAN_ROWS.values(), ids=SCAN_ROWS.keys())
def scan_row(request):
    return request.param


class Gpu:
    """The kernels on a GPU, with torch to hold the arrays."""

    def __init__(self, torch, library):
        self.torch, self.library = torch, library

    def put(self, array):
        return self.torch.from_numpy(np.ascontiguousarray(array)).cuda()

    def empty(self, shape, dtype):
        # 0xff bytes are NaN: a number that a kernel forgot to write shows.
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        kind = self.torch.float16 if np.dtype(dtype) == np.float16 else self.torch.float32
        return self.torch.full((size,), 0xFF, dtype=self.torch.uint8, device="cuda").view(kind).view(shape)

    def stream(self):
        return self.torch.cuda.current_stream().cuda_stream

    def scan(self, case, steps_first=False, in_place=False):
        S, L, D, N = case.sizes
        arrays = {name: self.put(array) for name, array in case.inputs.items()}
        y, h = self.empty((S, L, D), case.dtype), self.empty((S, D, N), np.float32)
        if steps_first:
            for name in ("u", "delta", "B", "C"):
                arrays[name] = arrays[name].transpose(0, 1).contiguous().transpose(0, 1)
            y = self.empty((L, S, D), case.dtype).transpose(0, 1)
        if in_place:
            h = arrays["h0"]
        self.library.selective_scan(**arrays, reverse=case.reverse, y=y, h=h, stream=self.stream())
        return y.cpu().numpy(), h.cpu().numpy()

    def gate(self, logits, k):
        weights, active = self.empty(logits.shape, logits.dtype), self.empty(logits.shape, logits.dtype)
        self.library.expert_gate(self.put(logits), k, weights=weights, active=active, stream=self.stream())
        return weights.cpu().numpy(), active.cpu().numpy()


@pytest.fixture(scope="session")
def cuda_library():
    built = ROOT / "build/cuda/plugins/cuda" / CUDA_LIBRARY
    library = built if built.is_file() else find_library(CUDA_LIBRARY)
    if library is None:
        pytest.skip(f"{CUDA_LIBRARY} is not built: make native-cuda")
    return CudaLibrary(library)


@pytest.fixture(scope="session")
def gpu(cuda_library):
    torch = pytest.importorskip("torch", reason="torch holds the arrays of the GPU tests and is not installed")
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU, or a torch without CUDA: the kernels were compiled but are not run here")
    return Gpu(torch, cuda_library)
