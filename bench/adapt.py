"""Measure what adaptation learns and what it forgets, beside plain fine-tuning.

    python bench/adapt.py --out docs/results/adapt.md [--seeds 10] [--scene indian-pines] [--cells build/adapt]

Two tasks on each scene. *Classes*: a network learns a part of the classes (10 of 16), then the others, whose labels
were hidden, from the same scene. *Flight*: it learns the upper half of the scene, then the lower half as another flight
saw it; that flight is simulated, by a gain and an offset that vary smoothly from band to band. All see the same new
labels and start from the same network, but for the last: trained anew on the old and the new labels together, which is
what adapting can hope for. A cell is a task, scene and seed; cells that are there are not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyperline.scenes import Scene, read_scene
from hyperline.splits import Split, random_split
from hyperline.train.adapt.run import HELD, PLAIN, REHEARSED, Adaptation, adapt_config, begin_adaptation
from hyperline.train.benchmark.table import paired_difference
from hyperline.train.models import network_config
from hyperline.train.network import Network
from hyperline.train.run import STREAMED_BLOCK_LINES
from hyperline.train.trainer import TrainConfig, predict, start, train

OWN_ANSWERS = Adaptation(share=None)
WAYS = {
    "rehearsal": REHEARSED,
    "null space, old labels unknown": HELD,
    "old network's own answers alone": OWN_ANSWERS,
    "plain fine-tuning": PLAIN,
}
ANEW = "trained anew on all labels"
_OLD_SHARE = 10 / 16  # of the classes
_LEVEL, _TILT, _OFFSET = 0.1, 0.1, 0.05  # deviations of gain, of gain by band, and of offset over the mean spectrum
_KNOTS = 8

Cell = dict[str, dict[str, float]]


def main() -> None:
    """Measure the cells that are missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="report to write")
    parser.add_argument("--scene", nargs="+", default=["indian-pines"])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--labels-per-class", type=int, default=15)
    parser.add_argument("--cells", type=Path, default=Path("build/adapt"))
    parser.add_argument("--machine", default="two AMD EPYC cores")
    options = parser.parse_args()
    options.cells.mkdir(parents=True, exist_ok=True)

    scenes = " ".join(Path(one).name for one in options.scene)
    parts = [
        "# Adaptation\n",
        f"`python bench/adapt.py --seeds {options.seeds} --scene {scenes}`, {options.machine}, one thread. OA in %, in "
        f"blocks of {STREAMED_BLOCK_LINES} lines, on labelled pixels that no training saw; {options.labels_per_class} "
        "labels a class; mean ± standard deviation over the seeds; in brackets the 95 % interval of the mean of "
        "differences seed by seed. See docs/adapt.md.\n",
    ]
    for spec in options.scene:
        scene = read_scene(spec)
        for task in options.tasks:
            cells = []
            for seed in range(options.seeds):
                path = options.cells / f"{scene.name}-{task}-{options.labels_per_class}-{seed}.json"
                if not path.exists():
                    found = measure(*TASKS[task](scene, seed), options.labels_per_class, seed)
                    path.write_text(json.dumps(found))
                cells.append(json.loads(path.read_text()))
                print(scene.name, task, seed, json.dumps(cells[-1]), flush=True)
            parts.append(report(f"{scene.name}: {TITLES[task]}", cells))
    options.out.write_text("\n".join(parts))


def new_classes(scene: Scene, seed: int) -> tuple[Scene, Scene]:
    """Number the classes anew, in an order drawn by the seed, and divide their labels."""
    assert scene.labels is not None
    classes = int(scene.labels.max())
    order = np.random.default_rng([seed, 16]).permutation(classes)
    table = np.zeros(256, np.uint8)
    table[order + 1] = np.arange(1, classes + 1)
    labels = table[scene.labels]
    known = round(_OLD_SHARE * classes)
    names = tuple(scene.class_names[one] for one in order)
    old = replace(scene, labels=np.where(labels <= known, labels, 0).astype(np.uint8), class_names=names[:known])
    return old, replace(scene, labels=np.where(labels > known, labels, 0).astype(np.uint8), class_names=names)


