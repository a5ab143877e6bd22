"""The process that a target runs in, and the limits that it is held to.

A case is a finding if it raises anything that is not the product's own error, makes the process die, takes more than
``CASE_S`` seconds of processor time, or drives the process's memory more than ``EXTRA_MIB`` above what it had before
the first. The peak is that of all cases so far, so that what is never given back is found too.
"""

from __future__ import annotations

import gc
import importlib
import logging
import mmap
import multiprocessing
import os
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzzing.target import Case, Target

# name -> (module, class). A module loads in the worker, for the process that watches has to stay small.
TARGETS = {
    "headers": ("fuzzing.headers", "Headers"),
    "packets": ("fuzzing.packets", "Packets"),
    "bundles": ("fuzzing.bundles", "Bundles"),
    "runs": ("fuzzing.runs", "Runs"),
    "tables": ("fuzzing.tables", "Tables"),
    "graphs": ("fuzzing.graphs", "Graphs"),
}
CASE_S = 2  # of processor time, since a busy machine may take its own time
STUCK_S = 60  # without any
EXTRA_MIB = 64
# An allocation beyond this fails, though its pages would never be touched: it was sized by a number nobody checked.
ADDRESS_MIB = 256
_REPORT_S = 0.1
_INDEX = struct.Struct("<q")


@dataclass(frozen=True)
class Finding:
    """A case that broke the promise.

    Attributes:
        index: of the case.
        fault: in a line.
        trace: where, or empty where the process died.
    """

    index: int
    fault: str
    trace: str = ""


@dataclass
class Tally:
    """What came of the cases.

    Attributes:
        cases: made and checked.
        done: how often each damage was done.
        outcomes: how often each outcome was.
        slowest: seconds of the slowest case.
        extra_mib: most memory above that before the first case.
        findings: in order.
        seconds: in all.
    """

    cases: int = 0
    done: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    extra_mib: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        """Take in the tally of further cases."""
        self.cases += other.cases
        self.done += other.done
        self.outcomes += other.outcomes
        self.slowest = max(self.slowest, other.slowest)
        self.extra_mib = max(self.extra_mib, other.extra_mib)
        self.findings += other.findings


def case_of(target: Target, seed: int, index: int) -> Case:
    """Return the case of this number."""
    return target.make(Random(f"{target.name} {seed} {index}"))


def load(name: str, folder: Path) -> Target:
    """Import a target and see that it takes its originals as they are."""
    module, kind = TARGETS[name]
    target: Target = getattr(importlib.import_module(module), kind)(folder)
    for original in target.originals():
        outcome = target.check(original)
        assert outcome == target.accepted, f"an undamaged input of {name} was not {target.accepted} but {outcome}"
    return target


def fuzz(
    name: str,
    count: int,
    *,
    seed: int,
    first: int = 0,
    most_findings: int = 10,
    progress: Callable[[Tally], None] | None = None,
) -> Tally:
    """Feed a target with damaged inputs, in a process that is started again where it dies.

    Args:
        name: a key of ``TARGETS``.
        count: inputs.
        seed: of the cases.
        first: number of the first case.
        most_findings: stop after so many.
        progress: called with what came of the cases so far, ten times a second.
    """
    tally, began = Tally(), time.monotonic()
    end, index = first + count, first
    while index < end and len(tally.findings) < most_findings:
        with TemporaryDirectory(dir=_memory_folder()) as folder:
            index = _watch(name, seed, index, end, Path(folder), tally, most_findings, began, progress)
    tally.seconds = time.monotonic() - began
    return tally


def save(name: str, seed: int, index: int, folder: Path) -> None:
    """Write the files of a case, which nothing reads."""

    def write() -> None:
        with TemporaryDirectory(dir=_memory_folder()) as scratch:
            module, kind = TARGETS[name]
            case = case_of(getattr(importlib.import_module(module), kind)(Path(scratch)), seed, index)
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in case.files.items():
            (folder / file.replace("/", "_")).write_bytes(data)
        (folder / "done.txt").write_text("\n".join(case.done) + "\n")

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()


def _memory_folder() -> Path | None:
    folder = Path("/dev/shm")  # thousands of files a second, none of which is worth a disk
    return folder if os.access(folder, os.W_OK) else None


