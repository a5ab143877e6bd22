"""Calibrate trained models of several scenes to INT8 and FP16, and say what that costs in accuracy.

    python bench/calibration.py --data ../shared/data --seeds 3      # docs/results/calibration.md

Every cell is trained, exported and calibrated with the command line as a user would, two at a time with one thread
each, and kept in a folder, so that an interrupted measurement goes on where it stopped. Indian Pines comes from the
package tensorly, the other scenes from the folder of --data; what is missing there is left out and said.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

_SCENES = {
    "Indian Pines": "indian-pines",
    "Salinas-A": "salinas_a/salinas_a.npz",
    "Jasper Ridge": "jasper_ridge/jasper_ridge.npz",
    "Samson": "samson/samson.npz",
}
_PRECISIONS = ("int8", "fp16")


def main() -> None:
    """Run the cells and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the scenes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path("build/calibration"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/calibration.md"))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    cells = []
    for name, spec in _SCENES.items():
        if "/" in spec:
            spec = str(options.data / spec) if options.data and (options.data / spec).exists() else ""
        if not spec:
            print(f"{name} is left out: it is not in the folder of --data", file=sys.stderr)
            continue
        cells += [(name, spec, seed, options.cache) for seed in range(options.seeds)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda cell: _cell(*cell), cells))
    by_scene: dict[str, list[dict[str, Any]]] = {}
    for (name, *_), result in zip(cells, results, strict=True):
        by_scene.setdefault(name, []).append(result)
    options.out.write_text("\n".join(_page(by_scene, options.seeds)) + "\n")
    print(f"wrote {options.out}")


def _cell(name: str, spec: str, seed: int, cache: Path) -> dict[str, Any]:
    """Train, export, calibrate and evaluate one scene with one seed."""
    base = cache / f"{name.replace(' ', '-').lower()}-{seed}"
    kept = base.with_suffix(".json")
    if kept.exists():
        return json.loads(kept.read_bytes())
    bundle = base.with_suffix(".hlb")
    _hyperline("train", spec, "--out", base, "--seed", seed, "--threads", 1, "--overwrite")
    _hyperline("export", base, "--out", bundle)
    result = {}
    for precision in _PRECISIONS:
        report = json.loads(
            _hyperline(
                *("calibrate", bundle, "--lines", spec, "--precision", precision),
                *("--threads", 1, "--seconds", 0, "--json"),
            )
        )
        whole = json.loads(
            _hyperline(
                *("evaluate", bundle, spec, "--precision", precision, "--against", "fp32"),
                *("--threads", 1, "--json"),
            )
        )
        result[precision] = {"report": report, "whole": whole}
    kept.write_text(json.dumps(result))
    print(f"{name}, seed {seed}: done", flush=True)
    return result


def _hyperline(*arguments: object) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from hyperline.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"hyperline {' '.join(map(str, arguments))} failed:\n{done.stderr}")
    return done.stdout


def _page(by_scene: dict[str, list[dict[str, Any]]], seeds: int) -> Iterator[str]:
    yield "# What INT8 and FP16 cost in accuracy"
    yield ""
    yield (
        f"Streamed in blocks of 8 lines, {seeds} seeds of training, split and network; default budgets. *Held out*: "
        "the second half of the lines, which set no range and drove no search. *Lost*: pixels that float32 has right "
        "and the variant has not, in per cent of the labelled ones. *OA change* counts what the variant mends too; the "
        "last two columns are on all labelled pixels not trained on. Mean over seeds, and the worst seed in brackets."
    )
    yield ""
    yield "    python bench/calibration.py --data FOLDER --seeds " + str(seeds)
    yield ""
    columns = (
        "scene",
        "precision",
        "OA float32, held out",
        "lost, %",
        "lost in the worst class, %",
        "labels that agree, %",
        "layers in float32",
        "file of float32's",
        "OA change, all pixels",
        "worst class, all pixels",
    )
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for precision in _PRECISIONS:
        for name, results in by_scene.items():
            cells = [result[precision] for result in results]
            yield f"| {name} | {precision.upper()} | {' | '.join(_row(cells, precision))} |"


def _row(cells: list[dict[str, Any]], precision: str) -> Iterator[str]:
    reports = [cell["report"] for cell in cells]
    whole = [cell["whole"] for cell in cells]

    def mean(values: list[float], digits: int, worst: Any) -> str:
        return f"{np.mean(values):.{digits}f} ({worst(values):.{digits}f})"

    yield f"{100 * np.mean([report['accuracy']['fp32']['oa'] for report in reports]):.2f} %"
    yield mean([report["loss"]["points"] for report in reports], 3, max)
    yield mean([report["loss"]["worst_class"] for report in reports], 2, max)
    yield mean([100 * report["loss"]["agreement"] for report in reports], 3, min)
    floats = [sum(layer["runs_in"] == "float32" for layer in report.get("layers", [])) for report in reports]
    yield ", ".join(map(str, floats)) if precision == "int8" else "–"
    yield mean([100 * report["bytes"][precision] / report["bytes"]["fp32"] for report in reports], 0, max) + " %"
    yield mean([100 * (one["oa"] - one["against"]["oa"]) for one in whole], 3, min)
    worst = [
        min(
            100 * (after - before)
            for after, before in zip(one["per_class"], one["against"]["per_class"], strict=True)
            if after is not None
        )
        for one in whole
    ]
    yield mean(worst, 2, min)


if __name__ == "__main__":
    main()
