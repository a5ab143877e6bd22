"""Measure what this machine can measure, and write the page of results.

    make results                                   # what takes minutes
    make results LONG=1                            # and what takes hours
    python tools/results.py --only speed guards    # some of it
    python tools/results.py --page                 # nothing: the page anew, of what was measured before

Each measurement is a command of this repository. Its output goes, word for word, behind a line with the command and one
with the day, the commit and the machine, to docs/results/NAME.txt; docs/results/README.md lists all of them, also those
that this machine cannot run, with what they lack. A figure of code that nobody can look up is worth nothing: with
uncommitted changes nothing is measured, but for --dirty, which the output then says. A measurement that fails leaves
its old output.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hyperline.environment import environment

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
_WHOLE_LINES = 24  # of an output that the page shows; a longer one is linked


@dataclass(frozen=True)
class Measurement:
    """One thing that is measured.

    Attributes:
        name: of its output.
        title: what it says.
        command: that measures it, from the root of the repository.
        before: commands that make what it needs.
        minutes: that it takes on two cores, about.
        lacks: says what it needs and this machine has not, if anything.
        page: that it writes itself beside its output, in docs/results.
    """

    name: str
    title: str
    command: str
    before: tuple[str, ...] = ()
    minutes: float = 1
    lacks: Callable[[], str | None] = lambda: None
    page: str | None = None


def _program(name: str, package: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(name) else f"{name} (Debian: {package})"


def _gpu() -> str | None:
    return None if Path("/dev/nvidiactl").exists() or Path("/dev/nvgpu").exists() else "an NVIDIA GPU"


def _debian() -> str | None:
    found = os.geteuid() == 0 and shutil.which("debootstrap") and shutil.which("aarch64-linux-gnu-g++")
    return None if found else "root, and debootstrap and g++-aarch64-linux-gnu of Debian"


def _another_debian() -> str | None:
    found = _debian() is None and shutil.which("qemu-aarch64-static") and shutil.which("update-binfmts")
    return None if found else "root, and debootstrap, g++-aarch64-linux-gnu, qemu-user-static, binfmt-support of Debian"


def _scenes() -> str | None:
    return None if os.environ.get("HYPERLINE_SCENES") else "a folder of scenes: HYPERLINE_SCENES=FOLDER"


def _aravis() -> str | None:
    if importlib.util.find_spec("gi") is None:
        return "PyGObject (make gige)"
    return _program("arv-fake-gv-camera-0.8", "aravis-tools")()


_TRAINED = (
    "hyperline train indian-pines --out build/results/run --overwrite",
    "hyperline export build/results/run --out build/results/trained.hlb --overwrite",
    "hyperline calibrate build/results/trained.hlb --lines indian-pines --precision int8",
)
_FLOWN = (
    "test -e demo/indian-pines.hlb || make demo",
    "cp demo/indian-pines.hlb build/results/flown.hlb",
    "hyperline calibrate build/results/flown.hlb --lines indian-pines --precision int8",
)
_MINUTES = 8  # a measurement that takes more is a long one

MEASUREMENTS = (
    Measurement(
        "demo",
        "The demo, and the picture of the front page",
        "hyperline demo --out build/results/demo "
        "&& cp build/results/demo/strip/classes.png docs/results/indian-pines.png",
        minutes=3,
    ),
    Measurement(
        "step",
        "How fast a step is at a sensor's full frame, beside the arithmetic floor and the plain ONNX functions",
        "python bench/step.py --threads 2 --seconds 20",
    ),
    Measurement(
        "precisions",
        "Float32, INT8 and FP16 in turns, and where the time goes",
        "python bench/precisions.py --threads 2 --seconds 20",
    ),
    Measurement("ops", "The selective scan, beside PyTorch's and ONNX's", "python bench/ops.py", minutes=3),
    Measurement("quantized", "The INT8 layers, beside float32 and ONNX Runtime's own", "python bench/quantized.py"),
    Measurement(
        "training", "An epoch of training, by implementation of the scan", "python bench/training.py", minutes=2
    ),
    Measurement(
        "explain",
        "Deleting the bands that an explanation names, beside gradient times input and random bands",
        'OMP_NUM_THREADS=1 python bench/explain.py --data "$HYPERLINE_SCENES"',
        lacks=_scenes,
        minutes=4,
    ),
    Measurement(
        "sites",
        "What limits a model at another site: labels, spectra or the site",
        'OMP_NUM_THREADS=1 python -W ignore bench/sites.py --data "$HYPERLINE_SCENES"',
        lacks=_scenes,
        minutes=8,
    ),
    Measurement("radiometry", "The radiometry of a line, beside copying it", "python bench/radiometry.py"),
    Measurement("wire", "Receiving a line over TCP", "python bench/wire.py"),
    Measurement(
        "links", "What dead and slow links cost the loop", "OMP_NUM_THREADS=1 python bench/links.py", minutes=2
    ),
    Measurement(
        "guards",
        "What the guards against flipped bits cost at full speed",
        "python bench/flight.py --guards-cost --seconds 60 --threads 2",
        minutes=2,
    ),
    Measurement(
        "records",
        "What keeping quicklook, uncertainty and experts costs",
        "python bench/records.py --seconds 60",
        minutes=2,
    ),
    Measurement(
        "view",
        "What viewers cost the loop, and whether they miss a line",
        "python bench/view.py --seconds 6 --turns 3",
        lacks=_program("chromium", "chromium"),
        minutes=7,
    ),
    Measurement(
        "overhead",
        "What the bench's own instruments cost, and whether a recorder of its own agrees",
        "python bench/overhead.py --threads 2 --seconds 60",
        minutes=5,
    ),
    Measurement(
        "teachers",
        "How much of a network's accuracy is that of its shallow teachers",
        "python -W ignore bench/teachers.py --seeds 10",
        minutes=8,
    ),
    Measurement(
        "gige",
        "A GigE Vision camera at its highest rate: every frame id accounted for",
        "OMP_NUM_THREADS=1 python bench/gige.py --seconds 60",
        lacks=_aravis,
        minutes=3,
    ),
    Measurement("gpu", "The CUDA kernels, beside the bytes that they must move", "python bench/gpu_ops.py", lacks=_gpu),
    Measurement(
        "flight",
        "Half an hour at a sensor's full frame and rate",
        "python bench/flight.py --seconds 1800 --rate 330 --precision int8",
        minutes=31,
    ),
    Measurement(
        "arm64",
        "The wheel for 64-bit ARM on an emulated Debian, beside this machine",
        "python tools/prove_wheel.py bookworm-aarch64 --bundle build/results/flown.hlb --op-tests",
        before=("make wheels", *_FLOWN),
        lacks=_another_debian,
        minutes=20,
    ),
    Measurement(
        "debian",
        "The wheel on minimal Debian 12 and 13, beside this machine",
        "python tools/prove_wheel.py bookworm-x86_64 trixie-x86_64 --bundle build/results/flown.hlb --op-tests",
        before=("make wheels", *_FLOWN),
        lacks=_debian,
        minutes=10,
    ),
    Measurement(
        "debian12-sources",
        "The sources on a minimal Debian 12: demo, linters and all tests",
        "python tools/prove_sources.py bookworm --demo",
        before=("make wheels",),
        lacks=_debian,
        minutes=30,
    ),
    Measurement(
        "debian13-sources",
        "The same on Debian 13, with PyTorch's build for GPUs, of which nothing is needed",
        "python tools/prove_sources.py trixie --demo",
        before=("make wheels",),
        lacks=_debian,
        minutes=30,
    ),
    Measurement(
        "stopwatch",
        "From a clean minimal Debian to a map of a scene of one's own, by the documentation alone",
        'python tools/stopwatch.py "$HYPERLINE_SCENES/hysu"',
        before=("make wheels",),
        lacks=lambda: _debian() or _scenes(),
        minutes=12,
    ),
    Measurement(
        "adapt",
        "What adaptation learns and what it forgets, over ten seeds",
        "OMP_NUM_THREADS=1 python bench/adapt.py --out docs/results/adapt.md "
        '--scene "$HYPERLINE_SCENES/indian_pines/indian_pines.npz"',
        lacks=_scenes,
        minutes=40,
        page="adapt.md",
    ),
    Measurement(
        "kills",
        "A thousand kills at any moment, and the same bytes",
        "HYPERLINE_KILLS=1000 pytest -p no:cacheprovider -rP tests/runtime/test_survival.py -k killed",
        minutes=10,
    ),
    Measurement(
        "bitflips-int8",
        "Flipped bits, INT8, with guards and without",
        "python bench/bitflips.py build/results/trained.hlb indian-pines --precision int8 --trials 250",
        before=_TRAINED,
        minutes=20,
        page="bitflips.md",
    ),
    Measurement(
        "fuzz",
        "A million damaged headers, packets and bundles",
        "python tools/fuzz.py headers packets bundles --inputs 340000",
        minutes=60,
    ),
    Measurement(
        "calibration",
        "What INT8 and FP16 cost in accuracy, over scenes and seeds",
        "python bench/calibration.py --data $HYPERLINE_SCENES --seeds 3",
        lacks=_scenes,
        minutes=90,
        page="calibration.md",
    ),
)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [one.name for one in MEASUREMENTS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--long", action="store_true", help="also what takes hours")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--dirty", action="store_true", help="measure with uncommitted changes")
    options = parser.parse_args()
    chosen = [] if options.page else [one for one in MEASUREMENTS if _is_wanted(one, options.only, options.long)]
    if chosen and _changed() and not options.dirty:
        sys.exit("there are uncommitted changes: commit them first, or give --dirty, which the results will say")
    failed = [one.name for one in chosen if not _measure(one)]
    (RESULTS / "README.md").write_text(page())
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; the outputs before stand")


def _is_wanted(one: Measurement, only: list[str] | None, long: bool) -> bool:
    if only is not None:
        return one.name in only
    return long or one.minutes <= _MINUTES


def _measure(one: Measurement) -> bool:
    """Run a measurement and keep its output; whether it did not fail."""
    lack = one.lacks()
    if lack is not None:
        print(f"{one.name}: skipped, it needs {lack}", flush=True)
        return True
    print(f"{one.name}: {one.command}", flush=True)
    header = f"$ {one.command}\n# {_circumstances()}\n"
    (ROOT / "build" / "results").mkdir(parents=True, exist_ok=True)
    # The commands are found in the environment that this runs in.
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    start = time.monotonic()
    for command in (*one.before, one.command):
        ended = subprocess.run(
            command, shell=True, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if ended.returncode:
            print(f"{ended.stdout}{one.name}: exit code {ended.returncode} of {shlex.quote(command)}", flush=True)
            return False
    header = header.rstrip("\n") + f"; took {time.monotonic() - start:.0f} s\n\n"
    (RESULTS / f"{one.name}.txt").write_text(header + ended.stdout.replace(f"{ROOT}/", ""))
    return True


def _circumstances() -> str:
    """Say when, on what code and on what machine."""
    facts = environment()
    commit = _git("rev-parse", "--short", "HEAD") + (" with uncommitted changes" if _changed() else "")
    gpu = f", {', '.join(facts['gpu']['devices'])}" if facts["gpu"] else ""
    return (
        f"{datetime.date.today().isoformat()}, commit {commit}; {facts['cpu']['model']}, {facts['cpu']['usable']} cores"
        f"{gpu}, {facts['os']}, load {facts['load'][0]:.1f} before"
    )


def _changed() -> bool:
    """Say whether what is measured differs from the commit; results themselves do not count."""
    return bool(_git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/results"))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout.strip()


def page() -> str:
    """Return docs/results/README.md: every measurement, with what is there of it."""
    parts = [
        "# Measured results\n",
        "Made by `make results` (and `make results LONG=1` for what takes hours). Each output stands as its command "
        "printed it, with the day, the commit and the machine where it takes them down. Where other work shared the "
        "machine, its load says so, "
        "and only ratios within one output are to be trusted. Accuracy has a page and a command of its own: "
        "[docs/accuracy.md](../accuracy.md), `make accuracy`.\n",
    ]
    for one in MEASUREMENTS:
        file = RESULTS / f"{one.name}.txt"
        parts.append(f"## {one.title}\n")
        if file.exists():
            lines = file.read_text().rstrip("\n").splitlines()
            if len(lines) <= _WHOLE_LINES:
                parts.append("\n".join(f"    {line}".rstrip() for line in lines) + "\n")
            else:
                head = "\n".join(f"    {line}".rstrip() for line in lines[:2])
                parts.append(f"{head}\n\n[{file.name}]({file.name}), {len(lines) - 2} lines.\n")
        else:
            parts.append(f"    $ {one.command}\n\nNot in this form yet{_reason(one)}.\n")
        if one.page is not None and (RESULTS / one.page).exists():
            parts.append(f"In full: [{one.page}]({one.page}).\n")
    return "\n".join(parts)


def _reason(one: Measurement) -> str:
    lack = one.lacks()
    return f": it needs {lack}" if lack is not None else ""


if __name__ == "__main__":
    main()
