"""Turn what ptxas said during a build into a table of registers and spills, a kernel a row and a GPU a column.

usage: python tools/cuda_report.py BUILD_LOG TABLE

Fails where a kernel spills: its states are meant to live in registers.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

_ENTRY = re.compile(r"Compiling entry function '(?P<symbol>\w+)' for 'sm_(?P<gpu>\d+)'")
_SPILLS = re.compile(r"\d+ bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads")
_USED = re.compile(r"Used (?P<registers>\d+) registers")
_SHARED = re.compile(r"(?P<bytes>\d+) bytes smem")
_SYMBOL = re.compile(r"\d(?P<kind>Direct|Chunked|Gate)KernelI(?:Li(?P<states>\d+)E)?(?P<type>f|6__half)E")


@dataclass(frozen=True)
class Usage:
    """What one kernel needs on one GPU."""

    kernel: str
    gpu: int
    registers: int
    shared_bytes: int
    spilled_bytes: int


def read_usages(log: str) -> list[Usage]:
    """Read the messages of ``ptxas -v``.

    Raises:
        ValueError: there is none, or one that this script does not know: a table with holes would pass for a clean one.
    """
    usages = []
    entries = list(_ENTRY.finditer(log))
    if not entries:
        raise ValueError("the log holds no message of ptxas: build anew, with -Xptxas=-v")
    for entry, following in zip(entries, [*(later.start() for later in entries[1:]), len(log)], strict=True):
        part = log[entry.end() : following]
        symbol, spills, used = _SYMBOL.search(entry["symbol"]), _SPILLS.search(part), _USED.search(part)
        shared = _SHARED.search(part)
        if symbol is None or spills is None or used is None:
            raise ValueError(f"cannot read what ptxas says of {entry['symbol']} for sm_{entry['gpu']}")
        states = f", {symbol['states']} states" if symbol["states"] else ""
        number = "fp32" if symbol["type"] == "f" else "fp16"
        usages.append(
            Usage(
                kernel=f"{symbol['kind'].lower()}{states}, {number}",
                gpu=int(entry["gpu"]),
                registers=int(used["registers"]),
                shared_bytes=int(shared["bytes"]) if shared else 0,
                spilled_bytes=int(spills["stores"]) + int(spills["loads"]),
            )
        )
    return usages


def format_table(usages: list[Usage]) -> str:
    """Lay out registers a thread, shared memory a block, and spilled bytes where there are any (after a +)."""
    gpus = sorted({usage.gpu for usage in usages})
    cells = {(usage.kernel, usage.gpu): usage for usage in usages}
    kernels = list(dict.fromkeys(usage.kernel for usage in usages))
    width = max(map(len, kernels))
    lines = ["Registers a thread (+ spilled bytes), and shared memory a block in bytes", ""]
    lines.append(f"{'kernel':{width}}  shared " + "".join(f"{f'sm_{gpu}':>8}" for gpu in gpus))
    for kernel in kernels:
        row = [cells.get((kernel, gpu)) for gpu in gpus]
        shared = max(cell.shared_bytes for cell in row if cell)
        texts = [
            f"{cell.registers}{f'+{cell.spilled_bytes}' if cell.spilled_bytes else ''}" if cell else "-" for cell in row
        ]
        lines.append(f"{kernel:{width}}  {shared:6} " + "".join(f"{text:>8}" for text in texts))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the log, write the table, and fail where something spills."""
    log, table = map(Path, sys.argv[1:])
    usages = read_usages(log.read_text())
    table.write_text(format_table(usages))
    print(table.read_text())
    spilling = [usage for usage in usages if usage.spilled_bytes]
    if spilling:
        sys.exit(f"{len(spilling)} kernels spill; see {table}")


if __name__ == "__main__":
    main()
