"""Measure accuracy over seeds: the network, its ablations and the shallow baselines, on the same splits.

    python bench/accuracy.py                      # Indian Pines, 5 seeds: docs/results/accuracy.md
    python bench/accuracy.py --scene samson.npz --seeds 2 --out build/samson

Every job is one process with one thread, two at a time, and leaves its result in a cache folder, so that an
interrupted measurement goes on where it stopped. The cache is keyed by the job alone: empty it when the code
has changed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """One row of the table: what to train, and how it differs from the standard."""

    name: str
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


NETWORK = Row("MambaMoE")
ABLATIONS = (
    Row("without UGCL", train={"ugcl": "off"}),
    Row("UGCL as published", train={"ugcl": "published"}),
    Row("without spectral expert", model={"spectral_inner": 0}),
)
BASELINE_NAMES = {
    "svm-spectra": "SVM on spectra",
    "svm-mnf": "SVM on MNF + Gaussian scales",
    "lda-mnf": "LDA on MNF + Gaussian scales",
}


@dataclass(frozen=True)
class Job:
    """One cell: a row, a split and a seed."""

    scene: str
    kind: str
    labels_per_class: int
    seed: int
    row: Row | None
    baseline: str | None
    cache: Path

    @property
    def file(self) -> Path:
        """Where the result is kept."""
        name = self.baseline or (self.row.name.replace(" ", "-") if self.row else "")
        scene = Path(self.scene).stem
        return self.cache / f"{scene}-{self.kind}-{self.labels_per_class}-{name}-{self.seed}.json"


def run_job(job: Job) -> None:
    """Train, classify, score; write {oa, aa, kappa} for the whole scene and for blocks of 8 lines."""
    import torch

    from hyperline.metrics import Metrics
    from hyperline.scenes import read_scene
    from hyperline.splits import make_split
    from hyperline.train.baselines import classify_baseline
    from hyperline.train.models.mambamoe import MambaMoEConfig
    from hyperline.train.trainer import TrainConfig, predict, start, train

    torch.set_num_threads(1)
    scene = read_scene(job.scene)
    split = make_split(job.kind, scene.labels, job.labels_per_class, job.seed, scene.class_names)
    classes = int(scene.labels.max())
    began = time.perf_counter()
    if job.baseline:
        maps = {
            "offline": classify_baseline(job.baseline, scene, split, None, job.seed).class_map,
            "streamed": classify_baseline(job.baseline, scene, split, 8, job.seed).class_map,
        }
    else:
        model = MambaMoEConfig(bands=scene.bands, classes=classes, **job.row.model)
        config = TrainConfig(seed=job.seed, threads=1, **job.row.train)
        network = train(start(scene, model, config), scene, split, config)
        maps = {"offline": predict(network, scene), "streamed": predict(network, scene, 8)}
    result: dict[str, Any] = {"split": split.as_dict(), "seconds": time.perf_counter() - began}
    for name, class_map in maps.items():
        metrics = Metrics.from_maps(split.test, class_map, classes)
        result[name] = {"oa": metrics.oa, "aa": metrics.aa, "kappa": metrics.kappa, "per_class": metrics.per_class}
    job.file.write_text(json.dumps(result))


def table(title: str, names: list[str], cells: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Lay out mean and standard deviation over the seeds."""
    lines = [f"### {title}", "", "| | OA offline | OA K = 8 | AA offline | AA K = 8 | κ offline | κ K = 8 |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name in names:
        texts = []
        for key in ("oa", "aa", "kappa"):
            for mode in ("offline", "streamed"):
                values = np.array([cell[mode][key] for cell in cells[name]])
                values = values if key == "kappa" else 100 * values
                digits = 3 if key == "kappa" else 1
                texts.append(f"{values.mean():.{digits}f} ± {values.std():.{digits}f}")
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return [*lines, ""]


def processor() -> str:
    """Name the CPU as Linux does."""
    cpu = Path("/proc/cpuinfo")
    found = [line.split(":", 1)[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    return f"{found[0]}, {len(found)} CPUs" if found else platform.machine()


def main() -> None:
    """Measure what is missing from the cache, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default="indian-pines")
    parser.add_argument("--labels-per-class", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--out", type=Path, default=Path("docs/results/accuracy"), help="written as .md and .json")
    parser.add_argument("--cache", type=Path, default=Path("build/accuracy"))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)

    def jobs(kind: str, row: Row | None, baseline: str | None) -> list[Job]:
        return [
            Job(options.scene, kind, options.labels_per_class, seed, row, baseline, options.cache)
            for seed in range(options.seeds)
        ]

    tables: dict[str, dict[str, list[Job]]] = {}
    for kind, title in (("random", "Random split"), ("blocks", "Spatial blocks of 16 pixels, guard band of 4")):
        tables[title] = {NETWORK.name: jobs(kind, NETWORK, None)} | {
            text: jobs(kind, None, name) for name, text in BASELINE_NAMES.items()
        }
    tables["Ablations, random split"] = {NETWORK.name: jobs("random", NETWORK, None)} | {
        row.name: jobs("random", row, None) for row in ABLATIONS
    }
    everything = {job.file: job for rows in tables.values() for cells in rows.values() for job in cells}
    missing = [job for job in everything.values() if not job.file.exists()]
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for done, _ in enumerate(pool.imap_unordered(run_job, missing), 1):
            print(f"{done} of {len(missing)} jobs", flush=True)

    results = {file: json.loads(file.read_text()) for file in everything}
    lines = [
        f"Scene {Path(options.scene).stem}, {options.labels_per_class} labels a class, mean ± standard deviation over "
        f"seeds 0 to {options.seeds - 1}, on all labelled pixels not trained on (blocks: outside the guard band). "
        "Offline is the whole scene as one block; K = 8 is streamed in blocks of 8 lines, baselines with blurs held "
        "to the same latency. Network and baselines see the same splits.",
        "",
    ]
    for title, rows in tables.items():
        lines += table(title, list(rows), {name: [results[job.file] for job in cells] for name, cells in rows.items()})
    command = f"python bench/accuracy.py --scene {options.scene} --seeds {options.seeds}"
    lines.append(f"`{command}` on {processor()}, one thread a job.")
    options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    record = {"command": command, "processor": processor(), "jobs": {file.stem: results[file] for file in results}}
    options.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    main()
