"""The watchdog, against a socket as systemd opens it."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperline.runtime.sources import Line
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip
from hyperline.runtime.watchdog import Stage, Watchdog


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = str(tmp_path / "notify") if request.param == "path" else f"@hyperline-{os.getpid()}-{time.time_ns()}"
    channel.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
    channel.settimeout(2)
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield channel
    channel.close()


def heard(channel: socket.socket, seconds: float) -> list[str]:
    end, messages = time.monotonic() + seconds, []
    while time.monotonic() < end:
        if select.select([channel], [], [], 0.02)[0]:
            messages.append(channel.recv(4096).decode())
    return messages


def test_it_strokes_while_every_stage_moves_or_has_nothing_to_do(systemd) -> None:
    count = iter(range(10**6))
    stages = {
        "moving": Stage(0.05, lambda: True, lambda: next(count)),
        "idle": Stage(0.05, lambda: False, lambda: 0),
    }
    watchdog = Watchdog(stages, lambda: "12 lines")
    watchdog.start()
    messages = heard(systemd, 0.4)
    watchdog.close()
    assert messages[0] == "READY=1"
    assert messages.count("STATUS=12 lines\nWATCHDOG=1") >= 5
    assert heard(systemd, 0.1)[-1] == "STOPPING=1"


def test_a_stage_that_is_stuck_ends_the_strokes_until_it_moves_again(systemd, caplog) -> None:
    progress = [0]
    watchdog = Watchdog({"writer": Stage(0.1, lambda: True, lambda: progress[0])}, lambda: "")
    watchdog.start()
    heard(systemd, 0.4)
    assert not any("WATCHDOG" in message for message in heard(systemd, 0.2))
    assert watchdog.stuck == ("writer",) and "stuck: writer" in caplog.text
    progress[0] = 1
    assert any("WATCHDOG" in message for message in heard(systemd, 0.1))
    watchdog.close()


def test_without_systemd_nothing_is_sent(monkeypatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    watchdog = Watchdog({}, lambda: "")
    watchdog.start()
    watchdog.close()
    assert watchdog.strokes == 0


@pytest.mark.parametrize("address", ["/nowhere/at/all", "@nobody"])
def test_a_socket_that_is_gone_does_not_matter(monkeypatch, address) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    watchdog = Watchdog({}, lambda: "")
    watchdog.start()
    watchdog.close()


def test_another_process_watchdog_is_left_alone(systemd, monkeypatch) -> None:
    monkeypatch.setenv("WATCHDOG_PID", "1")
    watchdog = Watchdog({}, lambda: "")
    watchdog.start()
    assert heard(systemd, 0.2) == ["READY=1"]
    watchdog.close()


def test_a_strip_says_ready_and_a_source_that_stalls_is_found(
    systemd, bundle, scene, tmp_path: Path, monkeypatch
) -> None:
    @dataclass(frozen=True)
    class Stalling(SceneSource):
        def __iter__(self) -> Iterator[Line]:
            for line in super().__iter__():
                if line.index == 9:
                    time.sleep(0.6)
                yield line

    monkeypatch.setattr("hyperline.runtime.strip._STUCK_SECONDS", 0.2)
    with ThreadPoolExecutor(1) as pool:  # the socket holds ten messages
        listening = pool.submit(heard, systemd, 2.0)
        summary = run_strip(bundle, Stalling(scene, rate=1000.0), tmp_path, threads=1)
        messages = listening.result()
    assert summary.received == 22
    assert messages[0] == "READY=1" and messages[-1] == "STOPPING=1"
    strokes = ["WATCHDOG" in message for message in messages[1:-1]]
    assert True in strokes and False in strokes
