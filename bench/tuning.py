"""Choose hyper-parameters on scenes that no figure is reported for: one change a row, few labels, few seeds.

    python bench/tuning.py --data ../shared/data                          # every row and scene: an hour and a half
    python bench/tuning.py --data ../shared/data --rows "standard" "no consistency"

Results are kept in the cache of bench/accuracy.py; bench/tuning.md says what was concluded.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
from accuracy import Job, Row, run_job

ROWS = (
    Row("standard"),
    Row("no consistency", train={"consistency": 0.0}),
    Row("consistency 1", train={"consistency": 1.0}),
    Row("100 epochs", train={"epochs": 100}),
    Row("learning rate 1e-3", train={"learning_rate": 1e-3}),
    Row("label smoothing 0.1", train={"smoothing": 0.1}),
    Row("dropout 0.3", model={"dropout": 0.3}),
    Row("no augmentation", train={"augment": False}),
    Row("average over 50 steps", train={"average": 0.98}),
    Row("no UGCL", train={"ugcl": "off"}),
)
# scene, split, labels a class
TASKS = (
    ("salinas_a/salinas_a.npz", "random", 3),
    ("jasper_ridge/jasper_ridge.npz", "random", 3),
    ("samson/samson.npz", "random", 3),
    ("jasper_ridge/jasper_ridge.npz", "blocks", 5),
)


def main() -> None:
    """Train what is missing from the cache, then print a table of overall accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the scenes")
    parser.add_argument("--rows", nargs="+", default=[row.name for row in ROWS])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--cache", type=Path, default=Path("build/accuracy"))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    jobs = {
        (row.name, task): [
            Job(str(options.data / task[0]), task[1], task[2], seed, row, None, options.cache)
            for seed in range(options.seeds)
        ]
        for row in ROWS
        if row.name in options.rows
        for task in TASKS
    }
    missing = [job for cell in jobs.values() for job in cell if not job.file.exists()]
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for done, _ in enumerate(pool.imap_unordered(run_job, missing), 1):
            print(f"{done} of {len(missing)} jobs", flush=True)
    print("| | " + " | ".join(f"{Path(scene).stem}, {kind}, {labels}" for scene, kind, labels in TASKS) + " |")
    print("|---" * (len(TASKS) + 1) + "|")
    for name in options.rows:
        cells = []
        for task in TASKS:
            results = [json.loads(job.file.read_text()) for job in jobs[name, task]]
            means = [100 * np.mean([result[mode]["oa"] for result in results]) for mode in ("offline", "streamed")]
            cells.append(f"{means[0]:.1f} / {means[1]:.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    main()
