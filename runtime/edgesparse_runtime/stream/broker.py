"""Samples from an MQTT broker, with paho-mqtt (extra `mqtt`)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from edgesparse_runtime.errors import EdgeSparseError, InputError, MissingExtraError
from edgesparse_runtime.stream.backlog import Backlog
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.sources import Line

PASSWORD_VARIABLE = "EDGESPARSE_MQTT_PASSWORD"
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class BrokerAddress:
    """mqtt://[user@]host[:port]/topic[?qos=1]; mqtts:// for TLS. A topic may hold the wildcards + and #."""

    host: str
    port: int
    topic: str
    user: str | None
    qos: int
    tls: bool

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """The parts of an address.

        Raises:
            InputError: it has no host or topic, or holds a password.
        """
        # A # in a topic is a wildcard, not a fragment.
        parts = urlsplit(url.replace("#", "%23"))
        try:
            port = parts.port
        except ValueError:
            raise InputError(f"{url} must name a port from 1 to 65535.") from None
        topic = unquote(parts.path[1:])
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not topic:
            raise InputError(f"A broker must be given as mqtt://HOST[:PORT]/TOPIC; got {url}.")
        if parts.password is not None:
            raise InputError(f"A broker's password must come from {PASSWORD_VARIABLE}, not from the address.")
        qos = parse_qs(parts.query).get("qos", ["0"])[-1]
        if qos not in ("0", "1", "2"):
            raise InputError(f"`qos` must be 0, 1 or 2; got {qos}.")
        tls = parts.scheme == "mqtts"
        user = unquote(parts.username) if parts.username else None
        return cls(parts.hostname, port or (8883 if tls else 1883), topic, user, int(qos), tls)


def read_broker(
    address: BrokerAddress, backlog: Backlog[Line], counts: Counts, note: Callable[[str], None]
) -> Callable[[], None]:
    """Subscribe, and hand on every message as a line in a thread of paho's own.

    The topic a message came on is its machine, unless the message names one. A lost connection is taken up
    again for ever. Messages that find the backlog full are counted and dropped: a broker's client that
    waits loses its connection, and more.

    Returns:
        what ends the connection.

    Raises:
        MissingExtraError: paho-mqtt is not installed.
        EdgeSparseError: no connection within ten seconds, or the broker refuses it.
    """
    try:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError:
        raise MissingExtraError("Reading from an MQTT broker", "paho-mqtt", "mqtt") from None
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    if address.user is not None:
        client.username_pw_set(address.user, os.environ.get(PASSWORD_VARIABLE))
    if address.tls:
        client.tls_set()
    answers: list[str] = []

    def on_connect(client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            answers.append(str(reason))
            return
        if answers:
            counts.reconnects += 1
        answers.append("")
        client.subscribe(address.topic, address.qos)

    def on_disconnect(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure and not backlog.is_closed:
            note(f"the broker's connection is lost ({reason}); trying again")

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        now = time.perf_counter()
        lines = message.payload.decode("utf-8", errors="replace").splitlines()
        counts.dropped += backlog.offer([Line(line, now, message.topic) for line in lines])

    client.on_connect, client.on_disconnect, client.on_message = on_connect, on_disconnect, on_message
    place = f"{address.host}:{address.port}"
    try:
        client.connect(address.host, address.port)
    except OSError as error:
        raise EdgeSparseError(f"{place} must be a broker that answers; {error}. Is it running?") from None
    client.loop_start()
    until = time.monotonic() + _CONNECT_SECONDS
    while not answers and time.monotonic() < until:
        time.sleep(0.01)
    if not answers or answers[0]:
        client.loop_stop()
        raise EdgeSparseError(f"{place} must let us in; {answers[0] if answers else 'it does not answer'}.")

    def stop() -> None:
        client.disconnect()
        client.loop_stop()

    return stop
