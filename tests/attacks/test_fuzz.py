"""The fuzzer: a fixed budget over every target, and that it sees each kind of fault."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def fuzz(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOLS / "fuzz.py", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("target", ["headers", "packets", "bundles", "runs", "tables"])
def test_damaged_input_is_taken_or_refused_with_one_clear_error(target: str, tmp_path: Path) -> None:
    ran = fuzz(target, "--inputs", "2000", "--seed", "2", cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.match(rf"{target}: 2000 inputs from seed 2, \d+ damages, no finding; ", ran.stdout)
    assert list(tmp_path.iterdir()) == []


PLANTED = """
import ctypes, json, sys
import numpy as np
from fuzzing import worker
from fuzzing.target import Case, Target, attempt
from hyperline.errors import InputError

def wrong(): raise ValueError("not ours")
def hang():
    while True: pass
def crash(): ctypes.string_at(0)
def hoard(): return np.ones(90 << 20, np.uint8)
def reserve():
    try: np.empty(1 << 40, np.uint8)
    except MemoryError as error: raise InputError("too large") from error
def silent(): raise InputError("")
def drive(): raise InputError("\\x1b[2J")
def flood(): raise InputError("x" * 2000)
def refuse(): raise InputError("a clear error")
def take(): return 1
FAULTS = (wrong, hang, crash, hoard, reserve, silent, drive, flood, refuse, take)

class Planted(Target):
    name, accepted = "planted", "read"
    def originals(self): yield Case((), {})
    def make(self, random): return Case(("planted",), {})
    def check(self, case):
        if case.done:
            attempt(self.fault)
        return "read"

def case_of(target, seed, index):
    target.fault = FAULTS[index]
    return make_case(target, seed, index)

make_case, worker.case_of = worker.case_of, case_of
worker.TARGETS["planted"] = ("__main__", "Planted")
tally = worker.fuzz("planted", len(FAULTS), seed=1)
print(json.dumps({"cases": tally.cases, "found": {FAULTS[f.index].__name__: f.fault for f in tally.findings}}))
"""


def test_every_kind_of_fault_is_found_and_the_others_go_on(tmp_path: Path) -> None:
    script = tmp_path / "planted.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(TOOLS)!r})\n{PLANTED}")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["cases"] == 10
    for fault, said in {
        "wrong": "ValueError: not ours",
        "hang": "hung: more than 2 s of processor time",
        "crash": "died by SIGSEGV",
        "hoard": "MiB more memory; at most 64 may be",
        "reserve": "MemoryError",
        "silent": "refused without a message",
        "drive": "the message holds a control character",
        "flood": "a message of 2000 characters",
    }.items():
        assert said in told["found"].pop(fault)
    assert told["found"] == {}


def test_a_target_that_fails_throughout_is_left_after_some_findings(tmp_path: Path) -> None:
    script = tmp_path / "failing.py"
    planted = PLANTED.replace("FAULTS[index]", "wrong").replace("len(FAULTS)", "10**9")
    script.write_text(f"import sys\nsys.path.insert(0, {str(TOOLS)!r})\n{planted[: planted.index('print(')]}")
    script.write_text(script.read_text() + "print(len(tally.findings), tally.cases)\n")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "10 10\n", ran.stderr


def test_a_worker_whose_watcher_is_killed_ends_too(tmp_path: Path) -> None:
    command = [sys.executable, TOOLS / "fuzz.py", "packets", "--inputs", "1000000"]
    watcher = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{watcher.pid}/task/{watcher.pid}/children")
    deadline = time.monotonic() + 30
    while not (workers := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    watcher.kill()
    watcher.wait()
    while (running := Path(f"/proc/{workers[0]}").exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running


def test_a_case_can_be_run_again_and_leaves_its_files(tmp_path: Path) -> None:
    first = fuzz("--replay", "bundles", "3", "7", cwd=tmp_path)
    again = fuzz("--replay", "bundles", "3", "7", "--save", "again", cwd=tmp_path)
    assert first.returncode == again.returncode == 0, first.stderr
    kept = [tmp_path / folder / "bundles-3-7" / "damaged.hlb" for folder in ("fuzz-findings", "again")]
    assert kept[0].read_bytes() == kept[1].read_bytes()
    assert "refused" in first.stdout or "opened" in first.stdout
    assert first.stdout.replace("fuzz-findings", "again") == again.stdout


def test_a_target_that_there_is_not_is_named(tmp_path: Path) -> None:
    ran = fuzz("pakets", cwd=tmp_path)
    assert ran.returncode == 2
    assert "no target is called pakets; there are: headers, packets" in ran.stderr
