"""Who may look, asked of the guard itself."""

import asyncio
from typing import Any

import pytest

from hyperline.errors import InputError
from hyperline.runtime.view.guard import Guard, choose_token, is_loopback

TOKEN = "a-token-of-many-letters"


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})


def ask(guard: Guard, kind: str = "http", query: str = "", **headers: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    scope = {
        "type": kind,
        "method": "GET",
        "path": "/",
        "server": ("127.0.0.1", 8585),
        "query_string": query.encode(),
        "headers": [
            (name.encode(), value.encode("latin-1")) for name, value in {"host": "127.0.0.1:8585", **headers}.items()
        ],
    }

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    asyncio.run(guard(scope, receive, send))
    return sent


def status(*arguments: Any, **options: Any) -> int:
    return int(ask(*arguments, **options)[0]["status"])


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8585", "localhost", "LOCALHOST:8585", "[::1]:8585", "192.168.7.2:80", "board.lan"]
)
def test_addresses_and_names_of_this_machine_are_known(host: str) -> None:
    assert status(Guard(application, None, ("board.lan",)), host=host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8585", "127.0.0.1.evil.example", "", "localhost@evil.example"]
)
def test_a_foreign_name_that_leads_here_is_refused(host: str) -> None:
    assert status(Guard(application, None), host=host) == 421
    assert ask(Guard(application, None), "websocket", host=host)[0]["type"] == "websocket.close"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:8586", "http://localhost:8585", "null", "file://"]
)
def test_pages_of_other_origins_may_not_look(origin: str) -> None:
    guard = Guard(application, None)
    assert status(guard, origin=origin) == 403
    assert ask(guard, "websocket", origin=origin)[0]["type"] == "websocket.close"
    assert ask(guard, "websocket", origin="http://127.0.0.1:8585")[0]["type"] == "websocket.accept"


def test_a_token_opens_the_page_and_its_cookie_everything_after_that() -> None:
    guard = Guard(application, TOKEN)
    assert status(guard) == 401
    assert ask(guard, "websocket")[0]["type"] == "websocket.close"
    headers = dict(ask(guard, query=f"token={TOKEN}")[0]["headers"])
    cookie = headers[b"set-cookie"].decode()
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
    pair = cookie.partition(";")[0]
    assert status(guard, cookie=pair) == 200
    assert ask(guard, "websocket", cookie=pair)[0]["type"] == "websocket.accept"
    assert status(guard, authorization=f"Bearer {TOKEN}") == 200
    assert status(Guard(application, TOKEN), cookie=pair) == 401, "a cookie ends with its process"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("token=wrong", {}),
        ("token=", {}),
        (f"token={TOKEN[:-1]}", {}),
        (f"token={TOKEN}x", {}),
        ("token=wrong&token=" + TOKEN, {}),
        ("token=%ff%fe", {}),
        ("", {"cookie": f"hyperline-view-8585={TOKEN}"}),
        ("", {"cookie": "hyperline-view-8585="}),
        ("", {"cookie": "=;;;\xff"}),
        ("", {"authorization": "Basic " + TOKEN}),
        ("", {"authorization": "Bearer"}),
    ],
)
def test_no_other_token_does(query: str, headers: dict[str, str]) -> None:
    assert status(Guard(application, TOKEN), query=query, **headers) == 401


def test_every_answer_forbids_the_browser_what_the_page_does_not_need() -> None:
    for sent in (ask(Guard(application, None)), ask(Guard(application, TOKEN))):
        headers = dict(sent[0]["headers"])
        assert headers[b"content-security-policy"].startswith(b"default-src 'none'")
        assert b"unsafe" not in headers[b"content-security-policy"]
        assert headers[b"x-frame-options"] == b"DENY"
        assert headers[b"referrer-policy"] == b"no-referrer"


def test_only_this_machine_needs_no_token() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.3.2.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.7.2", "board", "")))
    assert choose_token("127.0.0.1", None) is None
    assert choose_token("localhost", TOKEN) == TOKEN
    made = choose_token("0.0.0.0", None)
    assert made is not None and len(made) >= 32 and made != choose_token("0.0.0.0", None)
    for token in ("short", "x" * 15, "with\nnew lines in it", "ünicode-ünicode-ünicode"):
        with pytest.raises(InputError, match="16 characters"):
            choose_token("127.0.0.1", token)
