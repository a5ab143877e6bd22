"""Who may look: the address, the token, and pages of other origins."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from hyperline.errors import InputError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LEAST_TOKEN = 16
_TOKEN = "token"

# Everything comes from this server: nothing is fetched, framed, or run from anywhere else.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_ASKS = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>hyperline view</title>
<p>This view asks for its token: open the address that <code>hyperline view</code> printed, with
<code>?token=...</code> at its end.</p></html>
"""


def is_loopback(host: str) -> bool:
    """Return whether an address or name is this machine's own alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def choose_token(host: str, token: str | None) -> str | None:
    """Return the token that viewers need; None where only this machine can look.

    Raises:
        InputError: a token that could be guessed.
    """
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        raise InputError(f"--token must have {_LEAST_TOKEN} characters of ASCII or more; leave it out to have one made")
    if token is None and not is_loopback(host):
        return secrets.token_urlsafe(32)
    return token


class Guard:
    """Stands before the application; whatever it refuses, the application never sees.

    - ``Host`` must be an address, this machine's name or a name that was allowed: a foreign name that resolves to this
      machine (DNS rebinding) is none of them.
    - ``Origin``, which browsers send with every websocket, must be this server's own.
    - With a token, each request must carry it: as ``?token=``, which sets a cookie, in that cookie, or as
      ``Authorization: Bearer``. Compared in constant time.
    """

    def __init__(self, app: App, token: str | None, names: tuple[str, ...] = ()) -> None:
        """Guard an application.

        Args:
            app: the application.
            token: that viewers need, or None.
            names: that this machine may be called by.
        """
        self._app = app
        self._token = None if token is None else token.encode()
        own = socket.gethostname().lower()
        self._names = {"localhost", own, f"{own}.local", *(name.lower() for name in names)}
        # The cookie is not the token: who sees the one cannot tell the other, and it ends with this process.
        self._cookie = hmac.new(secrets.token_bytes(32), self._token or b"", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if not self._knows(host):
            await _refuse(scope, send, 421, b"this address is not known here\n")
        elif headers.get("origin", f"http://{host}") not in (f"http://{host}", f"https://{host}"):
            await _refuse(scope, send, 403, b"pages of other origins may not look\n")
        elif self._token is None or self._has_cookie(scope, headers):
            await self._app(scope, receive, _with_headers(send))
        elif self._has_token(scope, headers):
            await self._app(scope, receive, _with_headers(send, self._set_cookie(scope, headers)))
        else:
            await _refuse(scope, send, 401, _ASKS, "text/html; charset=utf-8")

    def _knows(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        if not colon or not port.isdecimal():
            name = host
        name = name.lower().rstrip(".")
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return name in self._names
        return True

    def _cookie_name(self, scope: Scope) -> str:
        # Browsers send cookies to every port of a machine.
        return f"hyperline-view-{(scope.get('server') or ('', 0))[1]}"

    def _has_cookie(self, scope: Scope, headers: dict[str, str]) -> bool:
        try:
            given = SimpleCookie(headers.get("cookie", "")).get(self._cookie_name(scope))
        except CookieError:
            return False
        return given is not None and hmac.compare_digest(given.value.encode(), self._cookie.encode())

    def _has_token(self, scope: Scope, headers: dict[str, str]) -> bool:
        assert self._token is not None
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=8).get(_TOKEN, [""])
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        return any(hmac.compare_digest(given.encode("utf-8", "replace"), self._token) for given in (asked[0], bearer))

    def _set_cookie(self, scope: Scope, headers: dict[str, str]) -> tuple[bytes, bytes]:
        secure = "; Secure" if headers.get("origin", "").startswith("https://") else ""
        cookie = f"{self._cookie_name(scope)}={self._cookie}; Path=/; HttpOnly; SameSite=Strict{secure}"
        return b"set-cookie", cookie.encode()


def _with_headers(send: Send, *more: tuple[bytes, bytes]) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *own, *more]}
        await send(message)

    return sent


async def _refuse(scope: Scope, send: Send, status: int, text: bytes, kind: str = "text/plain; charset=utf-8") -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the server answers 403
        return
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(text)).encode())]
    send = _with_headers(send)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text})