def _watch(
    name: str,
    seed: int,
    first: int,
    end: int,
    folder: Path,
    tally: Tally,
    most_findings: int,
    began: float,
    progress: Callable[[Tally], None] | None,
) -> int:
    """Run one worker until it ends, however it does; return the number of the next case."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    current = mmap.mmap(-1, _INDEX.size)
    _INDEX.pack_into(current, 0, -1)
    process = fork.Process(target=_work, args=(name, seed, first, end, folder, current, ours, theirs))
    process.start()
    theirs.close()
    counted, last, since = first, -1, time.monotonic()
    try:
        while True:
            if ours.poll(0.5):
                part: Tally = ours.recv()
                tally.add(part)
                counted += part.cases
                tally.seconds = time.monotonic() - began
                if progress is not None:
                    progress(tally)
                if len(tally.findings) >= most_findings:
                    process.kill()
                    process.join()
                    return counted
                continue
            now = _INDEX.unpack_from(current)[0]
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > STUCK_S and now >= 0:
                process.kill()
    except EOFError:
        process.join()
    finally:
        ours.close()
    at = int(_INDEX.unpack_from(current)[0])
    if process.exitcode == 0:
        return counted
    if at < 0:
        raise RuntimeError(f"the worker of {name} ended with {process.exitcode} before its first case")
    fault = f"exited with {process.exitcode}"
    if process.exitcode is not None and process.exitcode < 0:
        fault = f"died by {signal.Signals(-process.exitcode).name}"
    if process.exitcode == -signal.SIGPROF:
        fault = f"hung: more than {CASE_S} s of processor time"
    elif process.exitcode == -signal.SIGKILL:
        fault = f"hung: {STUCK_S} s without an end, or killed for its memory"
    lost = at - counted  # what came of them died with it
    outcomes = Counter({"not known, of a process that died later": lost} if lost else {})
    tally.add(Tally(cases=lost + 1, outcomes=outcomes, findings=[Finding(at, fault)]))
    return at + 1


def _work(
    name: str, seed: int, first: int, end: int, folder: Path, current: mmap.mmap, watcher: Connection, pipe: Connection
) -> None:
    watcher.close()  # so that a worker whose watcher is gone cannot send, and ends
    warnings.simplefilter("ignore")  # they go to the log of the command line, which survives them
    logging.disable()
    target = load(name, folder)
    _limit_address_space()
    try:
        _feed(target, seed, first, end, current, pipe)
        pipe.close()
    except BrokenPipeError:  # the watcher would have removed it
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
    os._exit(0)  # nothing that a finding broke may keep the process


def _feed(target: Target, seed: int, first: int, end: int, current: mmap.mmap, pipe: Connection) -> None:
    part, before = Tally(), _peak_mib()
    reported = time.perf_counter()
    for index in range(first, end):
        _INDEX.pack_into(current, 0, index)
        began = time.perf_counter()
        signal.setitimer(signal.ITIMER_PROF, CASE_S)  # its signal ends the process, also one that is busy in C
        done: tuple[str, ...] = ()
        finding = None
        try:
            case = case_of(target, seed, index)
            done = case.done
            part.outcomes[target.check(case)] += 1
        except BaseException as error:
            finding = Finding(index, f"{type(error).__name__}: {error}"[:300], traceback.format_exc(limit=-3))
        signal.setitimer(signal.ITIMER_PROF, 0)
        part.slowest = max(part.slowest, time.perf_counter() - began)
        part.extra_mib = max(part.extra_mib, _peak_mib() - before)
        if finding is None and part.extra_mib > EXTRA_MIB:
            finding = Finding(index, f"{part.extra_mib:.0f} MiB more memory; at most {EXTRA_MIB} may be")
        part.cases += 1
        part.done.update(done)
        if finding is not None:
            part.findings.append(finding)
            pipe.send(part)
            if part.extra_mib > EXTRA_MIB:  # the peak stays: go on in another process
                return
            part = Tally()
        elif time.perf_counter() - reported > _REPORT_S:
            pipe.send(part)
            part, reported = Tally(), time.perf_counter()
    pipe.send(part)


def _limit_address_space() -> None:
    gc.collect()
    with suppress(OSError):  # a kernel without it counts what imports took, too
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (ADDRESS_MIB << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
