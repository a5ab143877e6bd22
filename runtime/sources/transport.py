"""How bytes come and go: a TCP connection made or awaited, or a pipe. No wait of theirs outlasts ``close``."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from urllib.parse import urlsplit

from hyperline.errors import InputError

STDIN, STDOUT = 0, 1
_LOOK_UP_S = 0.2  # how often a wait looks whether it was closed
_CONNECT_S = 5.0
_BACKOFF_S = 0.1, 2.0
_LISTEN, _CONNECT = "tcp-listen", "tcp"
SPECS = ("-", "stdin", "tcp://HOST:PORT", "tcp-listen://HOST:PORT")

logger = logging.getLogger(__name__)


class Transport(ABC):
    """A byte stream to one peer at a time.

    Attributes:
        name: for reports.
        chosen: whether we chose the peer; one that we did not choose may be a stranger.
        lasting: whether a peer that went away can come back.
    """

    chosen = True
    lasting = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """End every wait within ``_LOOK_UP_S``, from whatever thread, and for good."""
        self._closed.set()

    def pause(self, seconds: float) -> None:
        """Wait, unless closed."""
        self._closed.wait(seconds)

    @abstractmethod
    def establish(self, deadline: float) -> bool:
        """Wait for a peer until this ``time.monotonic()``; False when there is none or this was closed."""

    @abstractmethod
    def fill(self, view: memoryview, deadline: float = float("inf")) -> int:
        """Read 1 to all of a buffer's bytes; 0 when the peer is gone, the deadline is past or this was closed."""

    @abstractmethod
    def send(self, data: bytes) -> bool:
        """Write all bytes; False when the peer is gone or this was closed."""

    @abstractmethod
    def hang_up(self) -> None:
        """Leave the peer."""

    @abstractmethod
    def release(self) -> None:
        """Give back what the operating system lent. Not while another thread waits."""

    def _ready(self, descriptor: int, event: int, deadline: float) -> bool:
        poll = select.poll()
        poll.register(descriptor, event)
        while not self.closed:
            left = min(_LOOK_UP_S, deadline - time.monotonic())
            if poll.poll(max(left, 0.0) * 1e3):
                return True
            if left <= 0:
                break
        return False


class PipeTransport(Transport):
    """Standard input or output, or any descriptor; it cannot come back."""

    lasting = False

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(name)
        self._descriptor = descriptor
        self._fresh = True

    def establish(self, deadline: float) -> bool:
        """Say whether this is the first time."""
        fresh, self._fresh = self._fresh, False
        return fresh and not self.closed

    def fill(self, view: memoryview, deadline: float = float("inf")) -> int:
        """Read what is there."""
        try:
            if self._ready(self._descriptor, select.POLLIN, deadline):
                return os.readv(self._descriptor, [view])
        except OSError as error:  # standard input was closed before we began
            logger.info("%s: %s", self.name, error)
        return 0

    def send(self, data: bytes) -> bool:
        """Write, as the reader takes it."""
        view = memoryview(data)
        try:
            while len(view) and self._ready(self._descriptor, select.POLLOUT, float("inf")):
                view = view[os.write(self._descriptor, view[: select.PIPE_BUF]) :]
        except OSError as error:  # nobody reads, or the file's disk is full
            logger.info("%s: %s", self.name, error)
        return not len(view)

    def hang_up(self) -> None:
        """The descriptor belongs to the process."""

    def release(self) -> None:
        """The descriptor belongs to the process."""


