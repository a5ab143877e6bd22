"""The web server: five files from memory, one websocket, and limits on everything."""

from __future__ import annotations

import asyncio
import importlib.resources
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperline.errors import HyperlineError, require
from hyperline.runtime.view.guard import Guard
from hyperline.runtime.view.hub import Hub
from hyperline.runtime.view.messages import MOST_BYTES
from hyperline.runtime.view.strip import find_live, open_strip

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn import Server

MOST_VIEWERS = 16
# A page opens six at most, and keeps one.
MOST_CONNECTIONS = 64
# To say what it wants, or it is sent away.
_REQUEST_SECONDS = 10.0

# Path -> file and content type. What is not in this table does not exist: no path of a request reaches a disk.
PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/view.css": ("view.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/view.js": ("view.js", "text/javascript; charset=utf-8"),
    "/connection.js": ("connection.js", "text/javascript; charset=utf-8"),
    "/history.js": ("history.js", "text/javascript; charset=utf-8"),
    "/waterfall.js": ("waterfall.js", "text/javascript; charset=utf-8"),
    "/plots.js": ("plots.js", "text/javascript; charset=utf-8"),
}


def make_app(hub: Hub) -> FastAPI:
    """Return the application, without its guard.

    Raises:
        InputError: FastAPI is not installed.
    """
    fastapi = require("fastapi", "view")
    responses = require("starlette.responses", "view")

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(hub.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app: FastAPI = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=running)
    static = importlib.resources.files("hyperline.runtime.view") / "static"

    def page(content: bytes, kind: str) -> Callable[[Any], Any]:
        async def answer(request: Any) -> Any:
            return responses.Response(content, media_type=kind)

        return answer

    for path, (name, kind) in PAGES.items():
        app.add_route(path, page((static / name).read_bytes(), kind), methods=["GET"])

    async def lines(websocket: Any) -> None:
        await websocket.accept()
        if hub.full:
            await websocket.close(1013)  # after it was accepted, or the page could not say why
            return
        await hub.serve(websocket)

    routing = require("starlette.routing", "view")
    app.router.routes.append(routing.WebSocketRoute("/lines", lines))
    return app


def make_server(
    folder: Path, *, rate: float | None = None, token: str | None = None, names: tuple[str, ...] = ()
) -> Server:
    """Return the server of a run's folder; ``run(sockets=[...])`` serves.

    Args:
        folder: of the run.
        rate: lines a second of a replay; None for the flight's own.
        token: that viewers need; None for none.
        names: that this machine may be called by, beside its own.

    Raises:
        InputError: there is no run, or the extra is not installed.
    """
    uvicorn = require("uvicorn", "view")
    require("websockets", "view")
    hub = Hub(open_strip(folder, rate), lambda: find_live(folder), MOST_VIEWERS)
    config = uvicorn.Config(
        Guard(make_app(hub), token, names),
        http=_limited_protocol(MOST_CONNECTIONS),
        ws="websockets-sansio",
        ws_max_size=4 * MOST_BYTES,
        ws_per_message_deflate=False,  # costs more of the processor than it spares of a network
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
        lifespan="on",
    )
    server: Server = uvicorn.Server(config)
    return server


def listen(host: str, port: int) -> socket.socket:
    """Listen.

    Raises:
        HyperlineError: the address is taken, or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except OSError as error:
        raise HyperlineError(
            f"cannot listen at {host}:{port}: {error.strerror or error}; choose another --port or --host"
        ) from error


def _limited_protocol(most: int) -> type[Any]:
    """Return uvicorn's HTTP protocol with a limit on connections, and on the time that one may be silent.

    uvicorn's own limit answers each connection above it, and lets those that never ask stay for ever.
    """
    base: Any = require("uvicorn.protocols.http.h11_impl", "view").H11Protocol

    class LimitedProtocol(base):  # type: ignore[misc]
        _refused = False
        _silence: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            if len(self.connections) >= most:
                self._refused = True
                transport.abort()
                return
            super().connection_made(transport)
            self._silence = self.loop.call_later(_REQUEST_SECONDS, self._end_silence)

        def _end_silence(self) -> None:
            if self.cycle is None and self.transport.get_protocol() is self:
                self.transport.close()

        def connection_lost(self, error: Exception | None) -> None:
            if self._silence is not None:
                self._silence.cancel()
            if not self._refused:
                super().connection_lost(error)

        def data_received(self, data: bytes) -> None:
            if not self._refused:
                super().data_received(data)

        def eof_received(self) -> None:
            if not self._refused:
                super().eof_received()

    return LimitedProtocol