def new_flight(scene: Scene, seed: int) -> tuple[Scene, Scene]:
    """Cut the scene in two, and let light and sensor change between the halves."""
    assert scene.labels is not None
    half = scene.lines // 2
    upper, lower = (np.asarray(cube, np.float32) for cube in (scene.cube[:half], scene.cube[half:]))
    rng = np.random.default_rng([seed, 17])

    def smooth(deviation: float) -> NDArray[np.float64]:
        knots = rng.normal(0, deviation, _KNOTS)
        return np.interp(np.linspace(0, _KNOTS - 1, scene.bands), np.arange(_KNOTS), knots)

    gain = np.exp(rng.normal(0, _LEVEL) + smooth(_TILT))
    offset = smooth(_OFFSET) * upper.mean((0, 1))
    changed = (lower * gain + offset).astype(np.float32)
    return replace(scene, cube=upper, labels=scene.labels[:half]), replace(
        scene, cube=changed, labels=scene.labels[half:]
    )


TASKS: dict[str, Callable[[Scene, int], tuple[Scene, Scene]]] = {"classes": new_classes, "flight": new_flight}
TITLES = {"classes": "new classes", "flight": "a new flight (simulated)"}


def measure(old: Scene, new: Scene, labels_per_class: int, seed: int) -> Cell:
    """Train on the old scene and adapt to the new one in every way; returns OA of both scenes, by way."""
    assert old.labels is not None and new.labels is not None
    classes = len(new.class_names)
    learnt, later = (random_split(one.labels, labels_per_class, seed, one.class_names) for one in (old, new))
    config = TrainConfig(threads=1, seed=seed)
    strips = [(old, learnt.train)]
    size = network_config("mambamoe", bands=old.bands, classes=len(old.class_names))
    base = train(start(strips, size, config), strips, config)

    def judge(network: Network) -> dict[str, float]:
        return {"old": accuracy(network, old, learnt), "new": accuracy(network, new, later)}

    found = {"before": judge(base)}
    for way, adaptation in WAYS.items():
        if adaptation == OWN_ANSWERS and classes == len(old.class_names):
            continue  # no class is added: the same as plain fine-tuning
        changes = adapt_config(seed, adaptation, threads=1)
        known = [(old, learnt.train)]
        state, seen = begin_adaptation(base, known, new, later, classes, changes, adaptation)
        found[way] = judge(train(state, seen, changes))
        if adaptation.rehearse:
            larger = replace(size, classes=classes)
            found[ANEW] = judge(train(start(seen, larger, config), seen, config))
    return found


def accuracy(network: Network, scene: Scene, split: Split) -> float:
    """Return the share of test pixels that are right, streamed."""
    judged = split.test > 0
    return float((predict(network, scene, STREAMED_BLOCK_LINES) == split.test)[judged].mean())


def report(title: str, cells: list[Cell]) -> str:
    """Lay out a table: a row a way."""
    lines = [
        f"## {title}\n",
        "| | old scene | change on the old scene | new | new, less plain fine-tuning |",
        "|---|---|---|---|---|",
    ]
    for way in cells[0]:
        old, new = ([100 * cell[way][side] for cell in cells] for side in ("old", "new"))
        before = [100 * cell["before"]["old"] for cell in cells]
        plain = [100 * cell["plain fine-tuning"]["new"] for cell in cells]
        change = "" if way == "before" else difference(old, before)
        against = "" if way in ("before", "plain fine-tuning") else difference(new, plain)
        lines.append(f"| {way} | {spread(old)} | {change} | {spread(new)} | {against} |")
    return "\n".join([*lines, "", f"{len(cells)} seeds.\n"])


def spread(values: list[float]) -> str:
    """Write mean and standard deviation."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.1f} ± {deviation:.1f}"


def difference(values: list[float], reference: list[float]) -> str:
    """Write the mean of differences and its interval."""
    found = paired_difference(values, reference)
    return f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


if __name__ == "__main__":
    main()