class _TcpTransport(Transport):
    """What both ends of TCP share. ``_peer`` never blocks; every wait is ``_ready``."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._peer: socket.socket | None = None

    def _meet(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer that lost its power says no goodbye: ask after 5 s of silence, three times, 2 s apart.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        self._peer = peer

    def fill(self, view: memoryview, deadline: float = float("inf")) -> int:
        """Read what is there."""
        peer = self._peer
        try:
            if peer is not None and self._ready(peer.fileno(), select.POLLIN, deadline):
                return peer.recv_into(view)
        except OSError as error:  # reset, timed out, unreachable: gone
            logger.info("%s: %s", self.name, error)
        return 0

    def send(self, data: bytes) -> bool:
        """Write, as the peer takes it."""
        peer, view = self._peer, memoryview(data)
        try:
            while peer is not None and len(view) and self._ready(peer.fileno(), select.POLLOUT, float("inf")):
                view = view[peer.send(view) :]
        except OSError as error:
            logger.info("%s: %s", self.name, error)
        return not len(view)

    def hang_up(self) -> None:
        """Close the connection."""
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    def release(self) -> None:
        """Close the connection."""
        self.hang_up()


class ConnectTransport(_TcpTransport):
    """A TCP connection that we make, again and again until the peer is there."""

    def __init__(self, host: str, port: int) -> None:
        """Resolve the name.

        Raises:
            InputError: nobody knows the host.
        """
        super().__init__(_address(_CONNECT, host, port))
        self._family, self._address = _resolve(host, port, self.name)

    def establish(self, deadline: float) -> bool:
        """Connect, with pauses that double from 0.1 to 2 s between the attempts."""
        backoff, longest = _BACKOFF_S
        while not self.closed:
            peer = socket.socket(self._family, socket.SOCK_STREAM)
            peer.setblocking(False)
            peer.connect_ex(self._address)  # in progress, or refused: SO_ERROR tells
            patience = min(deadline, time.monotonic() + _CONNECT_S)
            answered = self._ready(peer.fileno(), select.POLLOUT, patience)
            if answered and peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and _is_connected(peer):
                self._meet(peer)
                return True
            peer.close()
            if time.monotonic() + backoff > deadline:
                break
            self.pause(backoff)
            backoff = min(2 * backoff, longest)
        return False


class ListenTransport(_TcpTransport):
    """A TCP port at which one peer at a time may call.

    Attributes:
        port: the port; the system's choice where 0 was asked for.
    """

    chosen = False

    def __init__(self, host: str, port: int) -> None:
        """Bind and listen.

        Raises:
            InputError: nobody knows the host, or the port cannot be had.
        """
        super().__init__(_address(_LISTEN, host, port))
        family, address = _resolve(host, port, self.name)
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(address)
            self._listener.listen(1)
        except OSError as error:
            self._listener.close()
            raise InputError(f"cannot listen at {self.name}: {error.strerror}; choose another address") from None
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.name = _address(_LISTEN, host, self.port)

    def establish(self, deadline: float) -> bool:
        """Wait for a caller."""
        while self._ready(self._listener.fileno(), select.POLLIN, deadline):
            try:
                peer, _ = self._listener.accept()
            except OSError:  # gone again
                continue
            self._meet(peer)
            return True
        return False

    def release(self) -> None:
        """Close the connection and the port."""
        self.hang_up()
        self._listener.close()


def is_wire(spec: str) -> bool:
    """Say whether this names a transport and not a scene."""
    return spec in SPECS[:2] or spec.startswith((f"{_CONNECT}:", f"{_LISTEN}:"))


def open_transport(spec: str, pipe: int) -> Transport:
    """Make the transport that a specification names.

    Args:
        spec: one of ``SPECS``; without a host ``tcp-listen`` takes callers from this machine only.
        pipe: the descriptor that ``-`` means.

    Raises:
        InputError: the specification is none of these, or the address cannot be had.
    """
    if spec in SPECS[:2]:
        return PipeTransport(pipe, "stdin" if pipe == STDIN else "stdout")
    scheme, host, port = _split(spec)
    if scheme == _LISTEN and port is not None:
        return ListenTransport(host or "127.0.0.1", port)
    if scheme == _CONNECT and host and port:
        return ConnectTransport(host, port)
    raise InputError(f"{spec!r} is no wire; it must be one of {', '.join(SPECS)}")


def _split(spec: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(spec)
        port = parts.port
    except ValueError:  # a port that is no number, a bracket left open
        return "", "", None
    if parts.path or parts.query or parts.fragment or parts.username:
        return "", "", None
    return parts.scheme, parts.hostname or "", port


def _address(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _resolve(host: str, port: int, name: str) -> tuple[int, tuple[object, ...]]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}; check the host") from None
    return family, address


def _is_connected(peer: socket.socket) -> bool:
    try:
        peer.getpeername()
    except OSError:
        return False
    # A port of our own machine that nobody listens at may connect to itself.
    return bool(peer.getpeername() != peer.getsockname())
