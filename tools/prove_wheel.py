"""Prove a wheel on another Debian: install it there, fly a strip, and compare with what this machine says.

    make prove-arm64
    python tools/prove_wheel.py bookworm-aarch64 bookworm-x86_64 trixie-x86_64 --bundle demo/indian-pines.hlb --op-tests

The other Debian is a minimal one in a folder (tools/chroot.py), under qemu where its machine is another. It gets the
wheel of `make wheels` and, from the package index, the releases of numpy, onnxruntime and so on that its pip would
take, and no compiler and no sources. There it must verify a bundle, fly a scene with `hyperline run`, answer with the
labels and logits of this machine within the bars below, and pass the operators' own tests.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from chroot import PYTHONS, ROOT, Chroot, download, make_chroot
from wheels import tag

from hyperline.scenes import read_scene

# What the operators' tests need beside hyperline; without torch, one test of gradients is left out, and says so.
TEST_PACKAGES = ("pytest", "hypothesis", "onnx")
# The first has dot products of bytes, as Orin and Thor have, the second has none: other INT8 kernels.
EMULATED_CPUS = {"aarch64": ("max", "cortex-a72")}
# fp32: only the order of sums differs. An INT8 model rounds activations to 255 levels, and where float32 is on an edge
# the last bit decides on a whole level: its logits are reported, its labels judged.
MIN_EQUAL_LABELS = {"fp32": 0.9999, "int8": 0.999}
MAX_LOGIT_DIFFERENCE = {"fp32": 1e-4}

_VERSIONS = """
import platform, numpy, onnxruntime
print(platform.machine(), "glibc", platform.libc_ver()[1], "Python", platform.python_version(), end=" ")
print("numpy", numpy.__version__, "onnxruntime", onnxruntime.__version__)
"""


@dataclass(frozen=True)
class Flight:
    """What one machine said.

    Attributes:
        outputs: of tools/strip_outputs.py.
        classes: the map of `hyperline run`, as bytes.
    """

    outputs: dict[str, np.ndarray]
    classes: bytes


def main() -> None:
    """Fly here and there, and compare; any difference above the bars ends with a non-zero exit code."""
    places = [f"{suite}-{machine}" for suite in PYTHONS for machine in ("x86_64", "aarch64")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", nargs="+", choices=places, metavar="PLACE", help=", ".join(places))
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--scene", default="indian-pines", help="that the bundle can fly")
    parser.add_argument("--op-tests", action="store_true", help="run the operators' tests there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "scene.npz"
        read = read_scene(options.scene)
        np.savez(scene, cube=np.asarray(read.cube))
        here = fly_here(Path(folder), find_wheel("x86_64"), options.bundle, scene)
        for place in options.place:
            suite, machine = place.split("-")
            chroot = make_chroot(suite, machine)
            there = fly_there(chroot, find_wheel(machine), options.bundle, scene, options.op_tests)
            compare(here, there)


def find_wheel(machine: str) -> Path:
    """Return the wheel for a machine, of `make wheels`."""
    found = sorted((ROOT / "dist").glob(f"hyperline-*-{tag(machine)}.whl"))
    if len(found) != 1:
        sys.exit(f"dist has {len(found)} wheels for {machine}: run `make wheels` in an empty dist")
    return found[0]


def fly_here(folder: Path, wheel: Path, bundle: Path, scene: Path) -> Flight:
    """Fly the strip on this machine, with the wheel in an environment of its own."""
    print(f"here: {wheel.name}")
    python = folder / "venv" / "bin" / "python"
    _here([sys.executable, "-m", "venv", folder / "venv"])
    install = ["install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt", wheel]
    _here([python, "-m", "pip", *install])
    hyperline = python.with_name("hyperline")
    strip, outputs = folder / "strip", folder / "outputs.npz"
    _here([hyperline, "run", bundle.resolve(), "--source", scene, "--out", strip, "--no-picture"], folder)
    print(f"  {_here([python, ROOT / 'tools/strip_outputs.py', bundle.resolve(), scene, outputs], folder).strip()}")
    return _read(outputs, strip)


def fly_there(chroot: Chroot, wheel: Path, bundle: Path, scene: Path, op_tests: bool) -> Flight:
    """Install the wheel in the other Debian, and do there what was done here."""
    print(f"{chroot.suite} on {chroot.machine}: {wheel.name}", flush=True)
    wheels = chroot.folder / "wheels"
    for stale in wheels.glob("hyperline-*.whl"):
        stale.unlink()
    download(wheels, chroot, [str(wheel), *(TEST_PACKAGES if op_tests else ())])
    proof = chroot.fresh("/proof")
    for file in (bundle, scene, ROOT / "tools" / "strip_outputs.py"):
        shutil.copy(file, proof / file.name)
    python = "/proof/venv/bin/python"
    chroot.run(["python3", "-m", "venv", "/proof/venv"])
    offline = ["install", "--quiet", "--no-compile", "--no-index", "--find-links", "/wheels"]
    chroot.run([python, "-m", "pip", *offline, f"/wheels/{wheel.name}", *(TEST_PACKAGES if op_tests else ())])
    print(f"  {chroot.run([python, '-c', _VERSIONS]).strip()}")
    hyperline = "/proof/venv/bin/hyperline"
    print(f"  {chroot.run([hyperline, '--version']).strip()}; hyperline verify: ", end="")
    print(chroot.run([hyperline, "verify", bundle.name], "/proof").splitlines()[0])
    flown = chroot.run(
        [hyperline, "run", bundle.name, "--source", scene.name, "--out", "strip", "--no-picture"], "/proof"
    )
    print(f"  hyperline run: {flown.strip().splitlines()[0].strip()}", flush=True)
    print(f"  {chroot.run([python, 'strip_outputs.py', bundle.name, scene.name, 'outputs.npz'], '/proof').strip()}")
    if op_tests:
        shutil.copytree(ROOT / "tests" / "plugins", proof / "tests" / "plugins")
        shutil.copy(ROOT / "tests" / "conftest.py", proof / "tests")
        shutil.copy(ROOT / "pyproject.toml", proof)
        tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--override-ini=addopts=", "tests/plugins"]
        for cpu in EMULATED_CPUS.get(chroot.machine, ("",)):
            environment = {"CI": "1", "OMP_NUM_THREADS": "1"} | ({"QEMU_CPU": cpu} if cpu else {})
            tested = (
                chroot.run([*tests, "--import-mode=importlib", "-rs"], "/proof", **environment).strip().splitlines()
            )
            skipped = [line for line in tested if line.startswith("SKIPPED")]
            print(f"  tests/plugins{cpu and f' as {cpu}'}: {'; '.join([tested[-1].strip('= '), *skipped])}", flush=True)
    return _read(proof / "outputs.npz", proof / "strip")


def compare(here: Flight, there: Flight) -> None:
    """Print how far two flights differ; end the program where that is more than the bars allow."""
    failed = []
    for precision in (name.removesuffix("_labels") for name in here.outputs if name.endswith("_labels")):
        labels, others = (flight.outputs[f"{precision}_labels"] for flight in (here, there))
        logits, other_logits = (flight.outputs[f"{precision}_logits"] for flight in (here, there))
        equal = float(np.mean(labels == others))
        off = float(np.max(np.abs(logits - other_logits)))
        print(f"  {precision}: {equal:.4%} of {labels.size} labels equal, logits within {off:.1e}", flush=True)
        # `not <=` so that a NaN fails.
        if equal < MIN_EQUAL_LABELS[precision] or not off <= MAX_LOGIT_DIFFERENCE.get(precision, np.inf):
            failed.append(precision)
    mapped = float(np.mean(np.frombuffer(here.classes, np.uint8) == np.frombuffer(there.classes, np.uint8)))
    print(f"  classes.img: {mapped:.4%} of its pixels equal")
    if failed or mapped < MIN_EQUAL_LABELS["fp32"]:
        sys.exit(f"they differ too much: {', '.join(failed) or 'classes.img'}")


def _read(outputs: Path, strip: Path) -> Flight:
    with np.load(outputs) as held:
        flight = Flight({name: held[name] for name in held.files}, (strip / "classes.img").read_bytes())
    # Two ways through the same lines on one machine; where they part, the comparison of machines is worth nothing.
    if flight.outputs["fp32_labels"].tobytes() != flight.classes:
        sys.exit(f"{outputs} has other labels than {strip / 'classes.img'}")
    return flight


def _here(arguments: list[object], folder: Path = ROOT) -> str:
    command = [str(part) for part in arguments]
    ended = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ended.returncode:
        sys.exit(f"{' '.join(command)}:\n{ended.stdout}")
    return ended.stdout


if __name__ == "__main__":
    main()
