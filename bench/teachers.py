"""How much of a network's accuracy is that of its shallow teachers: what these say of the test pixels by themselves.

    python bench/teachers.py --seeds 10

Teachers see the whole training strip and need no deployment (train/teacher.py); no stream has what they have. On the
splits of the protocols whose test pixels lie on the training strip; a scene that is missing is skipped, and said.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from timing import processor

from hyperline.machine import cpus
from hyperline.metrics import Metrics
from hyperline.train.benchmark.protocol import Experiment, available, read_protocol
from hyperline.train.benchmark.work import read_task
from hyperline.train.teacher import shallow_opinions

_PROTOCOLS = Path(__file__).parent / "protocols"


def accuracy(experiment: Experiment, seed: int) -> tuple[float, float]:
    """Return OA of the mixed opinions, as they are and carried along the strip."""
    task = read_task(experiment, seed)
    found = []
    for carry in (False, True):
        (opinion,) = shallow_opinions(task.strips, task.classes, seed, carry)
        assert opinion is not None, "the scenes here are small"
        said = (opinion.argmax(-1) + 1).astype(np.uint8)
        found.append(Metrics.from_maps(task.judged[0][1], said, task.classes).oa)
    return found[0], found[1]


def main() -> None:
    """Print a row for each experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    protocols, skipped = available([read_protocol(_PROTOCOLS / f"{name}.toml") for name in ("indian-pines", "halves")])
    print(f"OA in %, mean ± standard deviation of {options.seeds} seeds, the whole strip in view; {processor()}\n")
    print("| experiment | teachers | carried along |\n|---|---|---|")
    with ProcessPoolExecutor(cpus()) as pool:
        for experiment in (one for protocol in protocols for one in protocol.experiments):
            seeds = range(options.seeds)
            found = 100 * np.array(list(pool.map(accuracy, [experiment] * options.seeds, seeds)))
            cells = [f"{column.mean():.1f} ± {column.std(ddof=1):.1f}" for column in found.T]
            print(f"| {experiment.title} | {' | '.join(cells)} |", flush=True)
    for one in skipped:
        print(f"not measured: {one}")


if __name__ == "__main__":
    main()
