"""Work over processes: done once, kept, and not lost with a worker."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from hyperline.cluster import work_through
from hyperline.errors import HyperlineError, InputError

pytest.importorskip("distributed", reason="needs hyperline[cluster]")


def square(number, folder):
    with (Path(folder) / f"calls-{number}").open("a") as calls:
        calls.write("x")
    if number < 0:
        raise InputError(f"{number} is negative; give another")
    return {"square": number * number}


def pieces(numbers, folder):
    return {f"piece{number}": (number, str(folder)) for number in numbers}


def calls(folder):
    return {path.name.removeprefix("calls-"): len(path.read_text()) for path in folder.glob("calls-*")}


def test_each_piece_is_done_once_and_never_again(tmp_path):
    done = []
    results = work_through(
        pieces(range(5), tmp_path), square, tmp_path / "out", workers=2, on_done=lambda name, _: done.append(name)
    )
    assert results == {f"piece{number}": {"square": number * number} for number in range(5)}
    assert sorted(done) == sorted(results)
    (tmp_path / "out" / "piece3.json").unlink()
    (tmp_path / "out" / "piece4.json").write_text("{torn")
    again = work_through(pieces(range(5), tmp_path), square, tmp_path / "out", workers=2)
    assert again == results
    assert calls(tmp_path) == {"0": 1, "1": 1, "2": 1, "3": 2, "4": 2}


def test_a_piece_that_fails_costs_no_other(tmp_path):
    with pytest.raises(HyperlineError, match=r"1 of 3 pieces of work failed: piece-1: -1 is negative"):
        work_through(pieces([1, -1, 2], tmp_path), square, tmp_path / "out", workers=1)
    assert json.loads((tmp_path / "out" / "piece2.json").read_text()) == {"square": 4}
    with pytest.raises(HyperlineError, match="1 of 1 pieces"):
        work_through(pieces([1, -1, 2], tmp_path), square, tmp_path / "out", workers=1)
    assert calls(tmp_path) == {"1": 1, "2": 1, "-1": 2}


def dies_once(folder):
    mark = Path(folder) / "died"
    if not mark.exists():
        mark.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return {"worker": os.getpid()}


def test_a_lost_worker_loses_no_piece(tmp_path):
    results = work_through({"piece": (str(tmp_path),)}, dies_once, tmp_path / "out", workers=1)
    assert results["piece"]["worker"] != int((tmp_path / "died").read_text())


def test_a_scheduler_elsewhere_does_the_same(tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        results = work_through(pieces([3], tmp_path), square, tmp_path / "out", scheduler=cluster.scheduler_address)
    assert results == {"piece3": {"square": 9}}


def test_a_scheduler_that_does_not_answer_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("hyperline.cluster._CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        work_through(pieces([3], tmp_path), square, tmp_path / "out", scheduler="tcp://127.0.0.1:9")


def test_two_processes_do_not_share_results(tmp_path):
    import fcntl

    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process works on"):
            work_through(pieces([3], tmp_path), square, tmp_path / "out")
