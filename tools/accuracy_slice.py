"""The accuracy page's path in minutes: protocols, processes, cells, an interruption, tables, pictures.

    make accuracy-slice

One seed, few models and epochs, on Indian Pines, a made-up scene and made-up plots of two sites: the figures mean
nothing. The first command is stopped after its first cells; the second must go on with what is there, and end in less
than five minutes on two cores.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "accuracy-slice"
_CELLS_BEFORE_STOP = 2
_MINUTES = 5

_SMALL = "settings = {channels = 16, experts = [4, 4, 4, 4], state = 4, spectral_groups = 4, spectral_inner = 4}"
_FIELDS = f"""
name = "Made up"
role = "tuning"

[[experiment]]
title = "Fields, halves"
scene = "fields.npz"
split = "halves"
labels_per_class = 10
seeds = 1
epochs = 4
models = ["small", "lda-mnf", "svm-spectra"]

[[experiment]]
title = "Plots, another site"
scene = "plots.npz"
split = "sites"
train_site = "HILL"
test_site = "DALE"
labels_per_class = 10
seeds = 1
epochs = 4
models = ["small", "lda-mnf"]

[[model]]
name = "small"
title = "A small MambaMoE"
network = "mambamoe"
{_SMALL}
"""
_INDIAN_PINES = f"""
name = "Indian Pines"
role = "reported"

[[experiment]]
title = "Random pixels"
scene = "indian-pines"
split = "random"
labels_per_class = 15
seeds = 1
epochs = 2
models = ["small", "lda-mnf", "svm-mnf"]

[[model]]
name = "small"
title = "A small MambaMoE"
network = "mambamoe"
{_SMALL}
"""


def main() -> None:
    """Run the slice; ends with an exit code other than 0 where something is not as it should be."""
    began = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    make_scenes()
    (FOLDER / "made-up.toml").write_text(_FIELDS)
    (FOLDER / "indian-pines.toml").write_text(_INDIAN_PINES)
    command = [str(Path(sys.executable).parent / "hyperline"), "benchmark"]
    command += [str(FOLDER / name) for name in ("made-up.toml", "indian-pines.toml")]
    command += ["--out", str(FOLDER / "out"), "--page", str(FOLDER / "page" / "accuracy.md"), "--workers", "2"]
    held = interrupted(command)
    print(f"stopped with {len(held)} cells after {time.monotonic() - began:.0f} s", flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    again = [name for name, written in held.items() if (FOLDER / "out/cells" / name).stat().st_mtime_ns != written]
    expect(not again, f"{again} were measured twice")
    expect(len(list((FOLDER / "out/cells").glob("*.json"))) == 8, "not every cell was kept")
    page = (FOLDER / "page/accuracy.md").read_text()
    for wanted in ("### Fields, halves", "### Plots, another site", "### Random pixels", "lines/s", "parameters"):
        expect(wanted in page, f"the page lacks {wanted!r}")
    expect(page.count("The best shallow baseline at the same latency is") == 3, "the page judges not every experiment")
    for name in ("accuracy.png", "accuracy-cost.png"):
        expect((FOLDER / "page" / name).stat().st_size > 5000, f"{name} is empty")
    minutes = (time.monotonic() - began) / 60
    print(f"the accuracy slice took {minutes:.1f} minutes", flush=True)
    expect(minutes < _MINUTES or os.getloadavg()[0] > 3, f"it may take {_MINUTES} on two cores of its own")


def interrupted(command: list[str]) -> dict[str, int]:
    """Start the command, stop it once it has cells, and return these with the time of their writing."""
    cells = FOLDER / "out/cells"
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while running.poll() is None and len(list(cells.glob("*.json"))) < _CELLS_BEFORE_STOP:
        time.sleep(0.1)
    expect(running.poll() is None, "the command ended before it could be stopped")
    os.killpg(running.pid, signal.SIGKILL)  # with its workers, as a power cut would
    running.wait()
    return {file.name: file.stat().st_mtime_ns for file in cells.glob("*.json")}


def make_scenes() -> None:
    """Write fields of three materials, and plots of the same on two sites."""
    rng = np.random.default_rng(0)
    spectra = rng.normal(size=(3, 24)).cumsum(axis=1)
    place = np.indices((48, 40))
    fields = ((place[0] // 8 + place[1] // 10) % 3).astype(np.uint8)
    cube = spectra[fields] + 0.05 * rng.normal(size=(*fields.shape, 24))
    np.savez(FOLDER / "fields.npz", cube=cube.astype(np.float32), labels=fields + 1)
    plots = rng.integers(0, 3, size=(6, 20, 20)).repeat(4, 1)[:, :20].repeat(4, 2)[..., :20].astype(np.uint8)
    cubes = spectra[plots] + 0.05 * rng.normal(size=(*plots.shape, 24))
    np.savez(
        FOLDER / "plots.npz",
        cube=cubes.astype(np.float32),
        labels=plots + 1,
        plot_ids=np.array([f"{site}_{number}" for site in ("HILL", "DALE") for number in range(3)]),
        class_names=np.array(["unlabelled", "oak", "pine", "elm"]),
    )


def expect(holds: bool, otherwise: str) -> None:
    """End with a reason where something does not hold."""
    if not holds:
        sys.exit(f"accuracy slice: {otherwise}")


if __name__ == "__main__":
    main()
