"""From what the command line says of a link to the link."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from hyperline.errors import InputError, require
from hyperline.runtime.links.ccsds import PACKET_BYTES, CcsdsLink
from hyperline.runtime.links.jsonl import JsonLinesLink
from hyperline.runtime.links.link import Link
from hyperline.runtime.links.mavlink import MavlinkLink
from hyperline.runtime.links.mqtt import MqttLink, tls_context
from hyperline.runtime.links.outputs import FileOutput, SerialOutput, UdpOutput
from hyperline.runtime.links.prometheus import PORT

FORMS = (
    "jsonl:PATH",
    "mqtt://[USER:PASSWORD@]HOST[:1883]/TOPIC",
    "mqtts://[USER:PASSWORD@]HOST[:8883]/TOPIC[?ca=FILE&cert=FILE&key=FILE]",
    "mavlink+udp://HOST:PORT[?system=1&component=191]",
    "mavlink+serial:///dev/DEVICE[?baud=57600&system=1&component=191]",
    "ccsds:PATH[?apid=100]",
    "ccsds+udp://HOST:PORT[?apid=100]",
    f"prometheus://[HOST][:{PORT}]",
)


def prometheus_address(spec: str) -> tuple[str, int] | None:
    """Return host and port where the spec asks for metrics, else None.

    Raises:
        InputError: malformed.
    """
    parts = _Parts(spec)
    if parts.scheme != "prometheus":
        return None
    host, port = parts.url.hostname or "127.0.0.1", parts.port(PORT)
    parts.end()
    return host, port


def make_link(spec: str) -> Link:
    """Make the link, which imports its library and opens nothing.

    Raises:
        InputError: no such kind of link, a malformed spec, or its library is not installed.
    """
    parts = _Parts(spec)
    makers: dict[str, Callable[[_Parts], Link]] = {
        "jsonl": lambda parts: JsonLinesLink(parts.path()),
        "mqtt": _mqtt,
        "mqtts": _mqtt,
        "mavlink+udp": _mavlink,
        "mavlink+serial": _mavlink,
        "ccsds": _ccsds,
        "ccsds+udp": _ccsds,
    }
    if parts.scheme not in makers:
        raise parts.error("no such kind of link")
    link = makers[parts.scheme](parts)
    parts.end()
    return link


def _mqtt(parts: _Parts) -> Link:
    topic = parts.url.path.strip("/")
    if not topic or set(topic) & set("+#"):
        raise parts.error("it needs a topic, without + and #")
    user, password = parts.url.username, parts.url.password
    secure = parts.scheme == "mqtts"
    host, port = parts.host(), parts.port(8883 if secure else 1883)
    tls = tls_context(*(parts.file(option) for option in ("ca", "cert", "key"))) if secure else None
    return MqttLink(host, port, topic, user and unquote(user), password and unquote(password), tls)


def _mavlink(parts: _Parts) -> Link:
    system, component = parts.number("system", 1, 1, 255), parts.number("component", 191, 1, 255)
    if parts.scheme == "mavlink+udp":
        host, port = parts.host(), parts.port()
        return MavlinkLink(f"mavlink+udp://{host}:{port}", partial(UdpOutput, host, port), system, component)
    require("serial", "links")
    device, baud = str(parts.path()), parts.number("baud", 57600, 1, 10_000_000)
    return MavlinkLink(f"mavlink+serial://{device}", partial(SerialOutput, device, baud), system, component)


def _ccsds(parts: _Parts) -> Link:
    apid = parts.number("apid", 100, 0, 2046)
    if parts.scheme == "ccsds+udp":
        host, port = parts.host(), parts.port()
        return CcsdsLink(f"ccsds+udp://{host}:{port}", partial(UdpOutput, host, port), apid, radio=True)
    path = parts.path()
    if path.is_dir() or not path.parent.is_dir():
        raise parts.error(f"{path} is a folder, or its folder does not exist")
    return CcsdsLink(f"ccsds:{path}", partial(FileOutput, path, PACKET_BYTES), apid, radio=False)


class _Parts:
    """A spec in parts; what was not asked for by ``end`` is an error."""

    def __init__(self, spec: str) -> None:
        try:
            self.url: SplitResult = urlsplit(spec, allow_fragments=False)
            # What is shown must not hold the password.
            self.shown = spec.replace(f":{self.url.password}@", ":***@") if self.url.password else spec
            self._options = dict(parse_qsl(self.url.query, strict_parsing=bool(self.url.query)))
        except ValueError as error:
            raise InputError(f"link {spec!r}: {error}; expected one of: {', '.join(FORMS)}") from None
        self.scheme = self.url.scheme

    def error(self, fault: str) -> InputError:
        return InputError(f"link {self.shown!r}: {fault}; expected one of: {', '.join(FORMS)}")

    def host(self) -> str:
        if not self.url.hostname:
            raise self.error("it names no host")
        return self.url.hostname

    def port(self, default: int | None = None) -> int:
        try:
            port = self.url.port
        except ValueError:
            raise self.error("the port must be a number up to 65535") from None
        if port is None:
            port = default
        if port is None:
            raise self.error("it names no port")
        return port

    def path(self) -> Path:
        if not self.url.path:
            raise self.error("it names no path")
        return Path(unquote(self.url.path))

    def file(self, option: str) -> Path | None:
        """Return the path that an option gives, or None without it."""
        text = self._options.pop(option, None)
        return None if text is None else Path(text)

    def number(self, option: str, default: int, least: int, most: int) -> int:
        text = self._options.pop(option, str(default))
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise self.error(f"{option} must be a whole number from {least} to {most}, not {text!r}")
        return int(text)

    def end(self) -> None:
        if self._options:
            raise self.error(f"it has no option {next(iter(self._options))!r}")
