"""Events to an MQTT broker, QoS 1: delivered at least once."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyperline.errors import InputError, require
from hyperline.runtime.links.event import Event
from hyperline.runtime.links.link import Link

_PATIENCE = 5.0  # seconds for the broker to answer


class MqttLink(Link):
    """Publishes one JSON object an event to ``TOPIC/events/CLASS`` and counts it as sent when the broker has it.

    Every connection is a new session with a new client: what the broker did not acknowledge goes back into the
    outbox, under the budget, instead of being sent again by the client behind its back.
    """

    def __init__(
        self,
        host: str,
        port: int,
        topic: str,
        user: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Look for the library.

        Args:
            host: of the broker; with ``tls`` the name or address that its certificate must be for.
            port: of the broker.
            topic: before ``/events/CLASS``.
            user: to log in with, or None.
            password: of the user.
            tls: whom to trust and who we are, or None for a connection in the clear.

        Raises:
            InputError: paho-mqtt is not installed.
        """
        super().__init__(f"{'mqtts' if tls else 'mqtt'}://{host}:{port}/{topic}")
        self._paho = require("paho.mqtt.client", "links")
        self._address = (host, port)
        self._topic = topic
        self._login = (user, password)
        self._tls = tls
        self._client: Any = None
        self._answered = threading.Event()
        self._refusal: str | None = None

    def encode(self, event: Event) -> bytes:
        """Return the PUBLISH packet as MQTT 3.1.1 lays it out (section 3.3), its packet identifier zero."""
        topic, payload = self._message(event)
        body = len(topic).to_bytes(2, "big") + topic + b"\0\0" + payload
        length, rest = b"", len(body)
        while rest > 127:
            length += bytes((rest & 127 | 128,))
            rest >>= 7
        return b"\x32" + length + bytes((rest,)) + body

    def _message(self, event: Event) -> tuple[bytes, bytes]:
        return f"{self._topic}/events/{event.class_id}".encode(), json.dumps(
            event.as_dict(), separators=(",", ":")
        ).encode()

    def open(self) -> None:
        """Connect and wait for the broker's consent."""
        self._answered.clear()
        self._refusal = None
        self._client = self._paho.Client(self._paho.CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.connect_timeout = _PATIENCE
        user, password = self._login
        if user is not None:
            self._client.username_pw_set(user, password)
        if self._tls is not None:
            self._client.tls_set_context(self._tls)
        self._client.connect(*self._address, keepalive=10)
        self._client.loop_start()
        if not self._answered.wait(_PATIENCE):
            raise TimeoutError("the broker took the connection but does not answer")
        if self._refusal:
            raise ConnectionError(f"the broker refuses: {self._refusal}")

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._refusal = str(reason) if reason.is_failure else None
        self._answered.set()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        # By TLS 1.3 a broker that misses our certificate hangs up after the handshake, without an answer.
        if not self._answered.is_set():
            hint = "; it may ask for a certificate: cert=FILE" if self._tls else ""
            self._refusal = f"it closed the connection without an answer{hint}"
            self._answered.set()

    def attend(self) -> None:
        """Find out that the broker is gone before there is something to send."""
        if not self._client.is_connected():
            raise ConnectionError("the broker closed the connection")

    def send(self, events: Sequence[Event]) -> None:
        """Publish all, then wait for all acknowledgements."""
        published = []
        for event in events:
            topic, payload = self._message(event)
            published.append(self._client.publish(topic.decode(), payload, qos=1))
        deadline = time.monotonic() + _PATIENCE
        for message in published:
            while not message.is_published():
                self.attend()
                if time.monotonic() > deadline:
                    raise TimeoutError("the broker does not acknowledge")
                message.wait_for_publish(0.05)

    def close(self) -> None:
        """Disconnect; the client's thread ends."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()


def tls_context(ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Make what a connection by TLS needs; the broker's certificate and name are always checked.

    Args:
        ca: PEM file of the authorities to trust; None for those of the system.
        certificate: PEM file of our own certificate, where the broker asks for one.
        key: PEM file of its private key, without passphrase; None where it stands in ``certificate``.

    Raises:
        InputError: a file cannot be read or is none of its kind, or a key without a certificate.
    """
    if key is not None and certificate is None:
        raise InputError(f"the key {key} belongs to a certificate, and none is given")
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # SSLError is one
        raise InputError(f"{ca} cannot be read as certificates of authorities (PEM): {error}") from error
    if certificate is not None:
        try:
            # Without a password OpenSSL would ask at the terminal.
            context.load_cert_chain(certificate, key, password=b"")
        except (OSError, ValueError) as error:
            files = f"{certificate} and {key}" if key else f"{certificate}"
            raise InputError(
                f"{files} cannot be read as a certificate and its key (PEM, without passphrase): {error}"
            ) from error
    return context
