"""The systemd unit: what it starts, with made-up commands in its path."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "packaging" / "hyperline@.service"


def start(folder: Path, real_time: bool, flown: bool) -> list[str]:
    """What the unit's command ends up running, by its words."""
    (folder / "bin").mkdir()
    for name, body in (
        ("hyperline", 'printf "%s\\n" hyperline "$@"'),
        ("chrt", '[ "$3" = true ] && exit $REFUSED; printf "%s\\n" chrt "$1" "$2"; shift 2; exec "$@"'),
    ):
        command = folder / "bin" / name
        command.write_text(f"#!/bin/sh\n{body}\n")
        command.chmod(0o755)
    out = folder / "a strip"
    out.mkdir()
    if flown:
        (out / "state.0").touch()
    (line,) = [line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart=")]
    environment = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "REFUSED": "0" if real_time else "1",
        "BUNDLE": "field.hlb",
        "SOURCE": "gige:?Width=1024&Height=224",
        "OUT": str(out),
        "OPTIONS": "--precision int8",
    }
    ran = subprocess.run(
        shlex.split(line.partition("=")[2]), env=environment, capture_output=True, text=True, check=True
    )
    return ran.stdout.splitlines()


def flight(folder: Path) -> list[str]:
    named = ["--source", "gige:?Width=1024&Height=224", "--out", str(folder / "a strip"), "--no-picture"]
    return ["hyperline", "run", "field.hlb", *named, "--precision", "int8"]


def test_it_flies_before_other_work(tmp_path: Path) -> None:
    assert start(tmp_path, real_time=True, flown=False) == ["chrt", "--rr", "10", *flight(tmp_path)]


def test_a_strip_that_was_flown_goes_on(tmp_path: Path) -> None:
    assert start(tmp_path, real_time=True, flown=True)[3:] == [*flight(tmp_path), "--resume"]


def test_a_kernel_that_refuses_real_time_keeps_nothing_on_the_ground(tmp_path: Path) -> None:
    assert start(tmp_path, real_time=False, flown=True) == [*flight(tmp_path), "--resume"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_finds_nothing_amiss(tmp_path: Path) -> None:
    # An instance, of a copy: systemd reads the name of an instance from its file.
    unit = tmp_path / "hyperline@field.service"
    unit.write_text(UNIT.read_text())
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit], capture_output=True, text=True
    )
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
