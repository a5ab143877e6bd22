"""Attacks on the view of a real flight: each is refused, who may look goes on looking, and the flight loses no line."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

client = pytest.importorskip("websockets.sync.client", reason="needs websockets, of hyperline[view]")
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

TOKEN = "sesame-sesame-sesame"


class Target:
    """A view of a flight, with a token, and one viewer who has it."""

    def __init__(self, viewed: Any, connections: ExitStack) -> None:
        self.viewed = viewed
        self.connections = connections
        self.viewer = connections.enter_context(self.look())

    def look(self, **headers: str) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"} | headers
        return client.connect(
            f"ws://{self.viewed.address}/lines",
            additional_headers=headers,
            proxy=None,
            max_size=None,
            close_timeout=0.5,
        )

    def get(self, path: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.viewed.port, timeout=10)
        headers = {"Authorization": f"Bearer {TOKEN}"} | headers
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def newest(self) -> int:
        """Return the head that the viewer is told next."""
        while True:
            message = self.viewer.recv(timeout=10)
            if isinstance(message, str) and json.loads(message)["kind"] == "status":
                return int(json.loads(message)["head"])


@pytest.fixture
def target(fly: Callable[..., Any], view: Callable[..., Any]) -> Iterator[Target]:
    flight = fly(seconds=9.0)
    with ExitStack() as connections:
        target = Target(view(flight.folder, "--token", TOKEN), connections)
        yield target
        before = target.newest()
        while target.newest() <= before:  # the lines go on coming
            pass
    summary = flight.land()
    assert summary["received"] == summary["classified"] > 2500
    assert summary["dropped"] == summary["rejected"] == summary["counters"]["lost"] == 0


def test_strangers_and_malformed_requests_are_refused(target: Target) -> None:
    # No token, and the wrong one.
    assert target.get(Authorization="")[0] == 401
    assert target.get(Authorization=f"Bearer {TOKEN}x")[0] == 401
    assert target.get("/?token=wrong", Authorization="")[0] == 401
    with pytest.raises(InvalidStatus, match="403"):
        target.look(Authorization="Bearer wrong")
    # Pages of other origins, and names that are not ours.
    for origin in ("http://evil.example", "null", f"http://localhost:{target.viewed.port}"):
        with pytest.raises(InvalidStatus, match="403"):
            target.look(Origin=origin)
        assert target.get(Origin=origin)[0] == 403
    assert target.get(Host="evil.example")[0] == 421
    with target.look(Origin=f"http://{target.viewed.address}"):
        pass
    # Paths that lead elsewhere. Each is sent as it stands.
    for path in (
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/static/../hub.py",
        "//etc/passwd",
        "/view.js/../../server.py",
        "/view.css%00.py",
        "/classes.img",
        "/docs",
        "/openapi.json",
        "\\..\\..\\etc\\passwd",
        "file:///etc/passwd",
    ):
        status, content = target.get(path)
        assert status in (400, 404) and b"root:" not in content and b"import" not in content, path
    # Methods and bodies that nothing takes.
    assert target.get("/", "POST", b"x" * 10_000_000)[0] == 405
    assert target.get("/", "DELETE")[0] == 405
    with socket.create_connection(("127.0.0.1", target.viewed.port), timeout=10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 1_000_000)
        with suppress(ConnectionError):
            assert b"400" in raw.recv(100)


def test_messages_that_no_page_sends_close_their_connection(target: Target) -> None:
    for message in (
        "x" * 10_000_000,
        b"x" * 10_000_000,
        "x" * 300,
        b"\0",
        "{}",
        '{"want":"files","path":"/etc/passwd"}',
    ):
        with target.look() as bad, pytest.raises(ConnectionClosed) as closed:
            with suppress(ConnectionClosed):
                bad.send(message)
            for _ in range(10_000):
                bad.recv(timeout=10)
        assert closed.value.rcvd is None or closed.value.rcvd.code in (1008, 1009), message[:20]


def test_a_viewer_that_asks_without_end_is_slowed_and_bounded(target: Target) -> None:
    with target.look() as greedy:
        for _ in range(2000):
            greedy.send('{"want":"lines","first":0,"count":4096}')
        before = target.newest()
        while target.newest() <= before:
            pass


def was_full(viewer: Any) -> bool:
    try:
        viewer.recv(timeout=5)
    except ConnectionClosed as error:
        return error.rcvd is not None and error.rcvd.code == 1013
    return False


def test_two_hundred_connections_are_refused_without_harm(target: Target) -> None:
    sockets = []
    for _ in range(200):
        with suppress(OSError):
            sockets.append(socket.create_connection(("127.0.0.1", target.viewed.port), timeout=5))
    time.sleep(1)
    closed = 0
    for one in sockets:
        one.setblocking(False)
        try:
            closed += one.recv(1) == b""
        except BlockingIOError:
            pass
        except OSError:
            closed += 1
    assert closed >= 130, "64 may be open at a time"
    before = target.newest()
    while target.newest() <= before:  # who was there before goes on looking
        pass
    for one in sockets:
        one.close()
    time.sleep(0.3)
    assert target.get()[0] == 200
    # Viewers who know the token have a limit too, and are told.
    viewers = [target.connections.enter_context(target.look()) for _ in range(20)]
    assert sum(map(was_full, viewers)) == 5
